"""Gradient penalty: D's slope with respect to its input is pulled to a target on the lines between real and fake.

Source: Gulrajani et al. 2017, https://arxiv.org/abs/1704.00028, equation 3: weight * (|grad D(x^)| - target)^2 with
x^ = x + u (G(z) - x), u uniform in [0, 1) per image. `one_sided` penalizes only slopes above the target, which the
same paper's section 4 discusses.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from twoplayer.core.batch import Batch
from twoplayer.core.rng import Stream
from twoplayer.core.schedule import Scheduled, fixed
from twoplayer.regularizers.slope import SlopeRegularizer, squared_length

NORM_FLOOR = 1e-12
"""Squared norms below this count as this: the norm's derivative at zero does not exist."""


class PulledSlope(SlopeRegularizer):
    """The slope's length is pulled to a target.

    Attributes:
        weight: factor of the penalty (lambda in the papers).
        target: the slope that costs nothing.
        one_sided: only slopes above the target cost.
    """

    weight: Scheduled = Field(10.0, ge=0.0)
    target: float = Field(1.0, ge=0.0)
    one_sided: bool = False

    def of_slope(self, slope: Tensor) -> Tensor:
        """weight * (|slope| - target)^2: [N]."""
        excess = squared_length(slope).clamp_min(NORM_FLOOR).sqrt() - self.target
        return fixed(self.weight) * (excess.clamp_min(0.0) if self.one_sided else excess).square()


class GradientPenalty(PulledSlope):
    """Gradient penalty on interpolates."""

    name: Literal["gradient-penalty"] = "gradient-penalty"

    def places(self, real: Batch, fake: Tensor, stream: Stream) -> Tensor:
        """One image on the line between each real and its fake."""
        mix = stream.child("interpolation").uniform((len(fake), 1, 1, 1), like=fake)
        return real.images + mix * (fake - real.images)
