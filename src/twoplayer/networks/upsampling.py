"""Players of tanh layers: G enlarges by repeating pixels before each convolution, D shrinks by max-pooling.

Source: the reading list's eighth system (the tanh GAN on MNIST), https://github.com/jacobgil/keras-dcgan.

With the defaults, 100 latents and 28x28x1 images the generator has 6,763,777 parameters with its running statistics,
6,751,233 trainable; the discriminator 3,485,441. Initialization and batch normalization are those of Keras.

Deviations: none at 28x28 pixels. The original has one size only; for others
- G starts at ceil(size / 4) pixels a side and enlarges to ceil(size / 2) and size, which repeats each pixel twice and
  leaves the last repetition out where a size is odd;
- D's second convolution pads ("same") along an axis on which fewer than 2 pixels would be left for the pooling.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from twoplayer.core.errors import UserError
from twoplayer.core.protocols import DiscriminatorNetwork, GeneratorNetwork, ImageShape
from twoplayer.core.verdict import Verdict
from twoplayer.ops.batch_norm import BatchNorm
from twoplayer.ops.convolution import SameConv2d, same_output_size
from twoplayer.ops.edge import edge
from twoplayer.ops.initialization import glorot_uniform
from twoplayer.ops.logits import full_precision

KERNEL_SIZE = 5
SMALLEST_SIDE = 4
"""Pixels a side of which two poolings leave one."""


class UpsamplingGenerator(GeneratorNetwork):
    """Dense -> dense, normalized -> (size / 4) -> repeated to size / 2 -> convolution -> repeated to size -> image.

    Attributes:
        hidden_units: width of the first layer.
        n_filters: channels of the smallest feature map; the next has half of them.
        batch_norm_momentum: share of the new batch in the running statistics.
    """

    name: Literal["upsampling"] = "upsampling"
    hidden_units: int = Field(1024, ge=1, le=100_000)
    n_filters: int = Field(128, ge=1, le=8192)
    batch_norm_momentum: float = Field(0.01, gt=0.0, le=1.0)

    def build(self, latent_dim: int, image_shape: ImageShape, num_classes: int) -> nn.Module:
        start, half, full = sizes_by_doubling(image_shape, 2)
        width, halved = self.n_filters * math.prod(start), max(self.n_filters // 2, 1)
        return nn.Sequential(
            edge(nn.Linear(latent_dim, self.hidden_units)),
            nn.Tanh(),
            nn.Linear(self.hidden_units, width),
            BatchNorm(width, momentum=self.batch_norm_momentum),
            nn.Tanh(),
            nn.Unflatten(1, (self.n_filters, *start)),
            nn.Upsample(half),
            SameConv2d(self.n_filters, halved, KERNEL_SIZE),
            nn.Tanh(),
            nn.Upsample(full),
            edge(SameConv2d(halved, image_shape[0], KERNEL_SIZE)),
            nn.Tanh(),
        ).apply(glorot_uniform)


class UpsamplingDiscriminator(DiscriminatorNetwork):
    """Two convolutions, each followed by tanh and max-pooling, then a dense layer and one logit.

    Attributes:
        n_filters: channels of the first feature map; the second has twice as many.
        hidden_units: width of the dense layer.
    """

    name: Literal["upsampling"] = "upsampling"
    n_filters: int = Field(64, ge=1, le=8192)
    hidden_units: int = Field(1024, ge=1, le=100_000)

    @property
    def judges_alone(self) -> bool:
        return True

    def build(self, image_shape: ImageShape, num_classes: int) -> nn.Module:
        return _Discriminator(self, image_shape).apply(glorot_uniform)


def sizes_by_doubling(image_shape: ImageShape, doublings: int) -> list[tuple[int, int]]:
    """(height, width) of the maps from the smallest to the image, each half of the next, rounding up."""
    sizes = [image_shape[1:]]
    for _ in range(doublings):
        height, width = sizes[0]
        sizes.insert(0, (same_output_size(height, 2), same_output_size(width, 2)))
    return sizes


def padding_where_needed(side: int) -> int:
    """Pixels to pad before and after a side so that convolution and pooling leave at least one: 0 ("valid") or 2."""
    return 0 if side - (KERNEL_SIZE - 1) >= 2 else (KERNEL_SIZE - 1) // 2


class _Discriminator(nn.Module):
    def __init__(self, config: UpsamplingDiscriminator, image_shape: ImageShape) -> None:
        super().__init__()
        channels, *sides = image_shape
        if min(sides) < SMALLEST_SIDE:
            raise UserError(
                f"images of {sides[1]}x{sides[0]} pixels are too small for the discriminator 'upsampling': "
                f"it needs {SMALLEST_SIDE} a side, for example data.image_size=8"
            )
        filters = config.n_filters
        pooled = [side // 2 for side in sides]
        padding = [padding_where_needed(side) for side in pooled]
        left = [(side + 2 * pad - (KERNEL_SIZE - 1)) // 2 for side, pad in zip(pooled, padding, strict=True)]
        self.features = nn.Sequential(
            edge(SameConv2d(channels, filters, KERNEL_SIZE)),
            nn.Tanh(),
            nn.MaxPool2d(2),
            nn.Conv2d(filters, 2 * filters, KERNEL_SIZE, padding=(padding[0], padding[1])),
            nn.Tanh(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2 * filters * math.prod(left), config.hidden_units),
            nn.Tanh(),
        )
        self.to_logit = nn.Linear(config.hidden_units, 1)

    def forward(self, images: Tensor) -> Verdict:
        features: Tensor = self.features(images)
        return Verdict(full_precision(self.to_logit, features).flatten(), features)

    def chain(self) -> list[nn.Module]:
        """See `Chained`."""
        return [self.features, self.to_logit]
