"""R2: D's slope at the fakes is pulled to zero.

Source: Mescheder, Geiger and Nowozin 2018, https://arxiv.org/abs/1801.04406, equation 10: gamma / 2 |grad D(G(z))|^2.
With `r1` it is half of what Huang et al. 2025 (R3GAN), https://arxiv.org/abs/2501.05441, keep the relativistic game
stable with.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from twoplayer.core.batch import Batch
from twoplayer.core.rng import Stream
from twoplayer.regularizers.r1 import ZeroCenteredPenalty


class R2(ZeroCenteredPenalty):
    """Zero-centered gradient penalty on fakes."""

    name: Literal["r2"] = "r2"

    def places(self, real: Batch, fake: Tensor, stream: Stream) -> Tensor:
        """The fakes."""
        return fake
