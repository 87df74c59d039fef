"""Feature matching: G brings the mean features of its fakes to the mean features of the reals.

Source: Salimans et al. 2016, https://arxiv.org/abs/1606.03498, section 3.1: G minimizes a distance between the means of
an intermediate D feature over a real and a fake batch; D goes on playing the minimax game. Their MNIST code takes the
mean squared difference, their CIFAR-10 and SVHN code the mean absolute one.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from twoplayer.core.ranks import batch_mean
from twoplayer.core.verdict import Verdict
from twoplayer.objectives.minimax import CrossEntropyGame

Distance = Literal["mean-squared", "mean-absolute"]


class FeatureMatching(CrossEntropyGame):
    """The minimax game for D, feature matching for G.

    Attributes:
        distance: between the two mean feature vectors, averaged over features.
    """

    generator_judges_real: ClassVar[bool] = True
    generator_fools: ClassVar[bool] = False
    coupled_images: ClassVar[int | None] = None

    name: Literal["feature-matching"] = "feature-matching"
    distance: Distance = "mean-squared"

    def generator_loss(self, real: Verdict, fake: Verdict) -> Tensor:
        return feature_distance(real, fake, self.distance)


def feature_distance(real: Verdict, fake: Verdict, distance: Distance) -> Tensor:
    """The distance between mean features, repeated for each of the N fakes: it belongs to the batch as a whole."""
    assert real.features is not None, "this discriminator shows no features"
    assert fake.features is not None, "this discriminator shows no features"
    gap = batch_mean(fake.features) - batch_mean(real.features)
    value = gap.square().mean() if distance == "mean-squared" else gap.abs().mean()
    return value.expand(len(fake.logits))
