"""Convolutional players in the manner of DCGAN, as the WGAN-GP tutorial system on MNIST draws them.

Source: the reading list's first system (WGAN-GP on MNIST with a DCGAN, Keras layers and defaults); the architecture
family is Radford, Metz and Chintala 2015, https://arxiv.org/abs/1511.06434.

With the defaults and 28x28x1 images the generator (20 latents) has 817,824 parameters with its running statistics,
804,832 trainable; the discriminator 1,040,385 and 1,039,489.

Conditional players take the label as one-hot numbers beside the latents and as one plane per class beside the image.

Deviations: none in the arithmetic. `batch_norm: false` is ours; it leaves the normalization out and gives the layers
before it the bias that it made superfluous.
"""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from twoplayer.core.errors import UserError
from twoplayer.core.protocols import DiscriminatorNetwork, GeneratorNetwork, Given, ImageShape
from twoplayer.core.verdict import Verdict
from twoplayer.networks.heads import class_logits
from twoplayer.ops.batch_norm import BatchNorm
from twoplayer.ops.convolution import SameConv2d, SameConvTranspose2d, same_output_size
from twoplayer.ops.edge import edge
from twoplayer.ops.initialization import glorot_uniform
from twoplayer.ops.labels import classes_named, classes_taken, label_planes, one_hot
from twoplayer.ops.logits import full_precision


class DcganGenerator(GeneratorNetwork):
    """Dense -> (h, w, n_filters) -> stride-1 block -> `n_blocks` doubling blocks, filters halving -> tanh image.

    Attributes:
        n_filters: channels of the smallest feature map.
        n_blocks: how often the size doubles; the smallest map has ceil(size / 2^n_blocks) pixels a side.
        kernel_size: side of every kernel, pixels.
        leaky_relu_slope: slope for negative inputs.
        batch_norm: normalize after every layer but the last.
        batch_norm_momentum: share of the new batch in the running statistics.
        conditional: take labels.
    """

    name: Literal["dcgan"] = "dcgan"
    n_filters: int = Field(128, ge=1, le=8192)
    n_blocks: int = Field(2, ge=0, le=10)
    kernel_size: int = Field(5, ge=1, le=31)
    leaky_relu_slope: float = Field(0.3, ge=0.0, le=1.0)
    batch_norm: bool = True
    batch_norm_momentum: float = Field(0.01, gt=0.0, le=1.0)
    conditional: bool = False

    @property
    def takes(self) -> tuple[Given, ...]:
        return ("labels",) if self.conditional else ()

    def build(self, latent_dim: int, image_shape: ImageShape, num_classes: int) -> nn.Module:
        classes = classes_taken(self.conditional, num_classes, "the generator")
        return _Generator(self, latent_dim, image_shape, classes)


class DcganDiscriminator(DiscriminatorNetwork):
    """Stride-1 convolution -> `n_blocks` stride-2 blocks, filters doubling -> one logit from the whole map.

    Attributes:
        n_filters: channels of the first feature map.
        n_blocks: how often the size is halved.
        kernel_size: side of every kernel but the last, pixels; the last covers the whole remaining map.
        leaky_relu_slope: slope for negative inputs.
        dropout: probability of dropping a value after each stride-2 block.
        batch_norm: normalize after every layer but the last.
        batch_norm_momentum: share of the new batch in the running statistics.
        conditional: take labels.
        class_logits: name classes too, for `auxiliary-classifier`.
    """

    name: Literal["dcgan"] = "dcgan"
    n_filters: int = Field(64, ge=1, le=8192)
    n_blocks: int = Field(2, ge=0, le=10)
    kernel_size: int = Field(5, ge=1, le=31)
    leaky_relu_slope: float = Field(0.3, ge=0.0, le=1.0)
    dropout: float = Field(0.3, ge=0.0, lt=1.0)
    batch_norm: bool = True
    batch_norm_momentum: float = Field(0.01, gt=0.0, le=1.0)
    conditional: bool = False
    class_logits: bool = False

    @model_validator(mode="after")
    def _names_what_it_is_not_told(self) -> Self:
        if self.conditional and self.class_logits:
            raise ValueError("class_logits: a D that is told the label at its input has nothing to name")
        return self

    @property
    def takes(self) -> tuple[Given, ...]:
        return ("labels",) if self.conditional else ()

    @property
    def judges_alone(self) -> bool:
        return not self.batch_norm

    @property
    def names_classes(self) -> bool:
        return self.class_logits

    def build(self, image_shape: ImageShape, num_classes: int) -> nn.Module:
        classes = classes_taken(self.conditional, num_classes, "the discriminator")
        named = classes_named(self.class_logits, num_classes)
        return _Discriminator(self, image_shape, classes, named)


