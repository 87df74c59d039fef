"""What all penalties on D's slope share: where it is looked at is one question, what it costs another.

The slope at an image is the gradient of its logit with respect to it. D judges in inference mode by default (running
batch statistics, no dropout): batch statistics would make one image's gradient depend on the other images.

A penalty's gradient in D's parameters needs a second derivative. Here it is taken through layers whose derivatives are
closed (`ops/closed.py`), where D has convolutions; a training step whose D is a chain of layers does without
(`ops/chains`).
"""

from __future__ import annotations

from abc import abstractmethod
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from twoplayer.core.batch import Batch
from twoplayer.core.modes import mode
from twoplayer.core.protocols import Judge, Regularizer
from twoplayer.core.rng import Stream
from twoplayer.ops.closed import ClosedDerivatives


class SlopeRegularizer(Regularizer):
    """A penalty on D's slope.

    Attributes:
        inference_mode: D judges with running statistics and without dropout.
    """

    inference_mode: bool = True

    @abstractmethod
    def places(self, real: Batch, fake: Tensor, stream: Stream) -> Tensor:
        """The images [N, C, H, W] at which the slope is looked at."""

    @abstractmethod
    def of_slope(self, slope: Tensor) -> Tensor:
        """The weighted penalty of slopes [N, C, H, W]: [N]."""

    def penalty_at(self, judge: Judge, images: Tensor) -> Tensor:
        """The weighted penalty at given images [N, C, H, W], in the mode that D is in: [N]."""
        return self.of_slope(input_gradient(judge, images))

    def discriminator_penalty(self, judge: nn.Module, real: Batch, fake: Tensor, stream: Stream) -> Tensor:
        """[N], with a graph to D's parameters; the step's mean over it is the penalty of the paper."""
        with mode(judge, training=judge.training and not self.inference_mode):
            return self.penalty_at(judge, self.places(real, fake.detach(), stream))


def input_gradient(judge: Judge, images: Tensor) -> Tensor:
    """Gradient of each image's logit with respect to that image, [N, C, H, W], itself differentiable."""
    images = images.detach().requires_grad_()
    with ClosedDerivatives() if has_convolutions(judge) else nullcontext():
        (gradient,) = torch.autograd.grad(judge(images).logits.sum(), images, create_graph=True)
    return gradient


def has_convolutions(judge: Judge) -> bool:
    """Dense layers are closed in torch already, and its rectifiers cost less than operators of Python there."""
    return isinstance(judge, nn.Module) and any(parameter.ndim == 4 for parameter in judge.parameters())


def squared_length(slope: Tensor) -> Tensor:
    """|slope|^2 of each image: [N, C, H, W] -> [N]."""
    return slope.flatten(1).square().sum(1)
