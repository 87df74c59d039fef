"""The fully connected players of semi-supervised MNIST.

Source: Salimans et al. 2016, https://arxiv.org/abs/1606.03498, section 6.1, and the code published with it. G: uniform
latents -> hidden layers, each batch-normalized without a learned gain and then softplus -> weight-normalized sigmoid
pixels. D: Gaussian noise on the pixels and after each rectifier layer, weight-normalized layers initialized from data,
and one linear output per class; the logit of "real" is the logsumexp of the class logits, which fixes the logit of
"fake" at zero. Features are the last hidden layer, before its noise. With the defaults on 28x28x1 and 10 classes the
generator (100 latents) has 694,568 trainable numbers, the discriminator 1,538,770.

Pixels there are in [0, 1]; images here in [-1, 1] are shifted and halved on D's way in and the reverse on G's way out.

Deviations: batch statistics that are kept for evaluation take the biased variance; their code has N / (N - 1). The
directions of G's pixel layer begin as Normal(0, 0.1), like D's; theirs are Glorot-uniform (deviation 0.04), which with
normalized weights is the same function and a learning rate 2.5 times as large for that layer's directions.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from twoplayer.core.errors import UserError
from twoplayer.core.protocols import DiscriminatorNetwork, GeneratorNetwork, ImageShape
from twoplayer.core.verdict import Verdict
from twoplayer.networks.mlp import Widths
from twoplayer.ops.batch_norm import BatchNorm
from twoplayer.ops.edge import edge
from twoplayer.ops.gaussian_noise import GaussianNoise
from twoplayer.ops.initialization import glorot_uniform
from twoplayer.ops.logits import full_precision
from twoplayer.ops.weight_norm import WeightNormLinear

PREPARATION_SIZE = 500
"""Real images that the first scales and biases of D are made from, as in the published code."""


class SemiSupervisedGenerator(GeneratorNetwork):
    """Softplus layers with batch normalization, then weight-normalized sigmoid pixels.

    Attributes:
        widths: units of each hidden layer.
    """

    name: Literal["semi-supervised"] = "semi-supervised"
    widths: Widths = (500, 500)

    def build(self, latent_dim: int, image_shape: ImageShape, num_classes: int) -> nn.Module:
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise((latent_dim, *self.widths)):
            layers += [
                nn.Linear(inputs, outputs, bias=False),
                BatchNorm(outputs, epsilon=1e-6, momentum=0.1, scale=False),
                nn.Softplus(),
            ]
        edge(layers[0])
        layers += [edge(WeightNormLinear(self.widths[-1], math.prod(image_shape))), nn.Sigmoid()]
        network: nn.Module = _Generator(layers, image_shape)
        return network.apply(glorot_uniform)


class SemiSupervisedDiscriminator(DiscriminatorNetwork):
    """Noisy weight-normalized rectifier layers and one logit per class.

    Attributes:
        widths: units of each hidden layer.
        input_noise: standard deviation of the noise on pixels in [0, 1].
        hidden_noise: standard deviation of the noise after each hidden layer.
    """

    name: Literal["semi-supervised"] = "semi-supervised"
    widths: Widths = (1000, 500, 250, 250, 250)
    input_noise: float = Field(0.3, ge=0.0)
    hidden_noise: float = Field(0.5, ge=0.0)

    @property
    def judges_alone(self) -> bool:
        return True

    @property
    def names_classes(self) -> bool:
        return True

    def build(self, image_shape: ImageShape, num_classes: int) -> nn.Module:
        if num_classes < 2:
            raise UserError("discriminator.name=semi-supervised needs labeled data with at least two classes")
        return _Discriminator(self, math.prod(image_shape), num_classes)


class _Generator(nn.Module):
    def __init__(self, layers: list[nn.Module], image_shape: ImageShape) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.image_shape = image_shape

    def forward(self, latents: Tensor) -> Tensor:
        images: Tensor = self.layers(latents).mul(2.0).sub(1.0).unflatten(1, self.image_shape)
        return images


class _Discriminator(nn.Module):
    """Implements `NeedsPreparation`."""

    def __init__(self, config: SemiSupervisedDiscriminator, num_pixels: int, num_classes: int) -> None:
        super().__init__()
        self.preparation_size = PREPARATION_SIZE
        sizes = list(pairwise((num_pixels, *config.widths)))
        self.hidden = nn.Sequential(*(WeightNormLinear(i, o, learn_scale=False) for i, o in sizes))
        edge(self.hidden[0])
        self.rectify = nn.ReLU()
        self.input_noise = GaussianNoise(config.input_noise)
        self.hidden_noise = GaussianNoise(config.hidden_noise)
        self.to_classes = WeightNormLinear(config.widths[-1], num_classes)

    def forward(self, images: Tensor) -> Verdict:
        values = self.input_noise(images.flatten(1).add(1.0).mul(0.5))
        features = values
        for layer in self.hidden:
            features = self.rectify(layer(values))
            values = self.hidden_noise(features)
        class_logits = full_precision(self.to_classes, values)
        return Verdict(class_logits.logsumexp(1), features, class_logits)

    @torch.no_grad()
    def prepare(self, inputs: Tensor) -> None:
        """Give every layer's outputs mean 0 and variance 1 on real images [M, C, H, W], noise included."""
        values = self.input_noise(inputs.flatten(1).add(1.0).mul(0.5))
        for layer in self.hidden:
            assert isinstance(layer, WeightNormLinear)
            values = self.hidden_noise(self.rectify(layer.initialize_from(values)))
        self.to_classes.initialize_from(values)
