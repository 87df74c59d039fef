"""Players without normalization: inverted bottlenecks with grouped convolutions, bilinear resampling.

Source: Huang et al. 2024 ("The GAN is dead; long live the GAN!"), https://arxiv.org/abs/2501.05441, configuration E,
and the authors' code, https://github.com/brownvc/R3GAN. A block is a 1x1 convolution to more channels, a grouped 3x3
and a 1x1 back, with biased leaky rectifiers between them; past all of it goes its own input. Both players have the same
levels, one for each size of a map. G begins with a learned map whose channels z scales, and ends with a 1x1
convolution; D begins with one and sums up each channel of its last map with weights of its own. First weights (Zhang et
al. 2019, https://arxiv.org/abs/1901.09321): the last layer of a block is zero, the two others are scaled by L^(-1/4)
for a player of L blocks.

The CIFAR-10 players of that code have 768 channels on every map, groups of 16 and two blocks on each level.

Conditional players: G has a vector of each class beside z; D adds the projection of its features on another (Miyato and
Koyama 2018, https://arxiv.org/abs/1802.05637).

Deviations: G ends in tanh, because images here are in [-1, 1]. At a border resampling (weights 1, 3, 3, 1) takes the
mean of the pixels that are there; the authors' takes zeros for those that are not. The smallest map has 4 to 7 pixels a
side, so that 28x28 fits too. G's vectors of K classes begin as Normal(0, 1), the authors' as Normal(0, 1 / K). The
authors' conditional D has the projection alone, of a dense function of the features; here it is of the features, and
added to the logit, as in its source.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal, Self, TypeVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from twoplayer.core.catalogue import Settings
from twoplayer.core.errors import UserError
from twoplayer.core.protocols import DiscriminatorNetwork, GeneratorNetwork, Given, ImageShape
from twoplayer.networks.heads import FeatureDiscriminator
from twoplayer.ops.class_projection import ClassProjection
from twoplayer.ops.edge import edge
from twoplayer.ops.labels import classes_named, classes_taken
from twoplayer.ops.resampling import BilinearHalving
from twoplayer.ops.residual import Residual

SMALLEST_SIDE = 4
LEAKY_SLOPE = 0.2
LEAKY_GAIN = math.sqrt(2.0 / (1.0 + LEAKY_SLOPE**2))
"""Keeps the mean square through a layer and a leaky rectifier: He et al. 2015, https://arxiv.org/abs/1502.01852."""

Width = Annotated[int, Field(ge=1, le=8192)]
Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)
Depth = Annotated[int, Field(ge=0, le=50)]


@dataclass(frozen=True)
class Level:
    """The maps of one size.

    Attributes:
        size: (height, width).
        width: channels.
        num_blocks: blocks that work on them.
    """

    size: tuple[int, int]
    width: int
    num_blocks: int


