"""The players of the DCGAN paper, with the normalizations and minibatch features that were proposed for them.

Source: Radford, Metz and Chintala 2015, https://arxiv.org/abs/1511.06434, section 3 and figure 1; what the paper leaves
open is taken from the authors' code, https://github.com/Newmu/dcgan_code (gains of the normalization start as
Normal(1, 0.02)). Virtual batch normalization and minibatch discrimination: Salimans et al. 2016,
https://arxiv.org/abs/1606.03498. Minibatch standard deviation: Karras et al. 2018, https://arxiv.org/abs/1710.10196.

With the defaults, 64x64x3 images and 100 latents G has 18,855,043 trainable parameters, D 17,232,897.

Deviations from the authors' code:
- G's first layer is normalized after the reshape, per channel; theirs per unit.
- Padding is TensorFlow's "same", 1 before and 2 after; theirs is 2 on both sides.
- Layers without normalization have a bias that starts at zero; theirs have none.
- The normalization's epsilon is 1e-5 (theirs: 1e-8), and evaluation uses running statistics with momentum 0.1 (theirs:
  those of the batch).
- T of minibatch discrimination starts with columns of length 1 on average, where the normalized columns of its authors
  start: with Normal(0, 0.05) distances on this many features would be too large for a useful slope.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from twoplayer.core.protocols import DiscriminatorNetwork, GeneratorNetwork, ImageShape
from twoplayer.core.verdict import Verdict
from twoplayer.networks.dcgan import halved_sizes
from twoplayer.ops.batch_norm import BatchNorm
from twoplayer.ops.convolution import SameConv2d, SameConvTranspose2d
from twoplayer.ops.edge import edge
from twoplayer.ops.logits import full_precision
from twoplayer.ops.minibatch_discrimination import MinibatchDiscrimination
from twoplayer.ops.minibatch_stddev import MinibatchStddev
from twoplayer.ops.virtual_batch_norm import VirtualBatchNorm

EPSILON = 1e-5
"""Added to variances."""

INITIAL_DEVIATION = 0.02
"""Standard deviation of all first weights, and of the normalization's first gains around 1."""


class PaperDcganGenerator(GeneratorNetwork):
    """Dense -> (h, w, n_filters) -> `n_blocks` doubling transposed convolutions, filters halving -> tanh image.

    Attributes:
        n_filters: channels of the smallest feature map.
        n_blocks: how often the size doubles; left out, what `fitting_blocks` says (64x64: 4 times, from 4x4; 28x28: 2
            times, from 7x7).
        kernel_size: side of every kernel, pixels.
        normalization: after every layer but the last: "batch"; "virtual", by a reference batch that is drawn once; or
            "none".
        affine: the normalization has a learned scale and shift.
        batch_norm_momentum: share of the new batch in the running statistics.
        reference_size: latents in the reference batch of the virtual normalization. They pass through G with every
            batch.
    """

    name: Literal["paper-dcgan"] = "paper-dcgan"
    n_filters: int = Field(1024, ge=1, le=8192)
    n_blocks: int | None = Field(None, ge=1, le=10)
    kernel_size: int = Field(5, ge=1, le=31)
    normalization: Literal["batch", "virtual", "none"] = "batch"
    affine: bool = True
    batch_norm_momentum: float = Field(0.1, gt=0.0, le=1.0)
    reference_size: int = Field(128, ge=1, le=65_536)

    def build(self, latent_dim: int, image_shape: ImageShape, num_classes: int) -> nn.Module:
        if self.normalization == "virtual":
            return _GeneratorWithReference(self, latent_dim, image_shape)
        return _Generator(self, latent_dim, image_shape)


class PaperDcganDiscriminator(DiscriminatorNetwork):
    """`n_blocks` stride-2 convolutions, filters doubling -> one logit from the whole map.

    Attributes:
        n_filters: channels of the first layer.
        n_blocks: how often the size is halved; left out, what `fitting_blocks` says (64x64: 4 times, to 4x4; 28x28: 2
            times, to 7x7).
        kernel_size: side of every kernel, pixels.
        leaky_relu_slope: slope for negative inputs.
        dropout: probability of dropping a value after each convolution.
        normalization: after every convolution but the first: "batch" or "none".
        affine: the normalization has a learned scale and shift.
        batch_norm_momentum: share of the new batch in the running statistics.
        minibatch: what the logit sees besides the image's own features: "none"; "discrimination", how close the other
            images of its batch are; "standard-deviation", how much the images of its batch differ.
        num_kernels: how many closenesses minibatch discrimination learns.
        kernel_dim: in how many dimensions each of them is measured.
    """

    name: Literal["paper-dcgan"] = "paper-dcgan"
    n_filters: int = Field(128, ge=1, le=8192)
    n_blocks: int | None = Field(None, ge=1, le=10)
    kernel_size: int = Field(5, ge=1, le=31)
    leaky_relu_slope: float = Field(0.2, ge=0.0, le=1.0)
    dropout: float = Field(0.0, ge=0.0, lt=1.0)
    normalization: Literal["batch", "none"] = "batch"
    affine: bool = True
    batch_norm_momentum: float = Field(0.1, gt=0.0, le=1.0)
    minibatch: Literal["none", "discrimination", "standard-deviation"] = "none"
    num_kernels: int = Field(100, ge=1, le=10_000)
    kernel_dim: int = Field(5, ge=1, le=1000)

    @property
    def judges_alone(self) -> bool:
        return self.normalization == "none" and self.minibatch == "none" and self.dropout == 0.0

    def build(self, image_shape: ImageShape, num_classes: int) -> nn.Module:
        return _Discriminator(self, image_shape)


