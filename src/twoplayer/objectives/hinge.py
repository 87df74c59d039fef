"""The hinge game: D stops caring about images it judges with a margin of 1.

Source: Lim and Ye 2017, https://arxiv.org/abs/1705.02894; Miyato et al. 2018, https://arxiv.org/abs/1802.05957,
equations 16 and 17. The logits are not log-odds.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from twoplayer.core.protocols import SeparableObjective
from twoplayer.core.verdict import Verdict


class Hinge(SeparableObjective):
    """Margins of 1 for D; G raises the logits of fakes."""

    name: Literal["hinge"] = "hinge"

    def real_loss(self, real: Verdict) -> Tensor:
        """max(0, 1 - D(x)), [N]."""
        return F.relu(1.0 - real.logits)

    def fake_loss(self, fake: Verdict) -> Tensor:
        """max(0, 1 + D(G(z))), [N]."""
        return F.relu(1.0 + fake.logits)

    def generator_loss(self, real: Verdict, fake: Verdict) -> Tensor:
        return -fake.logits