class Trunk(Settings):
    """What both players have.

    Attributes:
        widths: channels of each level, smallest maps first; one number stands for all levels.
        blocks: residual blocks of each level, likewise.
        expansion: how many times as many channels the middle of a block has.
        group_size: channels in a group of the middle convolution.
        conditional: take labels.
    """

    widths: Annotated[tuple[Width, ...], Field(strict=False, min_length=1, max_length=10)] = (128,)
    blocks: Annotated[tuple[Depth, ...], Field(strict=False, min_length=1, max_length=10)] = (2,)
    expansion: int = Field(2, ge=1, le=16)
    group_size: int = Field(16, ge=1, le=8192)
    conditional: bool = False

    @model_validator(mode="after")
    def _whole_groups(self) -> Self:
        for width in self.widths:
            if width * self.expansion % self.group_size:
                raise ValueError(
                    f"{width} channels times expansion={self.expansion} are {width * self.expansion}, "
                    f"which groups of group_size={self.group_size} do not divide"
                )
        return self

    @property
    def takes(self) -> tuple[Given, ...]:
        """See `GeneratorNetwork` and `DiscriminatorNetwork`."""
        return ("labels",) if self.conditional else ()

    def levels(self, image_shape: ImageShape) -> list[Level]:
        """From the smallest maps to those of the images' size. Raises UserError where they do not fit."""
        sizes = exact_sizes(image_shape)
        widths, blocks = (self._per_level(name, sizes) for name in ("widths", "blocks"))
        return [Level(*level) for level in zip(sizes, widths, blocks, strict=True)]

    def _per_level(self, name: str, sizes: list[tuple[int, int]]) -> list[int]:
        numbers: tuple[int, ...] = getattr(self, name)
        if len(numbers) not in (1, len(sizes)):
            levels = ", ".join(f"{width}x{height}" for height, width in sizes)
            raise UserError(
                f"r3gan: {name} has {len(numbers)} numbers, but there are {len(sizes)} levels ({levels}): "
                "give one number for each, or one for all"
            )
        return list(numbers) * len(sizes) if len(numbers) == 1 else list(numbers)

    def stage(self, level: Level, num_blocks: int) -> list[nn.Module]:
        """The blocks of a level; `num_blocks` counts those of the whole player."""
        return [self._block(level.width, num_blocks) for _ in range(level.num_blocks)]

    def _block(self, width: int, num_blocks: int) -> nn.Module:
        inner, gain = width * self.expansion, LEAKY_GAIN * num_blocks**-0.25
        grouped = nn.Conv2d(inner, inner, 3, padding=1, groups=inner // self.group_size)
        branch = [begin(nn.Conv2d(width, inner, 1), gain), nn.LeakyReLU(LEAKY_SLOPE)]
        branch += [begin(grouped, gain), nn.LeakyReLU(LEAKY_SLOPE), begin(pixelwise(inner, width), 0.0)]
        return Residual(nn.Sequential(*branch))


class R3ganGenerator(Trunk, GeneratorNetwork):
    """A learned map, scaled by z -> blocks -> (twice the size -> blocks) -> tanh image.

    Attributes:
        embedding_dim: numbers beside z that say the class, where labels are taken.
    """

    name: Literal["r3gan"] = "r3gan"
    embedding_dim: int = Field(64, ge=1, le=8192)

    def build(self, latent_dim: int, image_shape: ImageShape, num_classes: int) -> nn.Module:
        classes = classes_taken(self.conditional, num_classes, "the generator")
        return _Generator(self, latent_dim, image_shape, classes)


class R3ganDiscriminator(Trunk, DiscriminatorNetwork):
    """Image -> blocks -> (half the size -> blocks) -> one weight for each place and channel -> one logit.

    Attributes:
        class_logits: name classes too, for `auxiliary-classifier`.
    """

    name: Literal["r3gan"] = "r3gan"
    class_logits: bool = False

    @property
    def judges_alone(self) -> bool:
        return True

    @property
    def names_classes(self) -> bool:
        return self.class_logits

    def build(self, image_shape: ImageShape, num_classes: int) -> nn.Module:
        classes = classes_taken(self.conditional, num_classes, "the discriminator")
        levels = self.levels(image_shape)[::-1]
        width, named = levels[-1].width, classes_named(self.class_logits, num_classes)
        return FeatureDiscriminator(
            nn.Sequential(*self._layers(levels, image_shape[0])),
            begin(nn.Linear(width, 1, bias=False), 1.0),
            ClassProjection(width, classes) if classes else None,
            begin(nn.Linear(width, named), 1.0) if named else None,
        )

    def _layers(self, levels: list[Level], channels: int) -> list[nn.Module]:
        """From images to one number for each channel of the smallest maps."""
        num_blocks = sum(level.num_blocks for level in levels)
        first = edge(pixelwise(channels, levels[0].width))
        layers: list[nn.Module] = [first, *self.stage(levels[0], num_blocks)]
        for large, small in pairwise(levels):
            layers.append(BilinearHalving())
            layers += [pixelwise(large.width, small.width)] if small.width != large.width else []
            layers += self.stage(small, num_blocks)
        width, size = levels[-1].width, levels[-1].size
        return [*layers, begin(nn.Conv2d(width, width, size, groups=width, bias=False), 1.0), nn.Flatten()]


def exact_sizes(image_shape: ImageShape) -> list[tuple[int, int]]:
    """(height, width) from a map whose smaller side is 4 to 7 to the image, each exactly twice the one before.

    >>> exact_sizes((1, 28, 28)), exact_sizes((3, 16, 32))
    ([(7, 7), (14, 14), (28, 28)], [(4, 8), (8, 16), (16, 32)])

    Raises UserError for other images.
    """
    height, width = image_shape[1:]
    doublings = max((min(height, width) // SMALLEST_SIDE).bit_length() - 1, 0)
    factor = 2**doublings
    if min(height, width) < SMALLEST_SIDE or height % factor or width % factor:
        fitting = max(round(min(height, width) / factor) * factor, SMALLEST_SIDE)
        raise UserError(
            f"images of {width}x{height} pixels do not fit 'r3gan', whose maps double exactly from 4 to 7 pixels a "
            f"side: for example data.image_size={fitting}"
        )
    return [(height // 2**step, width // 2**step) for step in range(doublings, -1, -1)]


def begin(layer: Layer, gain: float) -> Layer:
    """The layer with normal weights that multiply the mean square of independent inputs by gain^2, and zero biases."""
    nn.init.normal_(layer.weight, std=gain / math.sqrt(layer.weight[0].numel()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def pixelwise(inputs: int, outputs: int) -> nn.Conv2d:
    """A 1x1 convolution without a bias."""
    return begin(nn.Conv2d(inputs, outputs, 1, bias=False), 1.0)


class _ScaledMap(nn.Module):
    """A learned map whose channels are scaled by dense functions of the latents: [N, inputs] to [N, C, H, W]."""

    def __init__(self, inputs: int, level: Level) -> None:
        super().__init__()
        self.scale = edge(begin(nn.Linear(inputs, level.width, bias=False), 1.0))
        self.map = nn.Parameter(torch.randn(level.width, *level.size))

    def forward(self, latents: Tensor) -> Tensor:
        scales: Tensor = self.scale(latents)
        return scales[:, :, None, None] * self.map


class _Generator(nn.Module):
    def __init__(self, config: R3ganGenerator, latent_dim: int, image_shape: ImageShape, num_classes: int) -> None:
        super().__init__()
        levels = config.levels(image_shape)
        num_blocks = sum(level.num_blocks for level in levels)
        told = config.embedding_dim if num_classes else 0
        self.classes = nn.Embedding(num_classes, told) if num_classes else None
        self.start = _ScaledMap(latent_dim + told, levels[0])
        layers = config.stage(levels[0], num_blocks)
        for small, large in pairwise(levels):
            layers += [pixelwise(small.width, large.width)] if small.width != large.width else []
            layers += [nn.Upsample(large.size, mode="bilinear"), *config.stage(large, num_blocks)]
        self.blocks = nn.Sequential(*layers)
        self.to_image = edge(pixelwise(levels[-1].width, image_shape[0]))

    def forward(self, latents: Tensor, *, labels: Tensor | None = None) -> Tensor:
        if self.classes is not None:
            assert labels is not None, "a conditional network was told nothing"
            latents = torch.cat([latents, self.classes(labels).to(latents.dtype)], 1)
        images: Tensor = self.to_image(self.blocks(self.start(latents)))
        return images.tanh()
