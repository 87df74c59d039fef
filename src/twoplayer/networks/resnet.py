"""Residual players: rectified 3x3 convolutions in blocks whose input gets past them.

Source: Gulrajani et al. 2017, https://arxiv.org/abs/1704.00028, appendix F (CIFAR-10): G is a dense layer to a 4x4 map
and a block for each doubling, with nearest-neighbor upsampling and batch normalization; D a block for each of two
halvings by average pooling, two blocks at the last size, the mean over the map and one logit, without normalization.

Conditional players are those of Miyato and Koyama 2018, https://arxiv.org/abs/1802.05637: G's normalization has a scale
and a shift for each class, D adds the projection of its features on a vector of the class. `attention_side` puts
self-attention behind the maps of one size: Zhang et al. 2018, https://arxiv.org/abs/1805.08318.

Deviations: other image sizes (the smallest map of G is 4 pixels a side or a little less); Glorot-uniform weights for
all layers; the projection is of the mean over the map, as the logit is, not of the sum.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field
from torch import nn

from twoplayer.core.errors import UserError
from twoplayer.core.protocols import DiscriminatorNetwork, GeneratorNetwork, Given, ImageShape
from twoplayer.networks.heads import FeatureDiscriminator
from twoplayer.networks.upsampling import sizes_by_doubling
from twoplayer.ops.batch_norm import BatchNorm
from twoplayer.ops.class_projection import ClassProjection
from twoplayer.ops.conditional_batch_norm import ConditionalBatchNorm
from twoplayer.ops.convolution import SameConv2d
from twoplayer.ops.edge import edge
from twoplayer.ops.initialization import glorot_uniform
from twoplayer.ops.labels import classes_named, classes_taken
from twoplayer.ops.residual import Residual
from twoplayer.ops.self_attention import SelfAttention
from twoplayer.ops.told_labels import LabeledResidual, LabeledSequential


class ResnetGenerator(GeneratorNetwork):
    """Dense -> smallest map -> one block per doubling -> normalized, rectified -> tanh image.

    Attributes:
        n_filters: channels of every map.
        n_blocks: how often the size doubles; left out, until the smallest map has at most 4 pixels a side.
        batch_norm_momentum: share of the new batch in the running statistics.
        attention_side: longer side in pixels of the maps that self-attention follows; left out, there is none.
        conditional: take labels.
    """

    name: Literal["resnet"] = "resnet"
    n_filters: int = Field(128, ge=1, le=8192)
    n_blocks: int | None = Field(None, ge=0, le=10)
    batch_norm_momentum: float = Field(0.1, gt=0.0, le=1.0)
    attention_side: int | None = Field(None, ge=1, le=1024)
    conditional: bool = False

    @property
    def takes(self) -> tuple[Given, ...]:
        return ("labels",) if self.conditional else ()

    def build(self, latent_dim: int, image_shape: ImageShape, num_classes: int) -> nn.Module:
        n, classes = self.n_filters, classes_taken(self.conditional, num_classes, "the generator")
        doublings = self.n_blocks if self.n_blocks is not None else fitting_doublings(image_shape)
        sizes = sizes_by_doubling(image_shape, doublings)
        require_side(self.attention_side, [max(size) for size in sizes], "generator")
        layers: list[nn.Module] = [
            edge(nn.Linear(latent_dim, n * math.prod(sizes[0]))),
            nn.Unflatten(1, (n, *sizes[0])),
        ]
        layers += attention(self.attention_side, sizes[0], n)
        for size in sizes[1:]:
            layers += [self._block(size, classes), *attention(self.attention_side, size, n)]
        layers += [self._normalize(classes), nn.ReLU(), edge(SameConv2d(n, image_shape[0], 3)), nn.Tanh()]
        network = LabeledSequential(*layers) if classes else nn.Sequential(*layers)
        return network.apply(glorot_uniform)

    def _normalize(self, classes: int) -> nn.Module:
        if classes:
            return ConditionalBatchNorm(self.n_filters, classes, 1e-5, self.batch_norm_momentum)
        return BatchNorm(self.n_filters, 1e-5, self.batch_norm_momentum)

    def _block(self, size: tuple[int, int], classes: int) -> nn.Module:
        n = self.n_filters
        branch = [self._normalize(classes), nn.ReLU(), nn.Upsample(size), SameConv2d(n, n, 3)]
        branch += [self._normalize(classes), nn.ReLU(), SameConv2d(n, n, 3)]
        if classes:
            return LabeledResidual(LabeledSequential(*branch), nn.Upsample(size))
        return Residual(nn.Sequential(*branch), nn.Upsample(size))


class ResnetDiscriminator(DiscriminatorNetwork):
    """A block per halving, more at the last size, the mean over the map, one logit.

    Attributes:
        n_filters: channels of every map.
        n_halvings: how often the size is halved.
        n_blocks: blocks at the last size.
        attention_side: longer side in pixels of the maps that self-attention follows, behind the first block that
            makes such maps; left out, there is none.
        conditional: take labels.
        class_logits: name classes too, for `auxiliary-classifier`.
    """

    name: Literal["resnet"] = "resnet"
    n_filters: int = Field(128, ge=1, le=8192)
    n_halvings: int = Field(2, ge=1, le=10)
    n_blocks: int = Field(2, ge=0, le=20)
    attention_side: int | None = Field(None, ge=1, le=1024)
    conditional: bool = False
    class_logits: bool = False

    @property
    def takes(self) -> tuple[Given, ...]:
        return ("labels",) if self.conditional else ()

    @property
    def judges_alone(self) -> bool:
        return True

    @property
    def names_classes(self) -> bool:
        return self.class_logits

    def build(self, image_shape: ImageShape, num_classes: int) -> nn.Module:
        classes = classes_taken(self.conditional, num_classes, "the discriminator")
        projection = ClassProjection(self.n_filters, classes) if classes else None
        named = classes_named(self.class_logits, num_classes)
        network = FeatureDiscriminator(
            self._blocks(image_shape),
            nn.Linear(self.n_filters, 1),
            projection,
            nn.Linear(self.n_filters, named) if named else None,
        )
        return network.apply(glorot_uniform)

    def _blocks(self, image_shape: ImageShape) -> nn.Module:
        """From images to the mean of each channel of the smallest maps."""
        channels, *size = image_shape
        n, side, sides = self.n_filters, self.attention_side, halved_sides(max(size), self.n_halvings)
        require_side(side, sides, "discriminator")
        first = nn.Sequential(edge(SameConv2d(channels, n, 3)), nn.ReLU(), SameConv2d(n, n, 3), _halve())
        blocks: list[nn.Module] = [Residual(first, nn.Sequential(_halve(), edge(SameConv2d(channels, n, 1))))]
        for block in range(1, self.n_halvings + self.n_blocks):
            halving = [_halve()] if block < self.n_halvings else []
            branch = nn.Sequential(nn.ReLU(), SameConv2d(n, n, 3), nn.ReLU(), SameConv2d(n, n, 3), *halving)
            blocks.append(Residual(branch, nn.Sequential(*halving) if halving else None))
        if side is not None:
            blocks.insert(sides.index(side) + 1, SelfAttention(n))
        return nn.Sequential(*blocks, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def fitting_doublings(image_shape: ImageShape) -> int:
    """How often the longer side has to be halved, rounding up, until it is at most 4.

    >>> [fitting_doublings((3, size, size)) for size in (4, 8, 28, 32, 64)]
    [0, 1, 3, 3, 4]
    """
    return max(math.ceil(math.log2(max(image_shape[1:]) / 4)), 0)


def halved_sides(side: int, halvings: int) -> list[int]:
    """Pixels a side after 1, 2, ... halvings, rounding up."""
    return [-(-side // 2**halving) for halving in range(1, halvings + 1)]


def require_side(side: int | None, sides: list[int], player: str) -> None:
    """Raise UserError where self-attention is wanted behind maps that a player does not have."""
    if side is not None and side not in sides:
        have = ", ".join(str(each) for each in dict.fromkeys(sides))
        raise UserError(f"{player}.attention_side={side}: the maps that it could follow have these sides: {have}")


def attention(side: int | None, size: tuple[int, int], channels: int) -> list[nn.Module]:
    """Self-attention where maps of this size are those that it shall follow."""
    return [SelfAttention(channels)] if max(size) == side else []


def _halve() -> nn.Module:
    """The mean of 2x2 pixels; at an odd border of those that are there."""
    return nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False)
