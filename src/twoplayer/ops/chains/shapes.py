"""Links without parameters that move, pick or average values."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from twoplayer.ops.chains.link import Link, Rows, Setting, as_products_want_it, joins
from twoplayer.ops.resampling import BilinearHalving


class Same(Link):
    """Changes nothing."""

    def forward(self, values: Tensor, rows: Rows, *, reuse: bool) -> Tensor:
        return values

    def adjoint(self, delta: Tensor, start: int) -> Tensor:
        return delta

    def tangent(self, direction: Tensor, *, keep: bool) -> Tensor:
        return direction


class Reshape(Link):
    """The same values in another shape."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer

    def forward(self, values: Tensor, rows: Rows, *, reuse: bool) -> Tensor:
        self.shape = values.shape[1:]
        return as_products_want_it(self.layer(values))

    def adjoint(self, delta: Tensor, start: int) -> Tensor:
        return as_products_want_it(delta.reshape(-1, *self.shape))

    def tangent(self, direction: Tensor, *, keep: bool) -> Tensor:
        return as_products_want_it(self.layer(direction))


class MaxPool(Link):
    """The largest of each window. Which one it was is fixed on the piece."""

    fresh = True

    def __init__(self, layer: nn.MaxPool2d) -> None:
        self.layer = layer

    def forward(self, values: Tensor, rows: Rows, *, reuse: bool) -> Tensor:
        self.values, layer = values, self.layer
        result, self.places = F.max_pool2d(
            values, layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.ceil_mode, return_indices=True
        )
        return result

    def adjoint(self, delta: Tensor, start: int) -> Tensor:
        n = len(delta)
        places = self.places[start : start + n].flatten(2)
        below = delta.new_zeros(n, delta.shape[1], math.prod(self.values.shape[2:]))
        return below.scatter_add_(2, places, delta.flatten(2)).view(n, *self.values.shape[1:])

    def tangent(self, direction: Tensor, *, keep: bool) -> Tensor:
        places = self.places[len(self.places) - len(direction) :]
        return direction.flatten(2).gather(2, places.flatten(2)).view(places.shape)


class Linear(Link):
    """Any map that is linear and without parameters, through the layer itself and its derivative."""

    fresh = True

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer

    def forward(self, values: Tensor, rows: Rows, *, reuse: bool) -> Tensor:
        self.shape = values.shape[1:]
        mapped: Tensor = self.layer(values)
        return mapped

    def adjoint(self, delta: Tensor, start: int) -> Tensor:
        with torch.enable_grad():
            zeros = as_products_want_it(delta.new_zeros(len(delta), *self.shape)).requires_grad_()
            (below,) = torch.autograd.grad(self.layer(zeros), zeros, delta)
        return below

    def tangent(self, direction: Tensor, *, keep: bool) -> Tensor:
        moved: Tensor = self.layer(direction)
        return moved


class NearestUpsampling(Linear):
    """Every pixel of a map repeated; down, the sum over its copies."""

    def adjoint(self, delta: Tensor, start: int) -> Tensor:
        if delta.ndim != 4:
            return super().adjoint(delta, start)
        size, below = delta.shape[2:], (len(delta), *self.shape)
        found: Tensor = torch.ops.aten.upsample_nearest2d_backward(as_products_want_it(delta), size, below)
        return found


@joins(nn.Identity)
def _identity(layer: nn.Identity, setting: Setting) -> Link:
    return Same()


@joins(nn.Flatten)
@joins(nn.Unflatten)
def _reshape(layer: nn.Module, setting: Setting) -> Link:
    return Reshape(layer)


@joins(nn.MaxPool2d)
def _max_pool(layer: nn.MaxPool2d, setting: Setting) -> Link:
    return MaxPool(layer)


@joins(BilinearHalving)
@joins(nn.AdaptiveAvgPool2d)
@joins(nn.AvgPool2d)
def _linear(layer: nn.Module, setting: Setting) -> Link | None:
    return Linear(layer)


@joins(nn.Upsample)
def _upsampling(layer: nn.Upsample, setting: Setting) -> Link | None:
    by_size = layer.mode == "nearest" and layer.size is not None  # torch rounds otherwise where a factor is given
    return NearestUpsampling(layer) if by_size else Linear(layer)
