"""GAN-train: how well a classifier that has seen only fakes names real images.

Source: Shmelkov, Schmid and Alahari 2018, How good is my GAN?, https://arxiv.org/abs/1807.09499. The floor is the same
classifier trained on as many real images: what perfect fakes would get. GAN-test is the metric `class-agreement`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from twoplayer.core.errors import UserError
from twoplayer.core.extractor import Images
from twoplayer.core.protocols import Given
from twoplayer.core.rng import Stream
from twoplayer.data.images import ImageData
from twoplayer.evaluation.figures import Draw, Evaluation, over_seeds
from twoplayer.extractors.cnn import ClassifierCnn, accuracy_of

CLASSIFIER = ClassifierCnn(thousand_images=20.0, least_accuracy=0.0)
"""Shown 20,000 images, so that it takes seconds; the same for fakes and reals."""


def require_gan_train(takes: tuple[Given, ...], train: ImageData | None) -> None:
    """Raise UserError unless the generator is told labels and there are labeled images that it did not learn from."""
    if "labels" not in takes:
        raise UserError("GAN-train is about conditional runs: this generator takes no label")
    if train is None or train.labels is None:
        raise UserError("GAN-train needs labeled images that the run did not see: data.split=train on data with splits")


def gan_train_figure(draw: Draw, evaluation: Evaluation) -> dict[str, Any]:
    """The accuracy, on all held-out real images, of a classifier trained on labeled fakes; floor: on real ones.

    Args:
        draw: of a conditional generator.
        evaluation: whose `size` says how many images the classifier learns from.
    """
    assert evaluation.train is not None, "see require_gan_train"
    train, held_out = evaluation.train.data, evaluation.real.data
    size = min(evaluation.size, len(train))
    values, floors = [], []
    for seed in range(evaluation.seeds):
        place = Stream(seed).child("evaluate", "gan-train")
        fakes = draw(size, place.child("fakes"), seen=False)
        values.append(_accuracy(fakes.see("pixels"), fakes.see("labels"), held_out, place))
        some = train.chosen(place.child("reals").permutation(len(train))[:size])
        assert some.labels is not None
        floors.append(_accuracy(some.images, some.labels, held_out, place))
    figure = over_seeds(values, floors) | {"better": "higher", "metric": CLASSIFIER.model_dump(mode="json")}
    return figure | evaluation.facts | {"n_real": len(held_out), "n_fake": size, "floor_split": train.split}


def _accuracy(pixels: Tensor, labels: Tensor, held_out: ImageData, place: Stream) -> float:
    """Of a classifier trained on the first, on the last."""
    classes = len(held_out.class_names)
    network = CLASSIFIER.build(held_out.shape, classes)
    tested = Images(held_out.images, held_out.labels, classes)
    with torch.random.fork_rng(devices=[]):
        place.seed_torch()
        CLASSIFIER.fit(network, Images(pixels, labels, classes), tested, place)
    return accuracy_of(network, tested)
