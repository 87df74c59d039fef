"""Links that work on each value alone: rectifiers, smooth activations, dropout, noise."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from twoplayer.ops.chains.link import Link, Rows, Setting, joins
from twoplayer.ops.dropout import keep_factors, normal_like
from twoplayer.ops.gaussian_noise import GaussianNoise


class Rectifier(Link):
    """Slope 1 above zero, a smaller one (0 to 1) below. Its own values tell on which side each is."""

    sign_only = True

    def __init__(self, slope: float) -> None:
        self.slope = slope

    def forward(self, values: Tensor, rows: Rows, *, reuse: bool) -> Tensor:
        self.rows, self.values = rows, F.leaky_relu(values, self.slope, inplace=reuse)
        return self.values

    def adjoint(self, delta: Tensor, start: int) -> Tensor:
        seen = self.values[start : start + len(delta)]
        scaled: Tensor = torch.ops.aten.leaky_relu_backward(delta, seen, self.slope, True)
        return scaled

    def tangent(self, direction: Tensor, *, keep: bool) -> Tensor:
        return self.adjoint(direction, len(self.values) - len(direction))


class Smooth(Link):
    """An activation by its first two derivatives, as functions of what goes in and what comes out."""

    smooth = True

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        first: Callable[[Tensor, Tensor], Tensor],
        second: Callable[[Tensor, Tensor], Tensor],
    ) -> None:
        self.function, self.first, self.second = function, first, second

    def forward(self, values: Tensor, rows: Rows, *, reuse: bool) -> Tensor:
        self.given, self.rows = values, rows
        self.values = self.function(values)
        return self.values

    def transpose(self, delta: Tensor, start: int) -> Tensor:
        self.delta = delta[len(delta) - self.rows.sloped :]
        return super().transpose(delta, start)

    def adjoint(self, delta: Tensor, start: int) -> Tensor:
        rows = slice(start, start + len(delta))
        return delta * self.first(self.given[rows], self.values[rows])

    def tangent(self, direction: Tensor, *, keep: bool) -> Tensor:
        self.direction = direction
        return self.adjoint(direction, len(self.values) - len(direction))

    def bend(self, epsilon: Tensor | None, start: int) -> Tensor:
        curved = self.second(self.given[start:], self.values[start:]) * self.direction * self.delta
        return curved if epsilon is None else curved + self.adjoint(epsilon, start)


class Mask(Link):
    """Dropout: a random factor for each value of the parts in training mode, 1 for the others."""

    fresh = True
    keeps_signs = True
    overwrites = True

    def __init__(self, probability: float) -> None:
        self.probability = probability

    def forward(self, values: Tensor, rows: Rows, *, reuse: bool) -> Tensor:
        self.rows = rows
        self.factors = [
            keep_factors(values[part], self.probability) if told.training and self.probability else None
            for part, told in zip(rows.slices, rows.parts, strict=True)
        ]
        return self._masked(values if reuse else values.clone(), 0)

    def adjoint(self, delta: Tensor, start: int) -> Tensor:
        return self._masked(delta, start)  # no link keeps the deltas or directions that it hands on

    def tangent(self, direction: Tensor, *, keep: bool) -> Tensor:
        return self.adjoint(direction, sum(part.size for part in self.rows.parts) - len(direction))

    def _masked(self, values: Tensor, start: int) -> Tensor:
        """Times the factors, in place."""
        for number, part in self.rows.within(start, len(values)):
            factors = self.factors[number]
            if factors is not None:
                values[part] *= factors
        return values


class Noise(Link):
    """Gaussian noise on the parts in training mode. Slopes do not see what is added."""

    fresh = True

    def __init__(self, std: float) -> None:
        self.std = std

    def forward(self, values: Tensor, rows: Rows, *, reuse: bool) -> Tensor:
        noisy = values if reuse else values.clone()
        for part, told in zip(rows.slices, rows.parts, strict=True):
            if told.training and self.std:
                noisy[part] += self.std * normal_like(noisy[part])
        return noisy

    def adjoint(self, delta: Tensor, start: int) -> Tensor:
        return delta

    def tangent(self, direction: Tensor, *, keep: bool) -> Tensor:
        return direction


@joins(nn.LeakyReLU)
def _leaky(layer: nn.LeakyReLU, setting: Setting) -> Link | None:
    return Rectifier(layer.negative_slope) if 0.0 <= layer.negative_slope <= 1.0 else None


@joins(nn.ReLU)
def _rectified(layer: nn.ReLU, setting: Setting) -> Link:
    return Rectifier(0.0)


@joins(nn.Tanh)
def _tanh(layer: nn.Tanh, setting: Setting) -> Link:
    return Smooth(torch.tanh, lambda _, y: 1.0 - y * y, lambda _, y: -2.0 * y * (1.0 - y * y))


@joins(nn.Sigmoid)
def _sigmoid(layer: nn.Sigmoid, setting: Setting) -> Link:
    return Smooth(torch.sigmoid, lambda _, y: y * (1.0 - y), lambda _, y: y * (1.0 - y) * (1.0 - 2.0 * y))


@joins(nn.Softplus)
def _softplus(layer: nn.Softplus, setting: Setting) -> Link | None:
    if layer.beta != 1.0:
        return None

    def second(x: Tensor, y: Tensor) -> Tensor:
        risen = x.sigmoid()
        return risen * (1.0 - risen)

    return Smooth(F.softplus, lambda x, _: x.sigmoid(), second)


@joins(nn.SiLU)
def _silu(layer: nn.SiLU, setting: Setting) -> Link:
    def first(x: Tensor, y: Tensor) -> Tensor:
        risen = x.sigmoid()
        return risen * (1.0 + x * (1.0 - risen))

    def second(x: Tensor, y: Tensor) -> Tensor:
        risen = x.sigmoid()
        return risen * (1.0 - risen) * (2.0 + x * (1.0 - 2.0 * risen))

    return Smooth(F.silu, first, second)


@joins(nn.Dropout)
def _dropout(layer: nn.Dropout, setting: Setting) -> Link | None:
    return Mask(layer.p) if layer.p < 1.0 else None


@joins(GaussianNoise)
def _noise(layer: GaussianNoise, setting: Setting) -> Link:
    return Noise(layer.std)
