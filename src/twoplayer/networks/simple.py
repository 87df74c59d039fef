"""The plain Keras GAN, repaired: a dense generator with convolutions on top, and a dense discriminator.

Source: the reading list's sixth system (a plain Keras GAN).

With the defaults, 100 latents and 28x28x3 images the generator has 14,076,099 parameters, the discriminator 1,369,089.
Initialization is that of Keras.

As printed, that system cannot learn. What is wrong there, and how it is repaired here:
- G's image stays at 7x7 pixels, while D expects 28x28. Two enlargements (each pixel repeated twice) bring 7 to 28. One
  stands before the convolution with 64 filters, one before that with 32: where the filters halve the size doubles, as
  in DCGAN, so that the wide layers work on small maps, and three convolutions smooth the repeated pixels.
- D is built as an identity. Here its layers judge.
- The labels are the wrong way round, and G is never trained: both are the objective's and the step's business here
  (reals are real, fakes are fake, and each player has its own update).

Deviations besides the repairs: D ends in a logit, its sigmoid belongs to the objective. Other sizes than 28x28 start at
ceil(size / 4) pixels a side.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from twoplayer.core.protocols import DiscriminatorNetwork, GeneratorNetwork, ImageShape
from twoplayer.core.verdict import Verdict
from twoplayer.networks.mlp import Widths
from twoplayer.networks.upsampling import sizes_by_doubling
from twoplayer.ops.convolution import SameConv2d
from twoplayer.ops.edge import edge
from twoplayer.ops.initialization import glorot_uniform
from twoplayer.ops.logits import full_precision

KERNEL_SIZE = 3


class SimpleGenerator(GeneratorNetwork):
    """Dense layers to a map of size / 4 -> two convolutions -> doubled, one -> doubled, one -> tanh image.

    Attributes:
        widths: units of the dense layers before the one that makes the map.
        n_filters: channels of the map; the convolutions have a half, a half, a quarter and an eighth of them.
    """

    name: Literal["simple"] = "simple"
    widths: Widths = (256, 512, 1024)
    n_filters: int = Field(256, ge=8, le=8192)

    def build(self, latent_dim: int, image_shape: ImageShape, num_classes: int) -> nn.Module:
        start, half, full = sizes_by_doubling(image_shape, 2)
        n = self.n_filters
        return nn.Sequential(
            *_dense((latent_dim, *self.widths, n * math.prod(start))),
            nn.Unflatten(1, (n, *start)),
            *_convolution(n, n // 2),
            *_convolution(n // 2, n // 2),
            nn.Upsample(half),
            *_convolution(n // 2, n // 4),
            nn.Upsample(full),
            *_convolution(n // 4, n // 8),
            edge(SameConv2d(n // 8, image_shape[0], KERNEL_SIZE)),
            nn.Tanh(),
        ).apply(glorot_uniform)


class SimpleDiscriminator(DiscriminatorNetwork):
    """Dense rectified layers on the flattened image, then one logit.

    Attributes:
        widths: units of each hidden layer.
    """

    name: Literal["simple"] = "simple"
    widths: Widths = (512, 256, 128)

    @property
    def judges_alone(self) -> bool:
        return True

    def build(self, image_shape: ImageShape, num_classes: int) -> nn.Module:
        return _Discriminator((math.prod(image_shape), *self.widths)).apply(glorot_uniform)


class _Discriminator(nn.Module):
    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Flatten(), *_dense(widths))
        self.to_logit = nn.Linear(widths[-1], 1)

    def forward(self, images: Tensor) -> Verdict:
        features: Tensor = self.hidden(images)
        return Verdict(full_precision(self.to_logit, features).flatten(), features)

    def chain(self) -> list[nn.Module]:
        """See `Chained`."""
        return [self.hidden, self.to_logit]


def _dense(widths: tuple[int, ...]) -> list[nn.Module]:
    layers: list[nn.Module] = [
        layer for inputs, outputs in pairwise(widths) for layer in (nn.Linear(inputs, outputs), nn.ReLU())
    ]
    edge(layers[0])
    return layers


def _convolution(in_channels: int, out_channels: int) -> list[nn.Module]:
    return [SameConv2d(in_channels, out_channels, KERNEL_SIZE), nn.ReLU()]
