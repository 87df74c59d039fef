"""Links that multiply by a weight: convolutions, transposed convolutions, dense layers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from twoplayer.ops.chains.link import Gradients, Link, Rows, Setting, joins
from twoplayer.ops.convolution import SameConv2d, SameConvTranspose2d
from twoplayer.ops.convolve import convolve, input_gradient, pad, weight_gradient
from twoplayer.ops.edge import EdgeConv2d, EdgeLinear, EdgeSameConv2d, EdgeSameConvTranspose2d
from twoplayer.ops.window import Pair, Window, pair, size_of


class Affine(Link):
    """A product with a weight, and a bias. Subclasses know the product and its two adjoints.

    It computes in its weight's dtype, whatever that of the values; deltas go down in that of the values it was given.

    Where no smooth link follows, directions take the place of the sloped images' values: one product with the deltas
    then gives the weight's gradient of loss and penalty together.
    """

    learns = True
    fresh = True

    def __init__(self, weight: Tensor, bias: Tensor | None, setting: Setting) -> None:
        self.learned, self.learned_bias = weight, bias
        self.weight = setting.weight(weight)
        self.bias = None if bias is None else setting.cast(bias.detach())
        self.directions: Tensor | None = None
        self.epsilon: Tensor | None = None

    def product(self, values: Tensor, bias: Tensor | None) -> Tensor:
        """Values up."""
        raise NotImplementedError

    def weight_product(self, values: Tensor, delta: Tensor) -> Tensor:
        """The weight's gradient."""
        raise NotImplementedError

    def down(self, delta: Tensor, start: int) -> Tensor:
        """Deltas down, in the weight's dtype."""
        raise NotImplementedError

    def forward(self, values: Tensor, rows: Rows, *, reuse: bool) -> Tensor:
        self.given = values.dtype
        self.values, self.rows = values.to(self.weight.dtype), rows
        return self.product(self.values, self.bias)

    def transpose(self, delta: Tensor, start: int) -> Tensor:
        self.delta = delta.to(self.weight.dtype)
        return super().transpose(self.delta, start)

    def adjoint(self, delta: Tensor, start: int) -> Tensor:
        return self.down(delta.to(self.weight.dtype), start).to(self.given)

    def tangent(self, direction: Tensor, *, keep: bool) -> Tensor:
        direction = direction.to(self.weight.dtype)
        if keep:
            self.directions = direction
        else:
            self.values[-self.rows.sloped :] = direction
        return self.product(direction, None)

    def bend(self, epsilon: Tensor | None, start: int) -> Tensor | None:
        self.epsilon = None if epsilon is None else epsilon.to(self.weight.dtype)
        return super().bend(self.epsilon, start)

    def rescale(self, part: slice, factors: Tensor) -> None:
        delta = self.delta[part]
        delta *= factors.view(-1, *[1] * (delta.ndim - 1))

    def gradients(self) -> Gradients:
        values, delta, n = self.values, self.delta, self.rows.sloped
        if self.directions is not None and self.epsilon is None:
            values = torch.cat([values[:-n], self.directions])
        elif self.directions is not None and self.epsilon is not None:
            values = torch.cat([values, self.directions])
            delta = torch.cat([delta[:-n], self.epsilon, delta[-n:]])
        yield self.learned, self.weight_product(values, delta)
        if self.learned_bias is not None:
            felt = delta[: len(delta) - n]  # directions do not move with the bias
            if self.normalized and all(part.training or part.sloped for part in self.rows.parts):
                felt = felt[len(self.values) - n :]  # nor does what is normalized afterwards
            yield self.learned_bias, felt.sum([0, *range(2, delta.ndim)], dtype=self.learned_bias.dtype)


class Convolution(Affine):
    """Images [N, C, H, W] to [N, K, H', W']. What native kernels cannot pad by themselves is kept padded."""

    def __init__(
        self, weight: Tensor, bias: Tensor | None, window_of: Callable[[Pair], Window], setting: Setting
    ) -> None:
        super().__init__(weight, bias, setting)
        self.window_of = window_of

    def forward(self, values: Tensor, rows: Rows, *, reuse: bool) -> Tensor:
        self.size = size_of(values)
        window = self.window_of(self.size)
        self.window = window if window.even else window.unpadded
        self.crop = Window() if window.even else window
        return super().forward(pad(values, self.crop), rows, reuse=reuse)

    def product(self, values: Tensor, bias: Tensor | None) -> Tensor:
        return convolve(values, self.weight, self.window, bias)

    def down(self, delta: Tensor, start: int) -> Tensor:
        return input_gradient(delta, self.weight, self.size, self.window_of(self.size))

    def tangent(self, direction: Tensor, *, keep: bool) -> Tensor:
        return super().tangent(pad(direction, self.crop), keep=keep)

    def weight_product(self, values: Tensor, delta: Tensor) -> Tensor:
        return weight_gradient(values, delta, size_of(self.weight), self.window)


