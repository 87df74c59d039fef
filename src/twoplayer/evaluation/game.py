"""Figures about the game itself: losses and scores on fresh samples, and the errors of a D that names classes."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import Any

from torch import nn

from twoplayer.core.protocols import Supervised
from twoplayer.core.rng import Stream
from twoplayer.data.batches import Batches
from twoplayer.data.images import ImageData
from twoplayer.evaluation.classifier import classification_errors
from twoplayer.evaluation.fresh_losses import Judged, fresh_losses

Figures = dict[str, dict[str, Any]]
"""By name, what is known about each figure."""


@dataclass(frozen=True)
class Real:
    """What a run is compared with.

    Attributes:
        data: the images.
        batches: the same images, as batches.
        n: real images and fakes per figure; fewer where there are fewer.
        seeds: how often each random figure is taken anew.
    """

    data: ImageData
    batches: Batches
    n: int
    seeds: int

    @property
    def facts(self) -> dict[str, Any]:
        """Where a figure's real images come from."""
        return {"data": self.data.name, "split": self.data.split, "image_shape": list(self.data.shape)}


def game_figures(game: Judged, real: Real) -> Figures:
    """Losses and scores on fresh samples, and the errors of a discriminator that names classes."""
    passes = [fresh_losses(game, real.batches, real.n, _place(seed)) for seed in range(real.seeds)]
    figures: Figures = {"test-pass": _over_seeds(passes) | {"n_real": real.n, "n_fake": real.n} | real.facts}
    if isinstance(game.objective, Supervised):
        figures["classifier"] = classifier_figures(game.discriminator, real.data) | real.facts
    return figures


def classifier_figures(classifier: nn.Module, data: ImageData) -> dict[str, Any]:
    """Errors of a discriminator that names classes, on all images of labeled data."""
    wrong = classification_errors(classifier, data)
    return {"errors": wrong, "n_real": len(data), "error": wrong / len(data)}


def _place(seed: int) -> Stream:
    return Stream(seed).child("evaluate")


def _over_seeds(results: list[dict[str, float]]) -> dict[str, Any]:
    means = {name: fmean(result[name] for result in results) for name in results[0]}
    spreads = {name: pstdev(result[name] for result in results) for name in results[0]}
    return {"means": means, "spreads": spreads, "seeds": len(results)}
