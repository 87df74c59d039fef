"""The original adversarial game, cross-entropy on real against fake, with both generator losses.

Source: Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661, equation 1 and the remark below it. With D = sigmoid
of the logit, D minimizes -log D(x) - log(1 - D(G(z))). G minimizes -log D(G(z)) (non-saturating, the usual choice) or
log(1 - D(G(z))) (saturating, the game as written). Computed from logits, so that nothing overflows.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from twoplayer.core.protocols import SeparableObjective
from twoplayer.core.verdict import Verdict


class Minimax(SeparableObjective):
    """The minimax game.

    Attributes:
        generator_objective: "non-saturating" or "saturating".
    """

    name: Literal["minimax"] = "minimax"
    generator_objective: Literal["non-saturating", "saturating"] = "non-saturating"

    def real_loss(self, real: Verdict) -> Tensor:
        """-log D(x), [N]."""
        return F.softplus(-real.logits)

    def fake_loss(self, fake: Verdict) -> Tensor:
        """-log(1 - D(G(z))), [N]."""
        return F.softplus(fake.logits)

    def generator_loss(self, real: Verdict, fake: Verdict) -> Tensor:
        if self.generator_objective == "saturating":
            return -F.softplus(fake.logits)
        return F.softplus(-fake.logits)

    def probability(self, verdict: Verdict) -> Tensor:
        """D's probability that each image is real, [N]."""
        return verdict.logits.sigmoid()
