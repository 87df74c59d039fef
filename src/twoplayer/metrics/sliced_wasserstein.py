"""Sliced Wasserstein distance between two sets of images, on their pixels.

Source: Rabin, Peyre, Delon and Bernot 2011; Bonneel et al. 2015, https://doi.org/10.1007/s10851-014-0506-3. Both sets
are projected on random unit directions; on each line the optimal transport is sorting, so the 2-Wasserstein distance is
the root mean squared difference of the sorted projections. Needs no feature extractor and no training.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from twoplayer.core.batch import to_float
from twoplayer.core.protocols import Metric
from twoplayer.core.rng import Stream


class SlicedWasserstein(Metric):
    """Root mean square over directions of the 2-Wasserstein distance of the projections; 0 for equal sets.

    Attributes:
        directions: how many random directions.
    """

    name: Literal["sliced-wasserstein"] = "sliced-wasserstein"
    directions: int = Field(256, ge=1)

    def measure(self, real: Tensor, fake: Tensor, stream: Stream) -> float:
        """Distance in units of pixel values in [-1, 1]; the larger set is cut to the size of the smaller."""
        n = min(len(real), len(fake))
        real, fake = to_float(real[:n]).flatten(1), to_float(fake[:n]).flatten(1)
        axes = stream.child("directions").normal((real.shape[1], self.directions), like=real)
        axes = axes / axes.norm(dim=0, keepdim=True)
        gap = (real @ axes).sort(0).values - (fake @ axes).sort(0).values
        return float(torch.sqrt(gap.double().square().mean()))
