"""Gradient penalty: D's slope with respect to its input is pulled to a target on the lines between real and fake.

Source: Gulrajani et al. 2017, https://arxiv.org/abs/1704.00028, equation 3: weight * (|grad D(x^)| - target)^2 with
x^ = x + u (G(z) - x), u uniform in [0, 1) per image. `one_sided` penalizes only slopes above the target, which the
same paper's section 4 discusses.

D judges the interpolates in inference mode by default (running batch statistics, no dropout): batch statistics would
make one image's gradient depend on the other images.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from twoplayer.core.batch import Batch
from twoplayer.core.modes import mode
from twoplayer.core.protocols import Judge, Regularizer
from twoplayer.core.rng import Stream

NORM_FLOOR = 1e-12
"""Squared norms below this count as this: the norm's derivative at zero does not exist."""


class GradientPenalty(Regularizer):
    """Gradient penalty on interpolates.

    Attributes:
        weight: factor of the penalty (lambda in the paper).
        target: the slope that costs nothing.
        one_sided: only slopes above the target cost.
        inference_mode: D judges the interpolates with running statistics and without dropout.
    """

    name: Literal["gradient-penalty"] = "gradient-penalty"
    weight: float = Field(10.0, ge=0.0)
    target: float = Field(1.0, ge=0.0)
    one_sided: bool = False
    inference_mode: bool = True

    def discriminator_penalty(self, judge: nn.Module, real: Batch, fake: Tensor, stream: Stream) -> Tensor:
        """[N], with a graph to D's parameters; the step's mean over it is the penalty of the paper."""
        mix = stream.child("interpolation").uniform((len(fake), 1, 1, 1), like=fake)
        with mode(judge, training=judge.training and not self.inference_mode):
            return self.penalty_at(judge, real.images + mix * (fake.detach() - real.images))

    def penalty_at(self, judge: Judge, images: Tensor) -> Tensor:
        """The weighted penalty at given images [N, C, H, W]: [N]."""
        excess = input_gradient(judge, images).flatten(1).square().sum(1).clamp_min(NORM_FLOOR).sqrt() - self.target
        return self.weight * (excess.clamp_min(0.0) if self.one_sided else excess).square()


def input_gradient(judge: Judge, images: Tensor) -> Tensor:
    """Gradient of each image's logit with respect to that image, [N, C, H, W], itself differentiable."""
    images = images.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(judge(images).logits.sum(), images, create_graph=True)
    return gradient
