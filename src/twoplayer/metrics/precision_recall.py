"""Improved precision and recall: how many fakes are plausible, and how much of the real variety there is.

Source: Kynkaanniemi, Karras, Laine, Lehtinen and Aila 2019, https://arxiv.org/abs/1904.06991, section 2: a set's
manifold is the union of the closed balls around its points that reach to their k-th nearest neighbors in the set.
Precision is the share of the fakes in the manifold of the reals, recall the share of the reals in that of the fakes.
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


class PrecisionRecall(Metric):
    """Both in [0, 1]. One outlier with a wide ball can raise them; `density-coverage` counts balls instead.

    Attributes:
        k: which nearest neighbor the balls reach to.
    """

    name: Literal["precision-recall"] = "precision-recall"
    needs: ClassVar[tuple[View, ...]] = ("features",)
    better: ClassVar[dict[str, Better]] = {"precision": "higher", "recall": "higher"}
    k: int = Field(3, ge=1)

    def measure(self, real: Observed, fake: Observed, stream: Stream) -> dict[str, float]:
        self.require(self.k + 1, real=len(real), fake=len(fake))
        reals, fakes = centered(real.see("features"), fake.see("features"))
        precision, recall = manifold_shares(reals, fakes, self.k)
        return {"precision": precision, "recall": recall}


def manifold_shares(reals: Tensor, fakes: Tensor, k: int) -> tuple[float, float]:
    """Share of fakes [M, F] in the manifold of reals [N, F], and of reals in that of the fakes; float64."""
    around_reals, around_fakes = (reach(points, nearest_within(points, k)) for points in (reals, fakes))
    plausible = torch.zeros(len(fakes), dtype=torch.bool, device=fakes.device)
    found = torch.zeros(len(reals), dtype=torch.bool, device=reals.device)
    for rows, squared in distance_blocks(fakes, reals):
        plausible[rows] = (squared <= around_reals).any(1)
        found |= (squared <= around_fakes[rows, None]).any(0)
    return float(plausible.double().mean()), float(found.double().mean())
