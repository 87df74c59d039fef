"""Frechet distance between two sets of features, the formula of FID.

Source: Heusel, Ramsauer, Unterthiner, Nessler and Hochreiter 2017, https://arxiv.org/abs/1706.08500:
|m - w|^2 + Tr(C + S - 2 (C S)^(1/2)) for means m, w and covariances C, S. With C = A A^T and S = B B^T the trace of
(C S)^(1/2) is the sum of the singular values of A^T B: no general matrix root, and no loss of half the digits where
covariances are singular.

FID is this on features of one Inception network; with other features it is another figure, and is named so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from twoplayer.core.metric import Better, SummedMetric
from twoplayer.core.observed import Measurement, Observed, View
from twoplayer.core.rng import Stream


class FrechetDistance(SummedMetric):
    """Squared distance between the normal distributions with the means and covariances of the two sets.

    It is biased upwards: by d (d + 5) / (2 N), to first order, for two sets of N from one normal distribution with
    covariance 1 in d dimensions. Figures at different N do not compare.
    """

    name: Literal["frechet"] = "frechet"
    needs: ClassVar[tuple[View, ...]] = ("features",)
    better: ClassVar[dict[str, Better]] = {"fid": "lower"}

    def start(self) -> Measurement:
        return _Moments(self)


class _Moments(Measurement):
    def __init__(self, metric: FrechetDistance) -> None:
        self.metric = metric
        self.sets: dict[bool, Moments] = {}

    def update(self, images: Observed, *, real: bool) -> None:
        if len(images):
            seen = Moments.of(images.see("features"))
            self.sets[real] = self.sets[real].merged(seen) if real in self.sets else seen

    def compute(self, stream: Stream) -> dict[str, float]:
        counts = {real: self.sets[real].n if real in self.sets else 0 for real in (True, False)}
        self.metric.require(2, real=counts[True], fake=counts[False])
        return {"fid": frechet_distance(self.sets[True], self.sets[False])}


@dataclass(frozen=True)
class Moments:
    """Mean and scatter of rows, float64.

    Attributes:
        n: how many rows.
        mean: [F].
        scatter: sum of outer products of the centered rows, [F, F].
    """

    n: int
    mean: Tensor
    scatter: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> Self:
        """Of rows [N, F]."""
        rows = rows.double()
        mean = rows.mean(0)
        centered = rows - mean
        return cls(len(rows), mean, centered.T @ centered)

    # Chan, Golub and LeVeque 1979, Updating formulae and a pairwise algorithm for computing sample variances, (2.1).
    def merged(self, other: Self) -> Self:
        """Of both sets of rows together."""
        n = self.n + other.n
        apart = other.mean - self.mean
        scatter = self.scatter + other.scatter + torch.outer(apart, apart) * (self.n * other.n / n)
        return type(self)(n, self.mean + apart * (other.n / n), scatter)

    @property
    def covariance(self) -> Tensor:
        """The unbiased one, [F, F]."""
        return self.scatter / (self.n - 1)


def frechet_distance(one: Moments, other: Moments) -> float:
    """|m - w|^2 + Tr C + Tr S - 2 Tr (C S)^(1/2), at least 0."""
    covariances = one.covariance, other.covariance
    roots = [_root(covariance) for covariance in covariances]
    overlap = torch.linalg.svdvals(roots[0].T @ roots[1]).sum()
    gap = (one.mean - other.mean).square().sum()
    return max(float(gap + covariances[0].trace() + covariances[1].trace() - 2.0 * overlap), 0.0)


def _root(covariance: Tensor) -> Tensor:
    """Some A with A A^T = covariance, [F, F]."""
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = vectors * values.clamp_min(0.0).sqrt()
    return root
