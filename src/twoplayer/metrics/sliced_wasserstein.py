"""Sliced Wasserstein distance between two sets of images, on their pixels.

Source: Rabin, Peyre, Delon and Bernot 2011; Bonneel et al. 2015, https://doi.org/10.1007/s10851-014-0506-3. Both sets
are projected on random unit directions; on each line the optimal transport is sorting, so the 2-Wasserstein distance is
the root mean squared difference of the sorted projections. Needs no feature extractor and no training.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from twoplayer.core.batch import to_float
from twoplayer.core.metric import Better, Metric
from twoplayer.core.observed import Observed, View
from twoplayer.core.rng import Stream

BLOCK = 1024
"""Images in float64 in memory at once."""


class SlicedWasserstein(Metric):
    """Root mean square over directions of the 2-Wasserstein distance of the projections; 0 for equal sets.

    In units of pixel values in [-1, 1]. The larger set is cut to the size of the smaller: its last images are left out.

    Attributes:
        directions: how many random directions.
    """

    name: Literal["sliced-wasserstein"] = "sliced-wasserstein"
    needs: ClassVar[tuple[View, ...]] = ("pixels",)
    better: ClassVar[dict[str, Better]] = {"sliced-wasserstein": "lower"}
    directions: int = Field(256, ge=1)

    def measure(self, real: Observed, fake: Observed, stream: Stream) -> dict[str, float]:
        self.require(1, real=len(real), fake=len(fake))
        n = min(len(real), len(fake))
        reals, fakes = (images.see("pixels")[:n] for images in (real, fake))
        assert reals.shape == fakes.shape, f"images of different shapes: {reals.shape[1:]} and {fakes.shape[1:]}"
        axes = stream.child("directions").normal((reals[0].numel(), self.directions)).to(reals.device).double()
        axes = axes / axes.norm(dim=0, keepdim=True)
        gap = projected(reals, axes).sort(0).values - projected(fakes, axes).sort(0).values
        return {"sliced-wasserstein": float(gap.square().mean().sqrt())}


def projected(pixels: Tensor, axes: Tensor) -> Tensor:
    """Images uint8 [N, C, H, W] on directions [C H W, D]: float64 [N, D]."""
    return torch.cat([to_float(block, torch.float64).flatten(1) @ axes for block in pixels.split(BLOCK)])
