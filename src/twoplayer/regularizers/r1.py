"""R1: D's slope at the real images is pulled to zero.

Source: Mescheder, Geiger and Nowozin 2018, https://arxiv.org/abs/1801.04406, equation 9: gamma / 2 |grad D(x)|^2 over
real images. Near the equilibrium it takes D's reason to go on moving, so that the game converges there.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from twoplayer.core.batch import Batch
from twoplayer.core.rng import Stream
from twoplayer.core.schedule import Scheduled, fixed
from twoplayer.regularizers.slope import SlopeRegularizer, squared_length


class ZeroCenteredPenalty(SlopeRegularizer):
    """What R1 and R2 share: the squared slope, without the root that `gradient-penalty` takes.

    Attributes:
        gamma: twice the factor of the squared slope, as in the paper.
    """

    gamma: Scheduled = Field(10.0, ge=0.0)

    def of_slope(self, slope: Tensor) -> Tensor:
        """gamma / 2 |slope|^2: [N]."""
        return fixed(self.gamma) / 2.0 * squared_length(slope)


class R1(ZeroCenteredPenalty):
    """Zero-centered gradient penalty on reals."""

    name: Literal["r1"] = "r1"

    def places(self, real: Batch, fake: Tensor, stream: Stream) -> Tensor:
        """The reals."""
        return real.images
