"""Stochastic gradient descent with (Nesterov) momentum. Source: Sutskever et al. 2013."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from pydantic import Field
from torch import nn
from torch.optim import Optimizer

from twoplayer.core.protocols import OptimizerRule


class Sgd(OptimizerRule):
    """Gradient descent.

    Attributes:
        learning_rate: step size.
        momentum: share of the last update that is kept.
        nesterov: look ahead along the momentum.
    """

    name: Literal["sgd"] = "sgd"
    learning_rate: float = Field(0.01, gt=0.0, le=1e6)
    momentum: float = Field(0.0, ge=0.0, lt=1.0)
    nesterov: bool = False

    def build(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        return torch.optim.SGD(
            list(parameters), self.learning_rate, momentum=self.momentum, nesterov=self.nesterov and self.momentum > 0
        )
