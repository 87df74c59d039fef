"""Distances between many points, without a matrix of all of them in memory, and nearest neighbors.

|y - x|^2 = |y|^2 + |x|^2 - 2 <y, x> is a matrix product, ten times as fast as taking differences, and exact to rounding
of the lengths: two equal points may come out a little apart. What is smaller than `DUST` times the lengths is therefore
taken as 0, so that duplicates, constant features and distances that are equal by construction are seen as such.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK = 2**21
"""Distances in memory at once: 16 MiB."""

DUST = 1e-12
"""Rounding of a squared distance, in units of the squared lengths; float64 with thousands of dimensions stays below."""


def centered(*sets: Tensor) -> list[Tensor]:
    """The sets [N, F], [M, F], ... in float64, all moved by what brings the first one's mean to 0: less rounding."""
    center = sets[0].double().mean(0)
    return [points.double() - center for points in sets]


def distance_blocks(points: Tensor, others: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Squared Euclidean distances between points [N, F] and others [M, F], float64, a block of points at a time.

    Yields:
        Which points, and their squared distances [B, M] to all others.
    """
    lengths = others.square().sum(1)
    for rows in _blocks(len(points), max(1, BLOCK // len(others))):
        block = points[rows]
        squared = torch.addmm(lengths, block, others.T, alpha=-2.0)
        yield rows, squared.add_(block.square().sum(1, keepdim=True)).clamp_min_(0.0)


def nearest(points: Tensor, others: Tensor) -> Tensor:
    """Squared distance of each point [N, F] to the nearest of others [M, F], float64 [N]."""
    found = [squared.amin(1) for _, squared in distance_blocks(points, others)]
    return _without_dust(torch.cat(found), points)


def nearest_within(points: Tensor, k: int = 1) -> Tensor:
    """Squared distance of each of more than k points [N, F] to its k-th nearest other point, float64 [N]."""
    assert len(points) > k, f"{len(points)} points have no {k} neighbors each"
    found = []
    for rows, squared in distance_blocks(points, points):
        squared[:, rows].fill_diagonal_(torch.inf)  # no point is its own neighbor
        found.append(squared.topk(k, largest=False).values[:, -1])
    return _without_dust(torch.cat(found), points)


def reach(points: Tensor, squared_radii: Tensor) -> Tensor:
    """Up to which squared distance something lies in the closed ball around each point [N, F], rounding allowed for."""
    return squared_radii + DUST * (squared_radii + points.square().sum(1))


def _without_dust(squared: Tensor, points: Tensor) -> Tensor:
    return squared.where(squared > DUST * points.square().sum(1), 0.0)


def _blocks(n: int, size: int) -> Iterator[slice]:
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))
