"""What the unlabeled images are worth: digits-semi-supervised against a support vector machine on the same labels.

python benchmarks/few_labels.py [SEEDS ...]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from sklearn.svm import SVC

import twoplayer as tp
from twoplayer.core.rng import Stream
from twoplayer.data.batches import labeled_subset
from twoplayer.data.images import ImageData
from twoplayer.evaluation.classifier import classification_errors
from twoplayer.loading import held_out_data, load_data

RECIPE = "digits-semi-supervised"


def main() -> None:
    for seed in map(int, sys.argv[1:] or ("0", "1", "2")):
        with tempfile.TemporaryDirectory() as folder:
            run = tp.train(RECIPE, seed=seed, out=Path(folder) / "run", quiet=True)
            train, test = load_data(run.recipe.data), held_out_data(run.recipe.data)
            assert test is not None
            assert run.recipe.data.labeled_per_class is not None
            places = Stream(seed).child("data").child("labeled")
            few = labeled_subset(train, run.recipe.data.labeled_per_class, places)
            assert train.labels is not None
            known = ImageData(train.images[few], train.source, train.split, train.labels[few], train.class_names)
            seconds = float(run.metrics[-1]["seconds"] or 0)
            wrong = classification_errors(run.classifier, test)
        print(f"seed {seed}: {wrong} errors of {len(test)} in {seconds:.0f} s; linear SVM {svm_errors(known, test)}")


def svm_errors(known: ImageData, test: ImageData) -> int:
    """Test errors of a linear support vector machine that sees only the labeled images."""
    machine = SVC(kernel="linear").fit(pixels(known), known.labels)
    return int((machine.predict(pixels(test)) != test.labels.numpy()).sum()) if test.labels is not None else 0


def pixels(data: ImageData) -> object:
    """[N, pixels] in [0, 1]."""
    return data.images.flatten(1).float().div(255.0).numpy()


if __name__ == "__main__":
    main()
