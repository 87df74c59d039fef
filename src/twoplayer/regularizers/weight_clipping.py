"""Weight clipping: after each update D's weights are clamped to a box, the first way to keep D Lipschitz.

Source: Arjovsky, Chintala and Bottou 2017, https://arxiv.org/abs/1701.07875, algorithm 1 (bound 0.01). The paper
itself calls it "a clearly terrible way"; the gradient penalty replaced it.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import nn

from twoplayer.core.protocols import Regularizer


class WeightClipping(Regularizer):
    """Clamps every parameter of D.

    Attributes:
        bound: largest allowed absolute value.
    """

    name: Literal["weight-clipping"] = "weight-clipping"
    bound: float = Field(0.01, gt=0.0)

    @torch.no_grad()
    def project(self, discriminator: nn.Module) -> None:
        """Clamp in place to [-bound, bound]."""
        for parameter in discriminator.parameters():
            parameter.clamp_(-self.bound, self.bound)
