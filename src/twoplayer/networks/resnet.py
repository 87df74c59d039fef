"""Residual players: rectified 3x3 convolutions in blocks whose input gets past them.

Source: Gulrajani et al. 2017, https://arxiv.org/abs/1704.00028, appendix F (CIFAR-10): G is a dense layer to a 4x4 map
and a block for each doubling, with nearest-neighbor upsampling and batch normalization; D a block for each of two
halvings by average pooling, two blocks at the last size, the mean over the map and one logit, without normalization.

Deviations: other image sizes (the smallest map of G is 4 pixels a side or a little less); Glorot-uniform weights for
all layers.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from twoplayer.core.protocols import DiscriminatorNetwork, GeneratorNetwork, ImageShape
from twoplayer.core.verdict import Verdict
from twoplayer.networks.upsampling import sizes_by_doubling
from twoplayer.ops.batch_norm import BatchNorm
from twoplayer.ops.convolution import SameConv2d
from twoplayer.ops.initialization import glorot_uniform
from twoplayer.ops.logits import full_precision
from twoplayer.ops.residual import Residual


class ResnetGenerator(GeneratorNetwork):
    """Dense -> smallest map -> one block per doubling -> normalized, rectified -> tanh image.

    Attributes:
        n_filters: channels of every map.
        n_blocks: how often the size doubles; left out, until the smallest map has at most 4 pixels a side.
        batch_norm_momentum: share of the new batch in the running statistics.
    """

    name: Literal["resnet"] = "resnet"
    n_filters: int = Field(128, ge=1, le=8192)
    n_blocks: int | None = Field(None, ge=0, le=10)
    batch_norm_momentum: float = Field(0.1, gt=0.0, le=1.0)

    def build(self, latent_dim: int, image_shape: ImageShape, num_classes: int) -> nn.Module:
        n = self.n_filters
        doublings = self.n_blocks if self.n_blocks is not None else fitting_doublings(image_shape)
        sizes = sizes_by_doubling(image_shape, doublings)
        layers: list[nn.Module] = [nn.Linear(latent_dim, n * math.prod(sizes[0])), nn.Unflatten(1, (n, *sizes[0]))]
        layers += [self._block(size) for size in sizes[1:]]
        layers += [self._normalize(), nn.ReLU(), SameConv2d(n, image_shape[0], 3), nn.Tanh()]
        return nn.Sequential(*layers).apply(glorot_uniform)

    def _normalize(self) -> nn.Module:
        return BatchNorm(self.n_filters, 1e-5, self.batch_norm_momentum)

    def _block(self, size: tuple[int, int]) -> nn.Module:
        n = self.n_filters
        branch = [self._normalize(), nn.ReLU(), nn.Upsample(size), SameConv2d(n, n, 3)]
        branch += [self._normalize(), nn.ReLU(), SameConv2d(n, n, 3)]
        return Residual(nn.Sequential(*branch), nn.Upsample(size))


class ResnetDiscriminator(DiscriminatorNetwork):
    """A block per halving, more at the last size, the mean over the map, one logit.

    Attributes:
        n_filters: channels of every map.
        n_halvings: how often the size is halved.
        n_blocks: blocks at the last size.
    """

    name: Literal["resnet"] = "resnet"
    n_filters: int = Field(128, ge=1, le=8192)
    n_halvings: int = Field(2, ge=1, le=10)
    n_blocks: int = Field(2, ge=0, le=20)

    @property
    def judges_alone(self) -> bool:
        return True

    def build(self, image_shape: ImageShape, num_classes: int) -> nn.Module:
        return _Discriminator(self, image_shape[0]).apply(glorot_uniform)


def fitting_doublings(image_shape: ImageShape) -> int:
    """How often the longer side has to be halved, rounding up, until it is at most 4.

    >>> [fitting_doublings((3, size, size)) for size in (4, 8, 28, 32, 64)]
    [0, 1, 3, 3, 4]
    """
    return max(math.ceil(math.log2(max(image_shape[1:]) / 4)), 0)


class _Discriminator(nn.Module):
    def __init__(self, config: ResnetDiscriminator, channels: int) -> None:
        super().__init__()
        n = config.n_filters
        first = nn.Sequential(SameConv2d(channels, n, 3), nn.ReLU(), SameConv2d(n, n, 3), _halve())
        blocks: list[nn.Module] = [Residual(first, nn.Sequential(_halve(), SameConv2d(channels, n, 1)))]
        for block in range(1, config.n_halvings + config.n_blocks):
            halving = [_halve()] if block < config.n_halvings else []
            branch = nn.Sequential(nn.ReLU(), SameConv2d(n, n, 3), nn.ReLU(), SameConv2d(n, n, 3), *halving)
            blocks.append(Residual(branch, nn.Sequential(*halving) if halving else None))
        self.blocks = nn.Sequential(*blocks, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.to_logit = nn.Linear(n, 1)

    def forward(self, images: Tensor) -> Verdict:
        features: Tensor = self.blocks(images)
        return Verdict(full_precision(self.to_logit, features).flatten(), features)

    def chain(self) -> list[nn.Module]:
        """See `Chained`."""
        return [self.blocks, self.to_logit]


def _halve() -> nn.Module:
    """The mean of 2x2 pixels; at an odd border of those that are there."""
    return nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False)
