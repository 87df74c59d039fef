"""Kernel distance between two sets of features, the formula of KID.

Source: Binkowski, Sutherland, Arbel and Gretton 2018, https://arxiv.org/abs/1801.01401: the unbiased estimate of the
squared maximum mean discrepancy (Gretton et al. 2012, lemma 6) with the kernel k(x, y) = (<x, y> / d + 1)^3, averaged
over random subsets.

KID is this on features of one Inception network; with other features it is another figure, and is named so.
"""

from __future__ import annotations

from statistics import fmean, pstdev
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from twoplayer.core.metric import Better, Metric
from twoplayer.core.observed import Observed, View, drawn
from twoplayer.core.rng import Stream


class KernelDistance(Metric):
    """Squared maximum mean discrepancy: 0 on average for equal distributions at any number of images, so also below 0.

    Attributes:
        subsets: how many; the deviation is the population's over them, 0 where there is one subset only.
        subset_size: images of either set in a subset, drawn without replacement; a smaller set cuts it. Where both
            sets have just that many there is one subset, everything.
    """

    name: Literal["kernel-distance"] = "kernel-distance"
    needs: ClassVar[tuple[View, ...]] = ("features",)
    better: ClassVar[dict[str, Better]] = {"kid": "lower"}
    deviations: ClassVar[dict[str, str]] = {"kid-deviation": "kid"}
    subsets: int = Field(100, ge=1)
    subset_size: int = Field(1000, ge=2)

    def measure(self, real: Observed, fake: Observed, stream: Stream) -> dict[str, float]:
        self.require(2, real=len(real), fake=len(fake))
        size = min(self.subset_size, len(real), len(fake))
        subsets = 1 if size == len(real) == len(fake) else self.subsets
        reals, fakes = (images.see("features").double() for images in (real, fake))
        values = []
        for subset in range(subsets):
            places = [stream.child("subset", subset, name) for name in ("real", "fake")]
            values.append(discrepancy(drawn(reals, size, places[0]), drawn(fakes, size, places[1])))
        return {"kid": fmean(values), "kid-deviation": pstdev(values)}


# Gretton et al. 2012, A kernel two-sample test, lemma 6: the two sums over pairs of one set leave out equal indices.
def discrepancy(x: Tensor, y: Tensor) -> float:
    """Unbiased estimate of the squared maximum mean discrepancy of x [N, F] and y [M, F], float64."""
    return float(_mean_of_pairs(x) + _mean_of_pairs(y) - 2.0 * kernel(x, y).mean())


def kernel(x: Tensor, y: Tensor) -> Tensor:
    """(<x, y> / F + 1)^3 of all pairs, [N, M]."""
    base = (x @ y.T).div_(x.shape[1]).add_(1.0)
    return base.square().mul_(base)


def _mean_of_pairs(x: Tensor) -> Tensor:
    values, n = kernel(x, x), len(x)
    return (values.sum() - values.trace()) / (n * (n - 1))
