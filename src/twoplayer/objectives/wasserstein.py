"""The Wasserstein game: D's logits estimate the earth mover's distance, if D is kept Lipschitz by a regularizer.

Source: Arjovsky, Chintala and Bottou 2017, https://arxiv.org/abs/1701.07875, equation 2 (Kantorovich-Rubinstein
duality). D minimizes E D(G(z)) - E D(x); G minimizes -E D(G(z)). The logits are not log-odds: no scores exist.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from twoplayer.core.protocols import SeparableObjective
from twoplayer.core.verdict import Verdict


class Wasserstein(SeparableObjective):
    """The Wasserstein game. Use it with `gradient-penalty` or `weight-clipping`."""

    name: Literal["wasserstein"] = "wasserstein"

    @property
    def zero_sum(self) -> bool:
        return True

    def real_loss(self, real: Verdict) -> Tensor:
        """-D(x), [N]."""
        return -real.logits

    def fake_loss(self, fake: Verdict) -> Tensor:
        """D(G(z)), [N]."""
        return fake.logits

    def generator_loss(self, real: Verdict, fake: Verdict) -> Tensor:
        return -fake.logits
