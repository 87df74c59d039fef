"""The relativistic game: D says how much more real a real image is than the fake beside it.

Source: Jolicoeur-Martineau 2018, https://arxiv.org/abs/1807.00734 (the relativistic standard GAN), as Huang et al. 2025
(R3GAN), https://arxiv.org/abs/2501.05441, play it: D minimizes softplus(D(G(z)) - D(x)), G minimizes
softplus(D(x) - D(G(z))), each fake paired with the real image at its place in the batch. Fakes are compared with reals,
not with a fixed boundary: a mode that G leaves out stays a pair that D tells apart. One logit alone says nothing, so
the log has no scores; `exp(-loss)` is one of pairs. Without `r1` and `r2` the game need not converge.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor
from torch.nn import functional as F

from twoplayer.core.protocols import Objective
from twoplayer.core.verdict import Verdict


class Relativistic(Objective):
    """The softplus of the difference, for both players. Use it with `r1` and `r2`."""

    generator_judges_real: ClassVar[bool] = True
    compares_pairs: ClassVar[bool] = True

    name: Literal["relativistic"] = "relativistic"

    def discriminator_loss(self, real: Verdict, fake: Verdict) -> Tensor:
        """softplus(D(G(z)) - D(x)) = -log sigmoid(D(x) - D(G(z))), [N]."""
        return F.softplus(fake.logits - real.logits)

    def generator_loss(self, real: Verdict, fake: Verdict) -> Tensor:
        """softplus(D(x) - D(G(z))), [N]: the same with the roles of real and fake changed."""
        return F.softplus(real.logits - fake.logits)
