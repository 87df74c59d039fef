"""Fully connected players, as in the first GAN.

Source: Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661, section 5: hidden rectifier layers in G, and a
discriminator of hidden layers with dropout. The paper's D has maxout units (Goodfellow et al. 2013,
https://arxiv.org/abs/1302.4389); here both players have leaky rectifiers.

Conditional players take the label as one-hot numbers beside the latents and beside the pixels, as in Mirza and Osindero
2014, https://arxiv.org/abs/1411.1784. Minibatch discrimination: Salimans et al. 2016, https://arxiv.org/abs/1606.03498.

Deviations: G ends in tanh, because images here are in [-1, 1]; the paper's sigmoid on [0, 1] is the same map rescaled.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from twoplayer.core.protocols import DiscriminatorNetwork, GeneratorNetwork, Given, ImageShape
from twoplayer.core.verdict import Verdict
from twoplayer.networks.heads import class_logits
from twoplayer.ops.batch_norm import BatchNorm
from twoplayer.ops.edge import edge
from twoplayer.ops.initialization import glorot_uniform
from twoplayer.ops.labels import classes_named, classes_taken, one_hot
from twoplayer.ops.logits import full_precision
from twoplayer.ops.minibatch_discrimination import MinibatchDiscrimination

Units = Annotated[int, Field(ge=1, le=100_000)]
Widths = Annotated[tuple[Units, ...], Field(strict=False, min_length=1, max_length=50)]
"""Units of each hidden layer, in order."""


class MlpGenerator(GeneratorNetwork):
    """Hidden layers with leaky rectifiers, then tanh pixels.

    Attributes:
        widths: units of each hidden layer.
        leaky_relu_slope: slope for negative inputs; 0 is the plain rectifier.
        batch_norm: normalize after each hidden layer.
        batch_norm_momentum: share of the new batch in the running statistics.
        conditional: take labels.
    """

    name: Literal["mlp"] = "mlp"
    widths: Widths = (256, 512)
    leaky_relu_slope: float = Field(0.0, ge=0.0, le=1.0)
    batch_norm: bool = False
    batch_norm_momentum: float = Field(0.1, gt=0.0, le=1.0)
    conditional: bool = False

    @property
    def takes(self) -> tuple[Given, ...]:
        return ("labels",) if self.conditional else ()

    def build(self, latent_dim: int, image_shape: ImageShape, num_classes: int) -> nn.Module:
        classes = classes_taken(self.conditional, num_classes, "the generator")
        layers = self._layers(latent_dim + classes, image_shape)
        return _LabeledGenerator(layers, classes) if self.conditional else layers

    def _layers(self, num_inputs: int, image_shape: ImageShape) -> nn.Module:
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise((num_inputs, *self.widths)):
            layers.append(nn.Linear(inputs, outputs, bias=not self.batch_norm))
            if self.batch_norm:
                layers.append(BatchNorm(outputs, momentum=self.batch_norm_momentum))
            layers.append(nn.LeakyReLU(self.leaky_relu_slope))
        edge(layers[0])
        last = edge(nn.Linear(self.widths[-1], math.prod(image_shape)))
        layers += [last, nn.Tanh(), nn.Unflatten(1, image_shape)]
        return nn.Sequential(*layers).apply(glorot_uniform)


class MlpDiscriminator(DiscriminatorNetwork):
    """Hidden layers on the flattened image, each followed by dropout, then one logit.

    Attributes:
        widths: units of each hidden layer.
        leaky_relu_slope: slope for negative inputs; 0 is the plain rectifier.
        dropout: probability of dropping a hidden value.
        minibatch: what the logit sees besides the image's own features: "none"; "discrimination", how close the other
            images of its batch are.
        num_kernels: how many closenesses minibatch discrimination learns.
        kernel_dim: in how many dimensions each of them is measured.
        conditional: take labels.
        class_logits: name classes too, for `auxiliary-classifier`.
    """

    name: Literal["mlp"] = "mlp"
    widths: Widths = (512, 256)
    leaky_relu_slope: float = Field(0.2, ge=0.0, le=1.0)
    dropout: float = Field(0.0, ge=0.0, lt=1.0)
    minibatch: Literal["none", "discrimination"] = "none"
    num_kernels: int = Field(100, ge=1, le=10_000)
    kernel_dim: int = Field(5, ge=1, le=1000)
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
        return self.minibatch == "none"

    @property
    def names_classes(self) -> bool:
        return self.class_logits

    def build(self, image_shape: ImageShape, num_classes: int) -> nn.Module:
        classes = classes_taken(self.conditional, num_classes, "the discriminator")
        named = classes_named(self.class_logits, num_classes)
        return _Discriminator(self, math.prod(image_shape), classes, named).apply(glorot_uniform)


class _LabeledGenerator(nn.Module):
    def __init__(self, layers: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.layers = layers
        self.num_classes = num_classes

    def forward(self, latents: Tensor, *, labels: Tensor) -> Tensor:
        images: Tensor = self.layers(torch.cat([latents, one_hot(labels, self.num_classes, latents)], 1))
        return images


class _Discriminator(nn.Module):
    def __init__(self, config: MlpDiscriminator, num_pixels: int, num_classes: int, num_named: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise((num_pixels + num_classes, *config.widths)):
            drop = nn.Dropout(config.dropout) if config.dropout else nn.Identity()  # torch draws for 0.0 too
            layers += [nn.Linear(inputs, outputs), nn.LeakyReLU(config.leaky_relu_slope), drop]
        edge(layers[0])
        self.hidden = nn.Sequential(*layers)
        width = config.widths[-1]
        self.compare: nn.Module = nn.Identity()
        if config.minibatch == "discrimination":
            deviation = 1.0 / math.sqrt(width)  # columns of T of length 1, see networks/paper_dcgan.py
            self.compare = MinibatchDiscrimination(
                width, config.num_kernels, config.kernel_dim, initial_deviation=deviation
            )
            width += config.num_kernels
        self.to_logit = nn.Linear(width, 1)
        self.to_classes = nn.Linear(config.widths[-1], num_named) if num_named else None

    def forward(self, images: Tensor, *, labels: Tensor | None = None) -> Verdict:
        values = images.flatten(1)
        if labels is not None:
            values = torch.cat([values, one_hot(labels, self.num_classes, values)], 1)
        features: Tensor = self.hidden(values)
        logits = full_precision(self.to_logit, self.compare(features)).flatten()
        return Verdict(logits, features, class_logits(self.to_classes, features))

    def chain(self) -> list[nn.Module] | None:
        """See `Chained`."""
        if self.num_classes or self.to_classes is not None:
            return None
        return [nn.Flatten(), self.hidden, self.compare, self.to_logit]
