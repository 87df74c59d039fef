"""Points in the plane around known centers: a ring of 8 Gaussians and a grid of 25.

Source: Srivastava et al. 2017 (VEEGAN), https://arxiv.org/abs/1705.07761, section 4.1, with the numbers of Lin et al.
2018 (PacGAN), https://arxiv.org/abs/1712.04086, and its code: centers on the unit circle with standard deviation 0.01;
on {-4, -2, 0, 2, 4}^2 with 0.05. Of 2,500 fakes one is of high quality when it lies within 3 standard deviations of a
center, and a center is found when a fake of high quality lies nearest to it.

A point is an image of two channels and one pixel. Generators end in tanh, so the plane is scaled until the outermost
centers lie at 0.8. The figures do not depend on the scale.

Deviations: PacGAN's set is 100,000 points, seen again and again; here every point is fresh, and 100,000 are a pass.
KL(fake || uniform) is between the shares of the centers among the fakes of high quality; PacGAN takes the
Jensen-Shannon divergence on these data and KL on stacked MNIST.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from twoplayer.bench.known_modes import NOTHING_FOUND, Figures, KnownModes
from twoplayer.core.batch import Batch, BatchSupply
from twoplayer.core.modes import mode
from twoplayer.core.protocols import ImageShape, Latents
from twoplayer.core.rng import Stream
from twoplayer.metrics.modes import modes_and_divergence
from twoplayer.recipes.schema import Recipe

OUTERMOST = 0.8
"""The largest coordinate of a center, as the players see it."""

NEAR = 3.0
"""Standard deviations from its center within which a fake is of high quality."""

POINTS_PER_PASS = 100_000


@dataclass(frozen=True)
class Points(KnownModes):
    """Equally many points around each center.

    Attributes:
        name: as on the command line.
        places: the centers.
        deviation: standard deviation in each coordinate.
    """

    settings: ClassVar[str] = "points.yaml"
    num_fakes: ClassVar[int] = 2500
    image_shape: ClassVar[ImageShape] = (2, 1, 1)

    name: str
    places: tuple[tuple[float, float], ...]
    deviation: float

    @property
    def num_modes(self) -> int:
        return len(self.places)

    @cached_property
    def centers(self) -> Tensor:
        """[K, 2], float64, in the units of the source."""
        return torch.tensor(self.places, dtype=torch.float64)

    @property
    def scale(self) -> float:
        """From the units of the source to those of the players."""
        return OUTERMOST / float(self.centers.abs().max())

    def draw(self, n: int, stream: Stream) -> Tensor:
        """n real points as images, float32 [n, 2, 1, 1]."""
        chosen = (stream.child("center").uniform((n,)) * self.num_modes).long()
        points = self.centers[chosen] + self.deviation * stream.child("offset").normal((n, 2), like=self.centers)
        return (self.scale * points).float()[:, :, None, None]

    def count(self, points: Tensor) -> Tensor:
        """How many points [N, 2, 1, 1] of high quality lie nearest to each center: float64 [K]."""
        gaps = torch.cdist(points.detach().cpu().flatten(1).double() / self.scale, self.centers)
        distance, nearest = gaps.min(1)
        return torch.bincount(nearest[distance <= NEAR * self.deviation], minlength=self.num_modes).double()

    def figures(self, points: Tensor) -> Figures:
        """The figures of points [N, 2, 1, 1]."""
        counts = self.count(points)
        if not counts.sum():
            return NOTHING_FOUND
        modes, divergence = modes_and_divergence(counts, torch.ones_like(counts))
        return {"modes": float(modes), "high_quality": float(counts.sum()) / len(points), "kl": divergence}

    def batches(self, recipe: Recipe, device: torch.device) -> BatchSupply:
        return PointBatches(self, recipe.batch_size, Stream(recipe.seed).child("data"), device)

    def judge(self, generator: nn.Module, latents: Latents, stream: Stream) -> Figures:
        return self.figures(draw_fakes(generator, latents, self.num_fakes, stream))

    def floor(self, stream: Stream) -> Figures:
        return self.figures(self.draw(self.num_fakes, stream))


class Drawn(Protocol):
    """Where points come from."""

    def draw(self, n: int, stream: Stream) -> Tensor:
        """n real points as images, float32 [n, 2, 1, 1]."""


class PointBatches:
    """Batches of fresh points. Implements `BatchSupply`.

    Args:
        data: what they are drawn from.
        batch_size: points per batch.
        stream: where they are drawn.
        device: where batches appear.
    """

    def __init__(self, data: Drawn, batch_size: int, stream: Stream, device: torch.device) -> None:
        self.data = data
        self.batch_size = batch_size
        self.per_epoch = max(POINTS_PER_PASS // batch_size, 1)
        self.stream = stream
        self.device = device

    def __getitem__(self, number: int) -> Batch:
        return self.some(self.batch_size, self.stream.child(number))

    def some(self, n: int, stream: Stream) -> Batch:
        return Batch(self.data.draw(n, stream).to(self.device))


@torch.no_grad()
def draw_fakes(generator: nn.Module, latents: Latents, n: int, stream: Stream) -> Tensor:
    """n fakes in evaluation mode, as floats: the bytes of `runs/sampling.py` are too coarse for these points."""
    with mode(generator, training=False):
        fakes: Tensor = generator(latents.draw(n, stream, next(generator.parameters())))
    return fakes


LINE = (-4.0, -2.0, 0.0, 2.0, 4.0)

RING = Points("ring", tuple((math.cos(k * math.pi / 4), math.sin(k * math.pi / 4)) for k in range(8)), 0.01)
GRID = Points("grid", tuple((x, y) for x in LINE for y in LINE), 0.05)
