"""Convolutional players for small photographs: DCGAN with an uncropped first layer in G and dropout on D's input.

Source: the reading list's seventh system (a GAN on flower photographs),
https://www.mathworks.com/help/deeplearning/ug/train-generative-adversarial-network.html; the family is Radford, Metz
and Chintala 2015, https://arxiv.org/abs/1511.06434.

With the defaults, 100 latents and 64x64x3 images the generator has 5,134,339 learnables, the discriminator 4,316,545
(running statistics come on top). These counts say that every layer has a bias, those before a normalization too, where
it changes nothing, and that neither the projection nor D's first layer is normalized.

Deviations: none known in the arithmetic at 64x64 pixels. Epsilon 1e-5, the share 0.1 of the new batch in the running
statistics and Glorot-uniform kernels are that framework's defaults, from memory. Other sizes: the smallest map of G has
ceil(size / 8) - 4 pixels a side, at least 1; what the uncropped layer makes too much of is cropped evenly. D's last
kernel covers the whole remaining map, ceil(size / 16).
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
from twoplayer.ops.chains.affine import TransposedConvolution
from twoplayer.ops.chains.link import Link, Setting, joins
from twoplayer.ops.convolution import SameConv2d, SameConvTranspose2d
from twoplayer.ops.edge import edge
from twoplayer.ops.initialization import glorot_uniform
from twoplayer.ops.logits import full_precision
from twoplayer.ops.window import Pair, Window

KERNEL_SIZE = 5
EPSILON = 1e-5


class FlowersGenerator(GeneratorNetwork):
    """Projection -> uncropped stride-1 layer -> three doubling layers, filters halving -> tanh image.

    Attributes:
        n_filters: channels of the last feature map; the projection has eight times as many.
        batch_norm_momentum: share of the new batch in the running statistics.
    """

    name: Literal["flowers"] = "flowers"
    n_filters: int = Field(64, ge=1, le=1024)
    batch_norm_momentum: float = Field(0.1, gt=0.0, le=1.0)

    def build(self, latent_dim: int, image_shape: ImageShape, num_classes: int) -> nn.Module:
        first, second, third, full = sizes_by_doubling(image_shape, 3)
        n = self.n_filters
        start = (8 * n, *(max(side - (KERNEL_SIZE - 1), 1) for side in first))
        return nn.Sequential(
            edge(nn.Linear(latent_dim, math.prod(start))),
            nn.Unflatten(1, start),
            UncroppedConvTranspose2d(8 * n, 4 * n, KERNEL_SIZE, first),
            *self._normalize_and_rectify(4 * n),
            SameConvTranspose2d(4 * n, 2 * n, KERNEL_SIZE, 2, second),
            *self._normalize_and_rectify(2 * n),
            SameConvTranspose2d(2 * n, n, KERNEL_SIZE, 2, third),
            *self._normalize_and_rectify(n),
            edge(SameConvTranspose2d(n, image_shape[0], KERNEL_SIZE, 2, full)),
            nn.Tanh(),
        ).apply(glorot_uniform)

    def _normalize_and_rectify(self, channels: int) -> list[nn.Module]:
        return [BatchNorm(channels, EPSILON, self.batch_norm_momentum), nn.ReLU()]


class FlowersDiscriminator(DiscriminatorNetwork):
    """Dropout on the image -> four stride-2 convolutions, filters doubling -> one logit from the whole map.

    Attributes:
        n_filters: channels of the first feature map.
        dropout: probability of dropping a value of the input image.
        leaky_relu_slope: slope for negative inputs.
        batch_norm_momentum: share of the new batch in the running statistics.
    """

    name: Literal["flowers"] = "flowers"
    n_filters: int = Field(64, ge=1, le=1024)
    dropout: float = Field(0.5, ge=0.0, lt=1.0)
    leaky_relu_slope: float = Field(0.2, ge=0.0, le=1.0)
    batch_norm_momentum: float = Field(0.1, gt=0.0, le=1.0)

    def build(self, image_shape: ImageShape, num_classes: int) -> nn.Module:
        return _Discriminator(self, image_shape).apply(glorot_uniform)


class UncroppedConvTranspose2d(nn.ConvTranspose2d):
    """Transposed convolution of stride 1, nothing cropped: [N, C, h, w] -> [N, K, h + kernel - 1, w + kernel - 1].

    A map that is then larger than `output_size` (H, W) is cropped to it, evenly; an odd pixel goes after.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, output_size: tuple[int, int]) -> None:
        super().__init__(in_channels, out_channels, kernel_size)
        self.output_size = output_size

    def forward(self, images: Tensor, output_size: list[int] | None = None) -> Tensor:
        full = super().forward(images, output_size)
        height, width = self.output_size
        top, left = (full.shape[-2] - height) // 2, (full.shape[-1] - width) // 2
        return full[..., top : top + height, left : left + width].contiguous()


@joins(UncroppedConvTranspose2d)
def _uncropped(layer: UncroppedConvTranspose2d, setting: Setting) -> Link:
    """The adjoint of the convolution from `output_size`, which pads as much as would be cropped."""
    height, width = layer.output_size

    def window(size: Pair) -> Window:
        rows, columns = (size[0] + layer.kernel_size[0] - 1 - height, size[1] + layer.kernel_size[1] - 1 - width)
        return Window(before=(rows // 2, columns // 2), after=(rows - rows // 2, columns - columns // 2))

    return TransposedConvolution(layer.weight, layer.bias, window, lambda _: layer.output_size, setting)


class _Discriminator(nn.Module):
    def __init__(self, config: FlowersDiscriminator, image_shape: ImageShape) -> None:
        super().__init__()
        n, rectify = config.n_filters, nn.LeakyReLU(config.leaky_relu_slope)
        first = edge(SameConv2d(image_shape[0], n, KERNEL_SIZE, 2))
        layers: list[nn.Module] = [nn.Dropout(config.dropout), first, rectify]
        for channels in (n, 2 * n, 4 * n):
            normalize = BatchNorm(2 * channels, EPSILON, config.batch_norm_momentum)
            layers += [SameConv2d(channels, 2 * channels, KERNEL_SIZE, 2), normalize, rectify]
        self.blocks = nn.Sequential(*layers)
        self.to_logit = nn.Conv2d(8 * n, 1, sizes_by_doubling(image_shape, 4)[0])

    def forward(self, images: Tensor) -> Verdict:
        features: Tensor = self.blocks(images)
        return Verdict(full_precision(self.to_logit, features).flatten(), features.flatten(1))

    def chain(self) -> list[nn.Module]:
        """See `Chained`."""
        return [self.blocks, self.to_logit]
