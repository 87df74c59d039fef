"""Modes: how many classes the fakes have, and how far their class frequencies are from the real ones.

Source: Metz, Poole, Pfau and Sohl-Dickstein 2017, https://arxiv.org/abs/1611.02163, and Lin, Khetan, Fanti and Oh 2018
(PacGAN), https://arxiv.org/abs/1712.04086: a classifier names the class of each fake; a class that at least one fake is
of is a mode found, and KL(fake || real) is taken between class frequencies. The case of both papers is stacked MNIST,
three digits in the channels of an image, with 1,000 classes.

Deviation: the real frequencies are those of the real images by the same classifier, not 1/1,000 each.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from twoplayer.core.metric import Better, SummedMetric
from twoplayer.core.observed import Measurement, Observed, View
from twoplayer.core.rng import Stream
from twoplayer.metrics.distances import kullback_leibler


class Modes(SummedMetric):
    """Classes found, 1 to K, and the KL in nats, 0 for equal frequencies.

    Few fakes find few modes, and raise the KL by about K / (2 N): figures at different N do not compare. The KL is
    infinite when a fake is of a class that no real image is of; with K classes, many times K real images prevent that.
    """

    name: Literal["modes"] = "modes"
    needs: ClassVar[tuple[View, ...]] = ("probabilities",)
    better: ClassVar[dict[str, Better]] = {"modes": "higher", "modes-kl": "lower"}
    of_classes: ClassVar[bool] = True

    def start(self) -> Measurement:
        return _Counts(self)


class _Counts(Measurement):
    def __init__(self, metric: Modes) -> None:
        self.metric = metric
        self.sets: dict[bool, Tensor] = {}

    def update(self, images: Observed, *, real: bool) -> None:
        if len(images):
            seen = class_counts(images.see("probabilities"))
            self.sets[real] = self.sets[real] + seen if real in self.sets else seen

    def compute(self, stream: Stream) -> dict[str, float]:
        totals = {real: int(self.sets[real].sum()) if real in self.sets else 0 for real in (True, False)}
        self.metric.require(1, real=totals[True], fake=totals[False])
        modes, divergence = modes_and_divergence(self.sets[False], self.sets[True])
        return {"modes": float(modes), "modes-kl": divergence}


def modes_and_divergence(of_fake: Tensor, of_real: Tensor) -> tuple[int, float]:
    """How many modes fakes have, and KL(fake || real) of the shares of the modes, in nats.

    Args:
        of_fake: how many fakes, or which share of them, each mode has: [K], not all 0.
        of_real: the same of the reals.
    """
    shares = [(counts.double() / counts.sum()).cpu().numpy() for counts in (of_fake, of_real)]
    return int((of_fake > 0).sum()), kullback_leibler(*shares)


def class_shares(probabilities: Tensor) -> Tensor:
    """The share of the images that each class gets, by the most probable class of probabilities [N, K]: float64 [K]."""
    return class_counts(probabilities) / len(probabilities)


def class_counts(probabilities: Tensor) -> Tensor:
    """How many images each class gets, by the most probable class of probabilities [N, K]: float64 [K]."""
    return torch.bincount(probabilities.argmax(1), minlength=probabilities.shape[1]).double()