class TransposedConvolution(Affine):
    """The adjoint of a convolution from the larger image; its weight is that convolution's, [C, K, h, w].

    Args:
        weight: of the convolution.
        bias: added to the larger image.
        window_of: how the convolution moves, by the size of the smaller image.
        size_of_image: pixels of the larger image, by the size of the smaller.
        setting: of the chain.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        window_of: Callable[[Pair], Window],
        size_of_image: Callable[[Pair], Pair],
        setting: Setting,
    ) -> None:
        super().__init__(weight, bias, setting)
        self.window_of, self.size_of_image = window_of, size_of_image

    def product(self, values: Tensor, bias: Tensor | None) -> Tensor:
        size = self.size_of_image(size_of(values))
        self.window = self.window_of(size_of(values))
        images = input_gradient(values, self.weight, size, self.window).contiguous(memory_format=torch.channels_last)
        return images if bias is None else images + bias[:, None, None]

    def down(self, delta: Tensor, start: int) -> Tensor:
        return convolve(delta, self.weight, self.window)

    def weight_product(self, values: Tensor, delta: Tensor) -> Tensor:
        return weight_gradient(delta, values, size_of(self.weight), self.window)


class Dense(Affine):
    """[N, F] to [N, units]."""

    def product(self, values: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(values, self.weight, bias)

    def down(self, delta: Tensor, start: int) -> Tensor:
        return delta @ self.weight

    def weight_product(self, values: Tensor, delta: Tensor) -> Tensor:
        return delta.t() @ values


@joins(EdgeLinear)
def _edge_dense(layer: nn.Linear, setting: Setting) -> Link:
    return _dense(layer, Setting())


@joins(EdgeConv2d)
def _edge_convolution(layer: nn.Conv2d, setting: Setting) -> Link | None:
    return _convolution(layer, Setting())


@joins(EdgeSameConv2d)
def _edge_same_convolution(layer: SameConv2d, setting: Setting) -> Link:
    return _same_convolution(layer, Setting())


@joins(EdgeSameConvTranspose2d)
def _edge_same_transposed_convolution(layer: SameConvTranspose2d, setting: Setting) -> Link:
    return _same_transposed_convolution(layer, Setting())


@joins(nn.Linear)
def _dense(layer: nn.Linear, setting: Setting) -> Link:
    return Dense(layer.weight, layer.bias, setting)


@joins(nn.Conv2d)
def _convolution(layer: nn.Conv2d, setting: Setting) -> Link | None:
    if isinstance(layer.padding, str) or layer.padding_mode != "zeros":
        return None
    padding = pair(layer.padding)
    window = Window(pair(layer.stride), padding, padding, pair(layer.dilation), layer.groups)
    return Convolution(layer.weight, layer.bias, lambda _: window, setting)


@joins(SameConv2d)
def _same_convolution(layer: SameConv2d, setting: Setting) -> Link:
    return Convolution(layer.weight, layer.bias, layer.window, setting)


@joins(nn.ConvTranspose2d)
def _transposed_convolution(layer: nn.ConvTranspose2d, setting: Setting) -> Link:
    assert not isinstance(layer.padding, str), "torch refuses it"
    padding, stride, dilation = pair(layer.padding), pair(layer.stride), pair(layer.dilation)
    window = Window(stride, padding, padding, dilation, layer.groups)
    extra = pair(layer.output_padding)

    def image_size(size: Pair) -> Pair:
        return window.image_size(size, pair(layer.kernel_size), extra)

    return TransposedConvolution(layer.weight, layer.bias, lambda _: window, image_size, setting)


@joins(SameConvTranspose2d)
def _same_transposed_convolution(layer: SameConvTranspose2d, setting: Setting) -> Link:
    return TransposedConvolution(layer.weight, layer.bias, lambda _: layer.window, lambda _: layer.output_size, setting)
