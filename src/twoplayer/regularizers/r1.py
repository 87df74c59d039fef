"""R1: D's slope at the real images is pulled to zero.

Source: Mescheder, Geiger and Nowozin 2018, https://arxiv.org/abs/1801.04406, equation 9: gamma / 2 |grad D(x)|^2 over
real images. Near the equilibrium it takes D's reason to go on moving, so that the game converges there.

D judges in inference mode by default, as for `gradient-penalty` and for the same reason.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from twoplayer.core.batch import Batch
from twoplayer.core.modes import mode
from twoplayer.core.protocols import Judge, Regularizer
from twoplayer.core.rng import Stream
from twoplayer.regularizers.gradient_penalty import input_gradient


class ZeroCenteredPenalty(Regularizer):
    """What R1 and R2 share: the squared slope, without the root that `gradient-penalty` takes.

    Attributes:
        gamma: twice the factor of the squared slope, as in the paper.
        inference_mode: D judges with running statistics and without dropout.
    """

    gamma: float = Field(10.0, ge=0.0)
    inference_mode: bool = True

    def penalty_at(self, judge: Judge, images: Tensor) -> Tensor:
        """gamma / 2 |grad D|^2 at given images [N, C, H, W]: [N]."""
        return self.gamma / 2.0 * input_gradient(judge, images).flatten(1).square().sum(1)

    def penalty_of(self, judge: nn.Module, images: Tensor) -> Tensor:
        """The same, in the mode that `inference_mode` asks for."""
        with mode(judge, training=judge.training and not self.inference_mode):
            return self.penalty_at(judge, images)


class R1(ZeroCenteredPenalty):
    """Zero-centered gradient penalty on reals."""

    name: Literal["r1"] = "r1"

    def discriminator_penalty(self, judge: nn.Module, real: Batch, fake: Tensor, stream: Stream) -> Tensor:
        """[N], with a graph to D's parameters; the fakes have no part in it."""
        return self.penalty_of(judge, real.images)
