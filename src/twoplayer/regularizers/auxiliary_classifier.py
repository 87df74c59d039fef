"""Auxiliary classifier (AC-GAN): D names the class of each image, and G is to make fakes whose class D can name.

Source: Odena, Olah and Shlens 2017, https://arxiv.org/abs/1610.09585, equations 2 and 3: L_C, the mean log probability
of the right class on reals and on fakes, is added to what both players maximize. D learns the classes from both; G is
moved by its fakes alone. Any objective may be beside it.

Deviations: `learn_from_fakes: false` is ours: D then learns the classes from reals only, so that it cannot agree with G
on fakes that merely are easy to name. So are the weights, which are 1 in the paper.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from twoplayer.core.protocols import Regularizer
from twoplayer.core.schedule import Scheduled, fixed
from twoplayer.core.verdict import Verdict


class AuxiliaryClassifier(Regularizer):
    """Cross entropy between D's class logits and the labels, in both players' losses.

    Takes `discriminator.class_logits=true` and a conditional generator.

    Attributes:
        discriminator_weight: factor of what D pays for each image.
        generator_weight: factor of what G pays for each fake.
        learn_from_fakes: D learns the classes from fakes too.
    """

    name: Literal["auxiliary-classifier"] = "auxiliary-classifier"
    discriminator_weight: Scheduled = Field(1.0, ge=0.0)
    generator_weight: Scheduled = Field(1.0, ge=0.0)
    learn_from_fakes: bool = True

    def discriminator_class_loss(self, real: Verdict, fake: Verdict, labels: Tensor) -> Tensor:
        """weight (CE(real) + CE(fake)), or weight CE(real): [N]; labels: int64 [N]."""
        cost = surprise(real, labels)
        if self.learn_from_fakes:
            cost = cost + surprise(fake, labels)
        return fixed(self.discriminator_weight) * cost

    def generator_class_loss(self, fake: Verdict, labels: Tensor) -> Tensor:
        """weight CE(fake): [N]; labels: int64 [N]."""
        return fixed(self.generator_weight) * surprise(fake, labels)


def surprise(verdict: Verdict, labels: Tensor) -> Tensor:
    """The cross entropy of each image's label, int64 [N], under D's class probabilities, in nats: [N]."""
    assert verdict.class_logits is not None, "this discriminator names no classes"
    return F.cross_entropy(verdict.class_logits, labels, reduction="none")
