"""The semi-supervised game: D names K classes, and "fake" is one more whose logit is fixed at zero.

Source: Salimans et al. 2016, https://arxiv.org/abs/1606.03498, section 5. With l the K class logits and
Z = logsumexp(l), softmax over (l, 0) gives D(x) = e^Z / (e^Z + 1), so Z is the logit of "real". On labeled images D
minimizes -l_y + Z, on unlabeled reals and fakes half the minimax loss of that logit:
0.5 [-Z + softplus(Z)] and 0.5 softplus(Z). G matches features.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from twoplayer.core.protocols import SeparableObjective
from twoplayer.core.verdict import Verdict
from twoplayer.objectives.feature_matching import Distance, feature_distance


class SemiSupervised(SeparableObjective):
    """Cross-entropy on the labeled images, minimax on the others, feature matching for G.

    The discriminator has to give `class_logits`, and as its logits their logsumexp.

    Attributes:
        unlabeled_weight: factor of the loss on unlabeled and fake images.
        distance: of the mean features that G brings together.
    """

    generator_judges_real: ClassVar[bool] = True
    generator_fools: ClassVar[bool] = False
    coupled_images: ClassVar[int | None] = None

    name: Literal["semi-supervised"] = "semi-supervised"
    unlabeled_weight: float = Field(1.0, ge=0.0)
    distance: Distance = "mean-squared"

    def labeled_loss(self, verdict: Verdict, labels: Tensor) -> Tensor:
        """-l_y + Z, [N]; labels: int64 [N]."""
        assert verdict.class_logits is not None, "this discriminator names no classes"
        return F.cross_entropy(verdict.class_logits, labels, reduction="none")

    def real_loss(self, real: Verdict) -> Tensor:
        """0.5 [-Z + softplus(Z)], [N]."""
        return 0.5 * self.unlabeled_weight * F.softplus(-real.logits)

    def fake_loss(self, fake: Verdict) -> Tensor:
        """0.5 softplus(Z), [N]."""
        return 0.5 * self.unlabeled_weight * F.softplus(fake.logits)

    def generator_loss(self, real: Verdict, fake: Verdict) -> Tensor:
        return feature_distance(real, fake, self.distance)

    def probability(self, verdict: Verdict) -> Tensor:
        """D's probability that each image is real, [N]."""
        return verdict.logits.sigmoid()
