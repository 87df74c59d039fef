"""Stochastic gradient descent with (Nesterov) momentum, and the schedules of early GANs.

Sources: Sutskever et al. 2013 (momentum); Mirza and Osindero 2014, https://arxiv.org/abs/1411.1784, and Denton et al.
2015, https://arxiv.org/abs/1506.05751 (learning rate divided by 1.00004 again and again, momentum that grows).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import nn
from torch.optim import Optimizer

from twoplayer.core.protocols import OptimizerRule
from twoplayer.core.schedule import Scheduled, ValueSchedule, fixed


class Sgd(OptimizerRule):
    """Gradient descent.

    Attributes:
        learning_rate: step size.
        momentum: share of the last update that is kept.
        nesterov: look ahead along the momentum.
        decay: what the learning rate is multiplied with every `schedule_every` updates.
        final_learning_rate: where it stops falling.
        momentum_growth: what is added to the momentum every `schedule_every` updates.
        final_momentum: where it stops growing.
        schedule_every: updates between changes of both.
    """

    name: Literal["sgd"] = "sgd"
    learning_rate: Scheduled = Field(0.01, gt=0.0, le=1e6)
    momentum: float = Field(0.0, ge=0.0, lt=1.0)
    nesterov: bool = False
    decay: float = Field(1.0, gt=0.0, le=1.0)
    final_learning_rate: float = Field(0.0, ge=0.0)
    momentum_growth: float = Field(0.0, ge=0.0, lt=1.0)
    final_momentum: float = Field(0.7, ge=0.0, lt=1.0)
    schedule_every: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.momentum_growth and self.final_momentum < self.momentum:
            raise ValueError(f"final_momentum={self.final_momentum} is below momentum={self.momentum}")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0 from the beginning")
        if isinstance(self.learning_rate, ValueSchedule):
            if self.decay < 1.0 or self.final_learning_rate:
                raise ValueError("learning_rate is a schedule already: leave decay and final_learning_rate out")
        elif self.final_learning_rate > self.learning_rate:
            raise ValueError(f"final_learning_rate={self.final_learning_rate} is above learning_rate")
        return self

    def build(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        return ScheduledSgd(self, parameters)

    def tune(self, optimizer: Optimizer) -> None:
        assert isinstance(optimizer, ScheduledSgd)
        optimizer.rule = self

    def learning_rate_at(self, update: int) -> float:
        """The learning rate of an update, counted from 0."""
        return max(fixed(self.learning_rate) * self.decay ** (update // self.schedule_every), self.final_learning_rate)

    def momentum_at(self, update: int) -> float:
        """The momentum of an update, counted from 0."""
        if not self.momentum_growth:
            return self.momentum
        return min(self.momentum + self.momentum_growth * (update // self.schedule_every), self.final_momentum)


class ScheduledSgd(torch.optim.SGD):
    """torch's SGD whose learning rate and momentum follow a rule."""

    def __init__(self, rule: Sgd, parameters: Iterable[nn.Parameter]) -> None:
        super().__init__(list(parameters), fixed(rule.learning_rate), momentum=rule.momentum, nesterov=rule.nesterov)
        self.rule = rule

    def step(self, closure: Callable[[], float] | None = None) -> Any:
        for group in self.param_groups:
            update = group.get("updates", 0)
            group["lr"], group["momentum"] = self.rule.learning_rate_at(update), self.rule.momentum_at(update)
            group["updates"] = update + 1
        return super().step(closure)
