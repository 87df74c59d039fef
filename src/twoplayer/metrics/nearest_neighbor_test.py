"""Nearest-neighbor two-sample test: can fakes be told from real images by the company they keep?

Source: Lopez-Paz and Oquab 2017, https://arxiv.org/abs/1610.06545; Xu et al. 2018, https://arxiv.org/abs/1806.07755:
among all images, as many fakes as reals, each is said to be what its nearest neighbor is. The accuracy is 1/2 where
both sets are of one distribution, near 1 where they are apart, and near 0 where each fake is a copy of a real image. On
reals alone and on fakes alone it tells why: a low one on reals beside a high one on fakes is a mode collapse.

Two neighbors that are equally near, one of either set, count half.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from twoplayer.core.metric import Better, Metric
from twoplayer.core.observed import Observed, View, drawn
from twoplayer.core.rng import Stream
from twoplayer.ops.neighbors import centered, nearest, nearest_within


class NearestNeighborTest(Metric):
    """Accuracy of the leave-one-out 1-nearest-neighbor classifier: on everything, on the reals, on the fakes.

    The larger set is cut, at random, to the size of the smaller.
    """

    name: Literal["nearest-neighbor-test"] = "nearest-neighbor-test"
    needs: ClassVar[tuple[View, ...]] = ("features",)
    better: ClassVar[dict[str, Better]] = {
        "nearest-neighbor": "half",
        "nearest-neighbor-real": "half",
        "nearest-neighbor-fake": "half",
    }

    def measure(self, real: Observed, fake: Observed, stream: Stream) -> dict[str, float]:
        self.require(2, real=len(real), fake=len(fake))
        n, place = min(len(real), len(fake)), stream.child("cut")
        reals, fakes = centered(*(drawn(images.see("features"), n, place) for images in (real, fake)))
        on_real, on_fake = recognized(reals, fakes), recognized(fakes, reals)
        return {
            "nearest-neighbor": (on_real + on_fake) / 2.0,
            "nearest-neighbor-real": on_real,
            "nearest-neighbor-fake": on_fake,
        }


def recognized(own: Tensor, others: Tensor) -> float:
    """Share of points [N, F] that have their nearest neighbor among themselves, not among others [M, F]; float64."""
    at_home, abroad = nearest_within(own), nearest(own, others)
    tied = torch.isclose(at_home, abroad, rtol=1e-9, atol=0.0)
    return float(torch.where(tied, 0.5, (at_home < abroad).double()).mean())
