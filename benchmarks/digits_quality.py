"""Seconds and class shares of the recipe `digits` over seeds: the figures in its header.

    python benchmarks/digits_quality.py [SEEDS ...]

Each seed is trained by the command line in a process of its own. A support vector classifier that was trained on the
real digits labels 1,000 samples; its held-out accuracy is printed first.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from sklearn.svm import SVC

import twoplayer as tp
from twoplayer.data.digits import DigitsSource
from twoplayer.data.form import Form

SAMPLES = 1000


def classifier() -> SVC:
    """An RBF support vector classifier on pixels in [0, 1], fitted on the train split and then on everything."""
    parts = {split: DigitsSource().load(split, Form()) for split in ("train", "test", "all")}
    flat = {split: data.images.flatten(1).numpy() / 255.0 for split, data in parts.items()}
    labels = {split: data.labels.numpy() for split, data in parts.items() if data.labels is not None}
    held_out = SVC(C=10.0).fit(flat["train"], labels["train"]).score(flat["test"], labels["test"])
    print(f"classifier: held-out accuracy {held_out:.1%}")
    return SVC(C=10.0).fit(flat["all"], labels["all"])


def seconds_to_first_grid(run: Path, begun: float) -> float:
    """From the start of the command to the first grid on disk."""
    return min(path.stat().st_mtime for path in (run / "samples").glob("*.png")) - begun


def main() -> None:
    judge = classifier()
    for seed in sys.argv[1:] or ["0", "1", "2"]:
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / "run"
            begun = time.time()
            command = [
                sys.executable,
                "-m",
                "twoplayer",
                "train",
                "digits",
                "--seed",
                seed,
                "--out",
                str(run),
                "--quiet",
            ]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            total = time.time() - begun
            first = seconds_to_first_grid(run, begun)
            samples = tp.load(run).sample(SAMPLES, seed=1)
            shares = np.bincount(judge.predict(samples.flatten(1).numpy() / 255.0), minlength=10) / SAMPLES
            figures = " ".join(f"{share:.1%}" for share in shares)
            print(
                f"seed {seed}: {total:.0f} s, first grid {first:.1f} s, smallest class {shares.min():.1%} ({figures})"
            )
            tp.load(run).grid(100, seed=1).save(f"digits-quality-{seed}.png")


if __name__ == "__main__":
    main()
