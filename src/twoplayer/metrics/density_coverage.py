"""Density and coverage: precision and recall that one outlier cannot spoil.

Source: Naeem, Oh, Uh, Choi and Yoo 2020, https://arxiv.org/abs/2002.09797, section 3. Around each real image is a ball
that reaches to its k-th nearest real neighbor. Density is the mean number of balls that a fake lies in, divided by k;
coverage is the share of the balls with a fake in them.

Deviation: the balls are closed, as in the paper's equations; the authors' program leaves out what lies on the border,
and finds density and coverage 0 where all features are equal.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from twoplayer.core.metric import Better, Metric
from twoplayer.core.observed import Observed, View
from twoplayer.core.rng import Stream
from twoplayer.ops.neighbors import centered, distance_blocks, nearest_within, reach


class DensityCoverage(Metric):
    """For equal distributions density is 1 on average, and coverage about 1 - 2^-k with as many fakes as reals.

    Density has no upper bound: it exceeds 1 where fakes keep to where reals are dense. Coverage grows with the number
    of fakes.

    Attributes:
        k: which nearest neighbor the balls reach to.
    """

    name: Literal["density-coverage"] = "density-coverage"
    needs: ClassVar[tuple[View, ...]] = ("features",)
    better: ClassVar[dict[str, Better]] = {"density": "higher", "coverage": "higher"}
    k: int = Field(5, ge=1)

    def measure(self, real: Observed, fake: Observed, stream: Stream) -> dict[str, float]:
        self.require(self.k + 1, real=len(real))
        self.require(1, fake=len(fake))
        reals, fakes = centered(real.see("features"), fake.see("features"))
        around = reach(reals, nearest_within(reals, self.k))
        visits = torch.zeros(len(reals), dtype=torch.int64, device=reals.device)
        for _, squared in distance_blocks(fakes, reals):
            visits += (squared <= around).sum(0)
        return {"density": _density(visits, len(fakes), self.k), "coverage": float((visits > 0).double().mean())}


def _density(visits: Tensor, n_fakes: int, k: int) -> float:
    return int(visits.sum()) / (k * n_fakes)