def halved_sizes(image_shape: ImageShape, n_blocks: int) -> list[tuple[int, int]]:
    """(height, width) after 0, 1, ... n_blocks halvings, rounding up.

    Raises UserError when a halving finds a single pixel.
    """
    sizes = [(image_shape[1], image_shape[2])]
    for block in range(n_blocks):
        if sizes[-1] == (1, 1):
            size = f"{image_shape[1]}x{image_shape[2]}"
            raise UserError(f"n_blocks={n_blocks} is too many for {size} images: after {block} a single pixel is left")
        sizes.append((same_output_size(sizes[-1][0], 2), same_output_size(sizes[-1][1], 2)))
    return sizes


class _Generator(nn.Module):
    def __init__(self, config: DcganGenerator, latent_dim: int, image_shape: ImageShape, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        sizes = halved_sizes(image_shape, config.n_blocks)[::-1]
        bias = not config.batch_norm
        channels = config.n_filters
        self.start_shape = (channels, *sizes[0])
        width = channels * sizes[0][0] * sizes[0][1]
        project = edge(nn.Linear(latent_dim + num_classes, width, bias=bias))
        self.project = nn.Sequential(project, *_normalize_and_rectify(config, width))
        layers: list[nn.Module] = []
        for block, size in enumerate(sizes):
            filters = max(config.n_filters // 2**block, 1)
            stride = 1 if block == 0 else 2
            layers.append(SameConvTranspose2d(channels, filters, config.kernel_size, stride, size, bias=bias))
            layers.extend(_normalize_and_rectify(config, filters))
            channels = filters
        self.blocks = nn.Sequential(*layers)
        to_image = SameConvTranspose2d(channels, image_shape[0], config.kernel_size, 1, sizes[-1], bias=False)
        self.to_image = edge(to_image)
        self.apply(glorot_uniform)

    def forward(self, latents: Tensor, *, labels: Tensor | None = None) -> Tensor:
        if labels is not None:
            latents = torch.cat([latents, one_hot(labels, self.num_classes, latents)], 1)
        hidden: Tensor = self.project(latents).unflatten(1, self.start_shape)
        images: Tensor = self.to_image(self.blocks(hidden))
        return images.tanh()

    def chain(self) -> list[nn.Module] | None:
        """See `Chained`."""
        if self.num_classes:
            return None
        return [self.project, nn.Unflatten(1, self.start_shape), self.blocks, self.to_image, nn.Tanh()]


class _Discriminator(nn.Module):
    def __init__(self, config: DcganDiscriminator, image_shape: ImageShape, num_classes: int, num_named: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        channels = config.n_filters
        layers: list[nn.Module] = [edge(SameConv2d(image_shape[0] + num_classes, channels, config.kernel_size))]
        layers.extend(_normalize_and_rectify(config, channels))
        for _ in range(config.n_blocks):
            layers.append(SameConv2d(channels, channels * 2, config.kernel_size, stride=2))
            channels *= 2
            layers.extend(_normalize_and_rectify(config, channels))
            layers.append(nn.Dropout(config.dropout))
        self.blocks = nn.Sequential(*layers)
        last = halved_sizes(image_shape, config.n_blocks)[-1]
        self.to_logit = nn.Conv2d(channels, 1, last)
        self.to_classes = nn.Conv2d(channels, num_named, last) if num_named else None
        self.apply(glorot_uniform)

    def forward(self, images: Tensor, *, labels: Tensor | None = None) -> Verdict:
        if labels is not None:
            images = torch.cat([images, label_planes(labels, self.num_classes, images)], 1)
        features: Tensor = self.blocks(images)
        logits = full_precision(self.to_logit, features).flatten()
        return Verdict(logits, features.flatten(1), class_logits(self.to_classes, features))

    def chain(self) -> list[nn.Module] | None:
        """See `Chained`."""
        return None if self.num_classes or self.to_classes is not None else [self.blocks, self.to_logit]


def _normalize_and_rectify(config: DcganGenerator | DcganDiscriminator, channels: int) -> list[nn.Module]:
    rectify = nn.LeakyReLU(config.leaky_relu_slope)
    if not config.batch_norm:
        return [rectify]
    return [BatchNorm(channels, momentum=config.batch_norm_momentum), rectify]
