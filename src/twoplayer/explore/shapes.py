"""The data of the games in the plane: the benchmark's ring and grid, two moons, and two parallel lines.

A point is an image of two channels and one pixel, within [-1, 1], as in `bench/points.py`. Ring and grid have the
centers of the benchmark and wider clouds around them, so that a cloud is more than a dot.

Sources: two moons, scikit-learn's `make_moons` (Pedregosa et al. 2011): half a unit circle, and another one upside down
and moved by (1, 1/2). Parallel lines: Arjovsky, Chintala and Bottou 2017, https://arxiv.org/abs/1701.07875, example 1:
the real line lies at 0, and G, whose only parameter is theta, draws the same line at theta (`docs/distances.md`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from twoplayer.bench.points import GRID, OUTERMOST, RING, Points
from twoplayer.core.protocols import GeneratorNetwork, ImageShape
from twoplayer.core.rng import Stream

IMAGE_SHAPE: ImageShape = (2, 1, 1)
MOON_DEVIATION = 0.05
"""Of the moons' points in each coordinate, in units of their radius."""


@dataclass(frozen=True)
class Shape:
    """Points without known centers.

    Attributes:
        points: draws n of them, [n, 2].
        generator: that has to be played with on this data, instead of the recipe's.
    """

    points: Callable[[int, Stream], Tensor]
    generator: GeneratorNetwork | None = None

    def draw(self, n: int, stream: Stream) -> Tensor:
        """n real points as images, float32 [n, 2, 1, 1]."""
        return self.points(n, stream)[:, :, None, None]


def moons(n: int, stream: Stream) -> Tensor:
    """n points of two moons, float32 [n, 2]."""
    angle = math.pi * stream.child("angle").uniform((n,))
    lower = stream.child("moon").uniform((n,)) < 0.5
    x = torch.where(lower, 1.0 - angle.cos(), angle.cos())
    y = torch.where(lower, 0.5 - angle.sin(), angle.sin())
    points = torch.stack([x - 0.5, y - 0.25], 1) + MOON_DEVIATION * stream.child("offset").normal((n, 2))
    return OUTERMOST / 1.5 * points


def line(n: int, stream: Stream) -> Tensor:
    """n points of the vertical line at 0, float32 [n, 2]."""
    height = stream.child("height").uniform((n,), -OUTERMOST, OUTERMOST)
    return torch.stack([torch.zeros(n), height], 1)


class LineGenerator(GeneratorNetwork):
    """Draws the line at theta: (theta, height times z). Its name has no default: it is no piece that a recipe may say.

    Attributes:
        theta: where it begins.
    """

    name: Literal["line"]
    theta: float = 0.6

    def build(self, latent_dim: int, image_shape: ImageShape, num_classes: int) -> nn.Module:
        assert image_shape == IMAGE_SHAPE, "a line lies in the plane"
        return _Line(self.theta)


class _Line(nn.Module):
    def __init__(self, theta: float) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta))

    def forward(self, latents: Tensor) -> Tensor:
        """[N, 1] in [-1, 1] -> [N, 2, 1, 1]."""
        points = torch.stack([self.theta.expand(len(latents)), OUTERMOST * latents[:, 0]], 1)
        return points[:, :, None, None]


SHAPES: dict[str, Points | Shape] = {
    "ring": replace(RING, deviation=0.04),
    "grid": replace(GRID, deviation=0.15),
    "two-moons": Shape(moons),
    "parallel-lines": Shape(line, LineGenerator(name="line")),
}
