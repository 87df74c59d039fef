"""Half a wave of a cosine: slow at both ends.

Source: Loshchilov and Hutter 2017, https://arxiv.org/abs/1608.03983, equation 5 without restarts: end + (start - end)
(1 + cos(pi t)) / 2. Huang et al. 2025 (R3GAN), https://arxiv.org/abs/2501.05441, let learning rate, Adam's beta2, the
weights of both penalties and the average's half-life go this way together, over a burn-in counted in images.
"""

from __future__ import annotations

import math
from typing import Literal

from twoplayer.core.schedule import ValueSchedule


class Cosine(ValueSchedule):
    """From start to end along a cosine."""

    name: Literal["cosine"] = "cosine"

    def covered(self, progress: float) -> float:
        """(1 - cos(pi t)) / 2."""
        return (1.0 - math.cos(math.pi * progress)) / 2.0
