"""Adam, with epsilon in either of the two places the paper names.

Source: Kingma and Ba 2015, https://arxiv.org/abs/1412.6980: algorithm 1 adds epsilon after the bias correction, as
torch does; the reordered form at the end of section 2 adds an "epsilon hat" before it, as Keras does. Early in training
the second is up to 30 times the larger, so a faithful copy of a Keras system needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn
from torch.optim import Optimizer

from twoplayer.core.protocols import OptimizerRule


class Adam(OptimizerRule):
    """Adam.

    Attributes:
        learning_rate: step size.
        beta1: decay of the first moment per step.
        beta2: decay of the second moment per step.
        epsilon: added to the root of the second moment.
        epsilon_hat: epsilon is added before the bias correction (Keras) instead of after it (torch).
    """

    name: Literal["adam"] = "adam"
    learning_rate: float = Field(2e-4, gt=0.0, le=1e6)
    beta1: float = Field(0.9, ge=0.0, lt=1.0)
    beta2: float = Field(0.999, ge=0.0, lt=1.0)
    epsilon: float = Field(1e-8, gt=0.0)
    epsilon_hat: bool = False

    def build(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        rule = AdamEpsilonHat if self.epsilon_hat else torch.optim.Adam
        return rule(list(parameters), self.learning_rate, (self.beta1, self.beta2), self.epsilon, fused=True)


class AdamEpsilonHat(torch.optim.Adam):
    """torch's Adam with epsilon added before the bias correction."""

    def step(self, closure: Callable[[], float] | None = None) -> Any:
        for group in self.param_groups:
            group.setdefault("epsilon_hat", group["eps"])
            group["updates"] = group.get("updates", 0) + 1
            group["eps"] = group["epsilon_hat"] / (1.0 - group["betas"][1] ** group["updates"]) ** 0.5
        return super().step(closure)
