"""The least squares game.

Source: Mao et al. 2017, https://arxiv.org/abs/1611.04076, equation 2 with targets b = c = 1 and a = 0 (its section
3.2.3): D pulls logits of reals to 1 and of fakes to 0, G pulls those of fakes to 1. The logits are not log-odds.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from twoplayer.core.protocols import SeparableObjective
from twoplayer.core.verdict import Verdict


class LeastSquares(SeparableObjective):
    """Half the squared distance of each logit from its target."""

    name: Literal["least-squares"] = "least-squares"

    def real_loss(self, real: Verdict) -> Tensor:
        """(D(x) - 1)^2 / 2, [N]."""
        return (real.logits - 1.0).square() / 2.0

    def fake_loss(self, fake: Verdict) -> Tensor:
        """D(G(z))^2 / 2, [N]."""
        return fake.logits.square() / 2.0

    def generator_loss(self, real: Verdict, fake: Verdict) -> Tensor:
        return (fake.logits - 1.0).square() / 2.0