def fitting_blocks(image_shape: ImageShape) -> int:
    """How often the shorter side can be halved, rounding down, with 4 pixels or more left; at least 1.

    >>> [fitting_blocks((3, size, size)) for size in (4, 8, 28, 32, 64)]
    [1, 1, 2, 3, 4]
    """
    return max((min(image_shape[1:]) // 4).bit_length() - 1, 1)


class _Generator(nn.Module):
    def __init__(self, config: PaperDcganGenerator, latent_dim: int, image_shape: ImageShape) -> None:
        super().__init__()
        sizes = halved_sizes(image_shape, config.n_blocks or fitting_blocks(image_shape))[::-1]
        bias = config.normalization == "none"
        channels = config.n_filters
        layers: list[nn.Module] = [
            edge(nn.Linear(latent_dim, channels * math.prod(sizes[0]), bias=bias)),
            nn.Unflatten(1, (channels, *sizes[0])),
            *_normalization(config, channels),
            nn.ReLU(),
        ]
        for size in sizes[1:-1]:
            filters = max(channels // 2, 1)
            layers.append(SameConvTranspose2d(channels, filters, config.kernel_size, 2, size, bias=bias))
            layers += [*_normalization(config, filters), nn.ReLU()]
            channels = filters
        self.blocks = nn.Sequential(*layers)
        self.to_image = edge(SameConvTranspose2d(channels, image_shape[0], config.kernel_size, 2, sizes[-1]))
        self.apply(_initialize)

    def forward(self, latents: Tensor) -> Tensor:
        images: Tensor = self.to_image(self.blocks(latents))
        return images.tanh()

    def chain(self) -> list[nn.Module] | None:
        """See `Chained`."""
        return [self.blocks, self.to_image, nn.Tanh()]


class _GeneratorWithReference(_Generator):
    """Carries the latents of its reference batch along; until `prepare` they are standard normal.

    Attributes:
        preparation_size: how many latents `prepare` takes.
    """

    reference: Tensor

    def __init__(self, config: PaperDcganGenerator, latent_dim: int, image_shape: ImageShape) -> None:
        super().__init__(config, latent_dim, image_shape)
        self.preparation_size = config.reference_size
        self.register_buffer("reference", torch.randn(config.reference_size, latent_dim))

    @torch.no_grad()
    def prepare(self, inputs: Tensor) -> None:
        """Take latents [reference_size, latent_dim] as the reference batch."""
        assert inputs.shape == self.reference.shape, f"{tuple(inputs.shape)} is not {tuple(self.reference.shape)}"
        self.reference.copy_(inputs)

    def forward(self, latents: Tensor) -> Tensor:
        return super().forward(torch.cat([self.reference, latents]))[self.preparation_size :]

    def chain(self) -> None:
        """The reference batch goes along: no chain."""


class _Discriminator(nn.Module):
    def __init__(self, config: PaperDcganDiscriminator, image_shape: ImageShape) -> None:
        super().__init__()
        sizes = halved_sizes(image_shape, config.n_blocks or fitting_blocks(image_shape))
        layers: list[nn.Module] = []
        channels = image_shape[0]
        for block in range(len(sizes) - 1):
            filters = config.n_filters * 2**block
            normalization = [] if block == 0 else _normalization(config, filters)
            layers.append(SameConv2d(channels, filters, config.kernel_size, 2, bias=not normalization))
            layers += [*normalization, nn.LeakyReLU(config.leaky_relu_slope), nn.Dropout(config.dropout)]
            channels = filters
        edge(layers[0])
        self.blocks = nn.Sequential(*layers)
        self.compare, width = _comparison(config, channels, sizes[-1])
        self.to_logit = nn.Linear(width, 1)
        self.apply(_initialize)

    def forward(self, images: Tensor) -> Verdict:
        features: Tensor = self.blocks(images)
        return Verdict(full_precision(self.to_logit, self.compare(features)).flatten(), features.flatten(1))

    def chain(self) -> list[nn.Module]:
        """See `Chained`."""
        return [self.blocks, self.compare, self.to_logit]


def _comparison(config: PaperDcganDiscriminator, channels: int, size: tuple[int, int]) -> tuple[nn.Module, int]:
    """What turns the last map into the logit's inputs, with the features of the minibatch, and their number."""
    num_pixels = math.prod(size)
    width = channels * num_pixels
    if config.minibatch == "discrimination":
        layer = MinibatchDiscrimination(
            width, config.num_kernels, config.kernel_dim, initial_deviation=1.0 / math.sqrt(width)
        )
        return nn.Sequential(nn.Flatten(), layer), width + config.num_kernels
    if config.minibatch == "standard-deviation":
        return nn.Sequential(MinibatchStddev(), nn.Flatten()), width + num_pixels
    return nn.Flatten(), width


def _normalization(config: PaperDcganGenerator | PaperDcganDiscriminator, channels: int) -> list[nn.Module]:
    if isinstance(config, PaperDcganGenerator) and config.normalization == "virtual":
        return [VirtualBatchNorm(channels, config.reference_size, EPSILON, affine=config.affine)]
    if config.normalization == "batch":
        affine = config.affine
        return [BatchNorm(channels, EPSILON, config.batch_norm_momentum, scale=affine, shift=affine)]
    return []


def _initialize(module: nn.Module) -> None:
    """Weights Normal(0, 0.02), gains Normal(1, 0.02), zero biases and shifts."""
    if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, INITIAL_DEVIATION)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    if isinstance(module, BatchNorm) and module.weight is not None:
        nn.init.normal_(module.weight, 1.0, INITIAL_DEVIATION)
