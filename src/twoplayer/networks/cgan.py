"""The players of the first conditional GAN: a rectifier generator and a maxout discriminator that are told a condition.

Source: Mirza and Osindero 2014, https://arxiv.org/abs/1411.1784, section 4.1. G: latents -> 200 rectifiers, condition
-> 1000 rectifiers, both -> 1200 rectifiers -> sigmoid pixels. D: pixels -> 240 maxout units of 5 pieces, condition ->
50 of 5, both -> 240 of 4 -> one logit. Dropout on both players' hidden layers. With the defaults on 28x28x1 and 10
classes the generator (100 latents) has 2,413,984 parameters, the discriminator 1,224,351.

The condition is the label as one-hot numbers, or with `condition_dim` any vector of that length.

Pixels there are in [0, 1]; images here in [-1, 1] are shifted and halved on D's way in and the reverse on G's way out.
First weights are uniform in +-0.05 (G) and +-0.005 (D), as in the code of the GAN that the paper builds on,
https://github.com/goodfeli/adversarial; the paper gives none.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from twoplayer.core.protocols import DiscriminatorNetwork, GeneratorNetwork, Given, ImageShape
from twoplayer.core.verdict import Verdict
from twoplayer.ops.edge import edge
from twoplayer.ops.initialization import uniform_weights
from twoplayer.ops.labels import one_hot, require_classes
from twoplayer.ops.logits import full_precision
from twoplayer.ops.maxout import Maxout


class CganGenerator(GeneratorNetwork):
    """Latents and condition, each through its own hidden layer, then a joint one.

    Attributes:
        latent_width: units of the layer on the latents.
        condition_width: units of the layer on the condition.
        joint_width: units of the layer on both.
        dropout: probability of dropping a hidden value.
        initial_range: first weights are uniform within this on both sides of zero.
        condition_dim: numbers in the condition; 0 takes labels instead.
    """

    name: Literal["cgan"] = "cgan"
    latent_width: int = Field(200, ge=1, le=100_000)
    condition_width: int = Field(1000, ge=1, le=100_000)
    joint_width: int = Field(1200, ge=1, le=100_000)
    dropout: float = Field(0.5, ge=0.0, lt=1.0)
    initial_range: float = Field(0.05, gt=0.0)
    condition_dim: int = Field(0, ge=0, le=1_000_000)

    @property
    def takes(self) -> tuple[Given, ...]:
        return ("condition",) if self.condition_dim else ("labels",)

    def build(self, latent_dim: int, image_shape: ImageShape, num_classes: int) -> nn.Module:
        if not self.condition_dim:
            require_classes(num_classes, "the generator")
        network = _Generator(self, latent_dim, image_shape, self.condition_dim or num_classes)
        return network.apply(partial(uniform_weights, bound=self.initial_range))


class CganDiscriminator(DiscriminatorNetwork):
    """Pixels and condition, each through its own maxout layer, then a joint one.

    Attributes:
        image_units: maxout units on the pixels.
        image_pieces: pieces of each.
        condition_units: maxout units on the condition.
        condition_pieces: pieces of each.
        joint_units: maxout units on both.
        joint_pieces: pieces of each.
        dropout: probability of dropping a hidden value.
        initial_range: first weights are uniform within this on both sides of zero.
        condition_dim: numbers in the condition; 0 takes labels instead.
    """

    name: Literal["cgan"] = "cgan"
    image_units: int = Field(240, ge=1, le=100_000)
    image_pieces: int = Field(5, ge=1, le=100)
    condition_units: int = Field(50, ge=1, le=100_000)
    condition_pieces: int = Field(5, ge=1, le=100)
    joint_units: int = Field(240, ge=1, le=100_000)
    joint_pieces: int = Field(4, ge=1, le=100)
    dropout: float = Field(0.5, ge=0.0, lt=1.0)
    initial_range: float = Field(0.005, gt=0.0)
    condition_dim: int = Field(0, ge=0, le=1_000_000)

    @property
    def takes(self) -> tuple[Given, ...]:
        return ("condition",) if self.condition_dim else ("labels",)

    @property
    def judges_alone(self) -> bool:
        return True

    def build(self, image_shape: ImageShape, num_classes: int) -> nn.Module:
        if not self.condition_dim:
            require_classes(num_classes, "the discriminator")
        network = _Discriminator(self, image_shape, self.condition_dim or num_classes)
        return network.apply(partial(uniform_weights, bound=self.initial_range))


class _Generator(nn.Module):
    def __init__(self, config: CganGenerator, latent_dim: int, image_shape: ImageShape, condition_dim: int) -> None:
        super().__init__()
        self.condition_dim = condition_dim
        self.from_latents = nn.Sequential(edge(nn.Linear(latent_dim, config.latent_width)), nn.ReLU())
        self.from_condition = nn.Sequential(edge(nn.Linear(condition_dim, config.condition_width)), nn.ReLU())
        self.joint = nn.Sequential(
            nn.Dropout(config.dropout),
            nn.Linear(config.latent_width + config.condition_width, config.joint_width),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            edge(nn.Linear(config.joint_width, math.prod(image_shape))),
            nn.Sigmoid(),
            nn.Unflatten(1, image_shape),
        )

    def forward(self, latents: Tensor, *, labels: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        told = _vector(labels, condition, self.condition_dim, latents)
        pixels: Tensor = self.joint(torch.cat([self.from_latents(latents), self.from_condition(told)], 1))
        return 2.0 * pixels - 1.0


class _Discriminator(nn.Module):
    def __init__(self, config: CganDiscriminator, image_shape: ImageShape, condition_dim: int) -> None:
        super().__init__()
        self.condition_dim = condition_dim
        self.from_pixels = edge(Maxout(math.prod(image_shape), config.image_units, config.image_pieces))
        self.from_condition = edge(Maxout(condition_dim, config.condition_units, config.condition_pieces))
        self.dropout = nn.Dropout(config.dropout)
        self.joint = Maxout(config.image_units + config.condition_units, config.joint_units, config.joint_pieces)
        self.to_logit = nn.Linear(config.joint_units, 1)

    def forward(self, images: Tensor, *, labels: Tensor | None = None, condition: Tensor | None = None) -> Verdict:
        told = _vector(labels, condition, self.condition_dim, images)
        pixels = images.flatten(1).add(1.0).mul(0.5)
        both = torch.cat([self.from_pixels(pixels), self.from_condition(told)], 1)
        features: Tensor = self.joint(self.dropout(both))
        return Verdict(full_precision(self.to_logit, self.dropout(features)).flatten(), features)


def _vector(labels: Tensor | None, condition: Tensor | None, dim: int, like: Tensor) -> Tensor:
    if condition is not None:
        return condition.flatten(1)
    assert labels is not None, "a conditional network was told nothing"
    return one_hot(labels, dim, like)
