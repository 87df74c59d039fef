"""What discriminators end in that make a vector of features of each image: a logit, what a label adds, class logits."""

from __future__ import annotations

from torch import Tensor, nn

from twoplayer.core.verdict import Verdict
from twoplayer.ops.class_projection import ClassProjection
from twoplayer.ops.logits import full_precision


class FeatureDiscriminator(nn.Module):
    """Images [N, C, H, W] to features [N, F] to a verdict, whose logits are computed in full precision.

    Args:
        blocks: images to features.
        to_logit: features to [N, 1].
        projection: what it adds to the logit for a label; None for a D that is told nothing.
        to_classes: features to class logits [N, K]; None for a D that names no classes.
    """

    def __init__(
        self,
        blocks: nn.Module,
        to_logit: nn.Module,
        projection: ClassProjection | None = None,
        to_classes: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.blocks = blocks
        self.to_logit = to_logit
        self.projection = projection
        self.to_classes = to_classes

    def forward(self, images: Tensor, *, labels: Tensor | None = None) -> Verdict:
        features: Tensor = self.blocks(images)
        logits = full_precision(self.to_logit, features).flatten()
        if self.projection is not None:
            assert labels is not None, "a conditional network was told nothing"
            logits = logits + self.projection(features, labels)
        return Verdict(logits, features, class_logits(self.to_classes, features))

    def chain(self) -> list[nn.Module] | None:
        """See `Chained`."""
        plain = self.projection is None and self.to_classes is None
        return [self.blocks, self.to_logit] if plain else None


def class_logits(layer: nn.Module | None, features: Tensor) -> Tensor | None:
    """What a layer makes of features, in full precision: [N, K]; None where there is none."""
    return None if layer is None else full_precision(layer, features).flatten(1)
