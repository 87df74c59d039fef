"""The players of one level of a Laplacian pyramid: G adds detail to a coarse image, D judges the sum.

Source: Denton et al. 2015, https://arxiv.org/abs/1506.05751, section 3, with the layers of the code that was published
for CIFAR-10. G: one or more planes of latents, a class plane (label -> linear -> rectifier) and the coarse image, then
convolutions 7, 7, 5 with 64 planes and rectifiers; its output is the residual. D: the image and a class plane, then
convolution 5, convolution 5 with stride 2, both unpadded, dropout, and one logit. With the defaults on 32x32x3 and 10
classes the generator (1,024 latents) has 232,579 parameters, the discriminator 129,409.

There D receives the residual and adds the coarse image to it; here G adds it, so that every generator gives images: D
sees the same sum. `judge_condition` shows D the coarse image too, as the paper's equation 7 writes it.

Deviations: on maps too small for an unpadded kernel D pads them, so that any size works. First weights are torch's own,
uniform within 1 / sqrt(inputs), as in the original's framework.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from twoplayer.core.errors import UserError
from twoplayer.core.protocols import DiscriminatorNetwork, GeneratorNetwork, Given, ImageShape
from twoplayer.core.verdict import Verdict
from twoplayer.ops.convolution import SameConv2d, same_output_size
from twoplayer.ops.edge import edge
from twoplayer.ops.labels import classes_taken, one_hot
from twoplayer.ops.logits import full_precision


class LapganGenerator(GeneratorNetwork):
    """Latent planes, class plane and coarse image to that image with detail.

    Attributes:
        n_filters: planes of the hidden convolutions.
        kernel_sizes: side of each kernel, pixels; the last one makes the residual.
        conditional: take labels.
    """

    name: Literal["lapgan"] = "lapgan"
    n_filters: int = Field(64, ge=1, le=8192)
    kernel_sizes: tuple[int, ...] = Field((7, 7, 5), min_length=1, max_length=20, strict=False)
    conditional: bool = True

    @property
    def takes(self) -> tuple[Given, ...]:
        return ("labels", "condition") if self.conditional else ("condition",)

    def latents_for(self, image_shape: ImageShape) -> int | None:
        """One plane; more of them are possible."""
        return image_shape[1] * image_shape[2]

    def build(self, latent_dim: int, image_shape: ImageShape, num_classes: int) -> nn.Module:
        pixels = image_shape[1] * image_shape[2]
        if latent_dim % pixels:
            size = f"{image_shape[1]}x{image_shape[2]}"
            raise UserError(f"latents.dim={latent_dim} does not fill planes of {size}; make it {pixels}")
        classes = classes_taken(self.conditional, num_classes, "the generator")
        return _Generator(self, latent_dim // pixels, image_shape, classes)


class LapganDiscriminator(DiscriminatorNetwork):
    """Image, class plane and, if asked, the coarse image to one logit.

    Attributes:
        n_filters: planes of both convolutions.
        kernel_size: side of both kernels, pixels.
        dropout: probability of dropping a value of the last map.
        conditional: take labels.
        judge_condition: see the coarse image too.
    """

    name: Literal["lapgan"] = "lapgan"
    n_filters: int = Field(64, ge=1, le=8192)
    kernel_size: int = Field(5, ge=1, le=31)
    dropout: float = Field(0.5, ge=0.0, lt=1.0)
    conditional: bool = True
    judge_condition: bool = False

    @property
    def takes(self) -> tuple[Given, ...]:
        labels: tuple[Given, ...] = ("labels",) if self.conditional else ()
        return (*labels, "condition") if self.judge_condition else labels

    @property
    def judges_alone(self) -> bool:
        return True

    def build(self, image_shape: ImageShape, num_classes: int) -> nn.Module:
        classes = classes_taken(self.conditional, num_classes, "the discriminator")
        return _Discriminator(self, image_shape, classes)


class _ClassPlane(nn.Module):
    """Labels to one learned plane [N, 1, H, W]."""

    def __init__(self, num_classes: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.linear = edge(nn.Linear(num_classes, math.prod(size)))
        self.size = size

    def forward(self, labels: Tensor) -> Tensor:
        plane: Tensor = self.linear(one_hot(labels, self.num_classes, self.linear.weight)).relu()
        return plane.reshape(-1, 1, *self.size)


class _Generator(nn.Module):
    def __init__(self, config: LapganGenerator, latent_planes: int, image_shape: ImageShape, num_classes: int) -> None:
        super().__init__()
        self.plane_shape = (latent_planes, image_shape[1], image_shape[2])
        self.class_plane = _ClassPlane(num_classes, image_shape[1:]) if num_classes else None
        channels = latent_planes + image_shape[0] + (1 if num_classes else 0)
        layers: list[nn.Module] = []
        for size in config.kernel_sizes[:-1]:
            layers += [SameConv2d(channels, config.n_filters, size), nn.ReLU()]
            channels = config.n_filters
        layers.append(SameConv2d(channels, image_shape[0], config.kernel_sizes[-1]))
        edge(layers[0])
        if len(config.kernel_sizes) > 1:
            edge(layers[-1])
        self.to_residual = nn.Sequential(*layers)

    def forward(self, latents: Tensor, *, condition: Tensor, labels: Tensor | None = None) -> Tensor:
        planes = [latents.unflatten(1, self.plane_shape), condition]
        if self.class_plane is not None:
            planes.append(self.class_plane(labels))
        residual: Tensor = self.to_residual(torch.cat(planes, 1))
        return condition + residual


class _Discriminator(nn.Module):
    def __init__(self, config: LapganDiscriminator, image_shape: ImageShape, num_classes: int) -> None:
        super().__init__()
        channels, height, width = image_shape
        self.class_plane = _ClassPlane(num_classes, (height, width)) if num_classes else None
        channels = channels * (2 if config.judge_condition else 1) + (1 if num_classes else 0)
        first, size = _convolution(channels, config, (height, width), 1)
        edge(first)
        second, size = _convolution(config.n_filters, config, size, 2)
        self.features = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Flatten())
        self.dropout = nn.Dropout(config.dropout)
        self.to_logit = nn.Linear(config.n_filters * math.prod(size), 1)

    def forward(self, images: Tensor, *, labels: Tensor | None = None, condition: Tensor | None = None) -> Verdict:
        planes = [images] if condition is None else [images, condition]
        if self.class_plane is not None:
            planes.append(self.class_plane(labels))
        features: Tensor = self.features(torch.cat(planes, 1))
        return Verdict(full_precision(self.to_logit, self.dropout(features)).flatten(), features)


def _convolution(
    channels: int, config: LapganDiscriminator, size: tuple[int, int], stride: int
) -> tuple[nn.Module, tuple[int, int]]:
    """An unpadded convolution where the map is large enough for it, and the size of what comes out."""
    if min(size) < config.kernel_size:
        height, width = (same_output_size(pixels, stride) for pixels in size)
        return SameConv2d(channels, config.n_filters, config.kernel_size, stride), (height, width)
    height, width = ((pixels - config.kernel_size) // stride + 1 for pixels in size)
    return nn.Conv2d(channels, config.n_filters, config.kernel_size, stride), (height, width)
