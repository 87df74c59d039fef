"""Every figure of the catalogue about one generator, each with its spread, its floor and where it comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from statistics import fmean, pstdev
from typing import Any

import torch
from torch import Tensor

from twoplayer.core.catalogue import components, discover
from twoplayer.core.errors import UserError
from twoplayer.core.observed import Observed, View
from twoplayer.core.protocols import Metric
from twoplayer.core.rng import Stream
from twoplayer.data.images import ImageData
from twoplayer.evaluation.extraction import Fitted, observe_real
from twoplayer.metrics.memorization import memorization
from twoplayer.metrics.modes import class_shares

Figures = dict[str, dict[str, Any]]

SEEN_BY_EXTRACTOR: frozenset[View] = frozenset({"features", "probabilities"})
MEMORIZATION_IMAGES = 2000
"""Fakes, and held-out images, whose nearest training images are looked for."""

MISSING_SHARE = 0.1
"""Of its share among real images: a class with less among the fakes counts as missing."""

discover("twoplayer.metrics")

Draw = Callable[[int, Stream], tuple[Tensor, Tensor | None]]
"""n and a place to pictures uint8 [n, C, H, W] and, of a conditional generator, the labels asked for, int64 [n]."""


@dataclass(frozen=True)
class Pool:
    """Real images as the extractor sees them, and what they are called."""

    data: ImageData
    seen: Observed

    @classmethod
    def of(cls, data: ImageData, extractor: Fitted) -> Pool:
        """All images of a data set, observed once and kept."""
        return cls(data, observe_real(extractor, data))


@dataclass(frozen=True)
class Evaluation:
    """What figures are made of.

    Attributes:
        extractor: images to features.
        real: what fakes are compared with.
        train: what the generator learned from, where that is something else.
        n: fakes, and real images, in each figure; fewer where there are not so many real images.
        seeds: how often each figure is taken with other latents and other real images.
    """

    extractor: Fitted
    real: Pool
    train: Pool | None = None
    n: int = 2000
    seeds: int = 3
    notes: dict[str, Any] = field(default_factory=dict)

    def sizes(self) -> int:
        """How many images of each kind there are in a figure: the floor needs twice as many real ones."""
        spare = len(self.train.data) if self.train else 0
        return min(self.n, len(self.real.data) if spare else len(self.real.data) // 2)

    def real_pair(self, place: Stream) -> tuple[Observed, Observed]:
        """n real images and n others, disjoint: what fakes are compared with, and what the floor is made of."""
        n, pool = self.sizes(), self.real.seen
        order = place.child("halves").permutation(len(pool))
        if self.train is None or 2 * n <= len(pool):
            return pool[order[:n]], pool[order[n : 2 * n]]
        others = place.child("others").permutation(len(self.train.seen))[:n]
        return pool[order[:n]], self.train.seen[others]


def catalogue_figures(draw: Draw, evaluation: Evaluation) -> Figures:
    """The figures of every metric that can look at these images, and the shares of the classes among the fakes."""
    taken: list[dict[str, dict[str, float]]] = []
    shares: list[Tensor] = []
    for seed in range(evaluation.seeds):
        place = Stream(seed).child("evaluate")
        real, other = evaluation.real_pair(place)
        fake = observed_fakes(draw, evaluation, place)
        taken.append(_of_a_seed(real, other, fake, place))
        if fake.probabilities is not None:
            shares.append(class_shares(fake.probabilities))
    figures: Figures = {}
    for metric in _metrics_for(taken[0]):
        figures |= _summed_up(metric, [seed[metric.name] for seed in taken], evaluation)
    return figures


def observed_fakes(draw: Draw, evaluation: Evaluation, place: Stream) -> Observed:
    """n fakes as the extractor sees them."""
    pixels, labels = draw(evaluation.sizes(), place.child("fakes"))
    seen = evaluation.extractor.network.observe(pixels)
    return replace(seen, pixels=pixels, labels=labels)
