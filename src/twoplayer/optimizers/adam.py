"""Adam, with epsilon in either of the two places the paper names.

Source: Kingma and Ba 2015, https://arxiv.org/abs/1412.6980: algorithm 1 adds epsilon after the bias correction, as
torch does; the reordered form at the end of section 2 adds an "epsilon hat" before it, as Keras does. Early in training
the second is up to 30 times the larger, so a faithful copy of a Keras system needs it.

Where a schedule changes beta1 or beta2, update t decays the moments by their present values and corrects the bias by
1 - beta^t with the present value too, as torch does; the exact weight of the past would be the product of all earlier
values. Both agree after some multiples of 1 / (1 - beta) updates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn
from torch.optim import Optimizer

from twoplayer.core.protocols import OptimizerRule
from twoplayer.core.schedule import Scheduled, fixed


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
    learning_rate: Scheduled = Field(2e-4, gt=0.0, le=1e6)
    beta1: Scheduled = Field(0.9, ge=0.0, lt=1.0)
    beta2: Scheduled = Field(0.999, ge=0.0, lt=1.0)
    epsilon: float = Field(1e-8, gt=0.0)
    epsilon_hat: bool = False

    def build(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        rule, learned = AdamEpsilonHat if self.epsilon_hat else torch.optim.Adam, list(parameters)
        on_gpu = any(parameter.is_cuda for parameter in learned)  # there a recorded graph may hold the update
        rate, betas = fixed(self.learning_rate), (fixed(self.beta1), fixed(self.beta2))
        return rule(learned, rate, betas, self.epsilon, fused=True, capturable=on_gpu)

    def tune(self, optimizer: Optimizer) -> None:
        for group in optimizer.param_groups:
            group["lr"], group["betas"] = fixed(self.learning_rate), (fixed(self.beta1), fixed(self.beta2))


class AdamEpsilonHat(torch.optim.Adam):
    """torch's Adam with epsilon added before the bias correction.

    As torch's kernel takes epsilon for a number, and here it differs from update to update, a capturable update is
    written out, with the number of updates on the device.
    """

    def step(self, closure: Callable[[], float] | None = None) -> Any:
        if self.param_groups[0]["capturable"]:
            return self._step_on_device()
        for group in self.param_groups:
            group.setdefault("epsilon_hat", group["eps"])
            known = [self.state[parameter]["step"] for parameter in group["params"] if self.state[parameter]]
            update = int(known[0]) + 1 if known else 1
            group["eps"] = group["epsilon_hat"] / (1.0 - group["betas"][1] ** update) ** 0.5
        return super().step(closure)

    @torch.no_grad()
    def _step_on_device(self) -> None:
        """lr_t = lr sqrt(1 - beta2^t) / (1 - beta1^t); change = -lr_t m / (sqrt(v) + epsilon_hat)."""
        for group in self.param_groups:
            epsilon, (beta1, beta2) = group.setdefault("epsilon_hat", group["eps"]), group["betas"]
            learned = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not learned:
                continue
            for parameter in learned:
                if not self.state[parameter]:
                    self.state[parameter]["step"] = torch.zeros((), device=parameter.device)
                    for name in ("exp_avg", "exp_avg_sq"):
                        self.state[parameter][name] = torch.zeros_like(parameter)
            gradients = [parameter.grad for parameter in learned]
            steps, means, squares = (
                [self.state[parameter][name] for parameter in learned] for name in ("step", "exp_avg", "exp_avg_sq")
            )
            torch._foreach_add_(steps, 1.0)
            torch._foreach_lerp_(means, gradients, 1.0 - beta1)
            torch._foreach_mul_(squares, beta2)
            torch._foreach_addcmul_(squares, gradients, gradients, 1.0 - beta2)
            t = steps[0].double()
            rate = group["lr"] * (1.0 - beta2**t).sqrt() / (1.0 - beta1**t)
            roots = torch._foreach_sqrt(squares)
            torch._foreach_add_(roots, epsilon)
            changes = torch._foreach_div(means, roots)
            torch._foreach_mul_(changes, -rate.to(changes[0].dtype))
            torch._foreach_add_(learned, changes)
