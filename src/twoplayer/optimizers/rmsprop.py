"""RMSprop, the rule of the weight-clipped Wasserstein GAN. Source: Tieleman and Hinton 2012, lecture 6.5."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from pydantic import Field
from torch import nn
from torch.optim import Optimizer

from twoplayer.core.protocols import OptimizerRule
from twoplayer.core.schedule import Scheduled, fixed


class RmsProp(OptimizerRule):
    """RMSprop.

    Attributes:
        learning_rate: step size.
        decay: share of the past in the running mean of squared gradients.
        epsilon: added to its root.
    """

    name: Literal["rmsprop"] = "rmsprop"
    learning_rate: Scheduled = Field(5e-5, gt=0.0, le=1e6)
    decay: float = Field(0.99, ge=0.0, lt=1.0)
    epsilon: float = Field(1e-8, gt=0.0)

    def build(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        rate = fixed(self.learning_rate)
        return torch.optim.RMSprop(list(parameters), rate, alpha=self.decay, eps=self.epsilon)

    def tune(self, optimizer: Optimizer) -> None:
        for group in optimizer.param_groups:
            group["lr"] = fixed(self.learning_rate)
