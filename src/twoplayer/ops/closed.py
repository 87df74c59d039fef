"""Layers whose derivatives stay among themselves, so that a second derivative costs what a first one does.

A convolution, its two adjoints and the rectifiers are torch operators with derivatives of every order: the derivatives
of each of the three convolution maps are the two others (see `convolve.py`), and the slope of a rectifier is a
constant, so that no zeros travel down through the layers below it, as they do in torch's own second derivative. Dense
layers and smooth activations are closed in torch already; batch normalization with running statistics is written as
the multiplication that it is.

Inside `ClosedDerivatives` the layers of any module are these:

    with ClosedDerivatives():
        (slope,) = torch.autograd.grad(discriminator(images).logits.sum(), images, create_graph=True)

They are custom operators rather than autograd functions because a compiled autograd function may lose its second
derivative without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from twoplayer.ops.convolve import convolve, input_gradient, is_channels_last, weight_gradient
from twoplayer.ops.tracing import traced
from twoplayer.ops.window import Window, pair, size_of


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    """`torch.nn.functional.conv2d` with closed derivatives: [N, C, H, W] -> [N, K, H', W']."""
    if isinstance(padding, str) or input.ndim != 4:
        return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)
    around = pair(padding)
    window = Window(pair(stride), around, around, pair(dilation), groups)
    found: Tensor = _convolve(_autocast(input), _autocast(weight), window.flat)
    return found if bias is None else found + bias[:, None, None]


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    output_padding: int | Sequence[int] = 0,
    groups: int = 1,
    dilation: int | Sequence[int] = 1,
) -> Tensor:
    """`torch.nn.functional.conv_transpose2d` with closed derivatives: [N, C, H, W] -> [N, K, H', W']."""
    if input.ndim != 4:
        return torch.conv_transpose2d(input, weight, bias, stride, padding, output_padding, groups, dilation)
    around = pair(padding)
    window = Window(pair(stride), around, around, pair(dilation), groups)
    size = window.image_size(size_of(input), size_of(weight), pair(output_padding))
    found: Tensor = _input_gradient(_autocast(input), _autocast(weight), list(size), window.flat)
    return found if bias is None else found + bias[:, None, None]


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """`torch.nn.functional.leaky_relu` with closed derivatives, for slopes from 0 to 1; never in place."""
    if not 0.0 <= negative_slope <= 1.0:
        return F.leaky_relu(input, negative_slope, inplace)
    found: Tensor = _rectify(input, float(negative_slope))
    return found


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """`torch.nn.functional.relu` with closed derivatives; never in place."""
    return leaky_relu(input, 0.0)


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """`torch.nn.functional.batch_norm`; with running statistics a multiplication and an addition."""
    if training or running_mean is None or running_var is None:
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    scale = (running_var + eps).rsqrt()
    scale = scale if weight is None else scale * weight
    shift = -running_mean * scale if bias is None else bias - running_mean * scale
    shape = (-1, *[1] * (input.ndim - 2))
    return input * scale.view(shape) + shift.view(shape)


REPLACED: Mapping[Any, Callable[..., Tensor]] = {
    torch.conv2d: conv2d,
    F.conv2d: conv2d,
    torch.conv_transpose2d: conv_transpose2d,
    F.conv_transpose2d: conv_transpose2d,
    F.leaky_relu: leaky_relu,
    F.relu: relu,
    torch.relu: relu,
    Tensor.relu: relu,
    F.batch_norm: batch_norm,
}
"""What is called instead inside `ClosedDerivatives`."""


class ClosedDerivatives(TorchFunctionMode):
    """A context in which torch's convolutions, rectifiers and batch normalization are those of this file."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return REPLACED.get(func, func)(*args, **(kwargs or {}))


def _autocast(values: Tensor) -> Tensor:
    """As torch's own convolutions do inside `torch.autocast`."""
    kind = values.device.type
    wanted = torch.is_autocast_enabled(kind) and values.dtype != torch.float64
    return values.to(torch.get_autocast_dtype(kind)) if wanted else values


@contextmanager
def _itself(values: Tensor) -> Iterator[None]:
    """For what an operator does: with the numbers that it is given, also inside `torch.autocast`, by native kernels."""
    with torch.autocast(values.device.type, enabled=False), traced(False):
        yield


def _laid_out(found: Tensor, *given: Tensor) -> Tensor:
    """Dense, with channels last in memory where one of the given tensors has them last; meta tensors follow it too."""
    last = any(is_channels_last(each) for each in given)
    return found.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


@torch.library.custom_op("twoplayer::convolve", mutates_args=())
def _convolve(images: Tensor, weight: Tensor, window: list[int]) -> Tensor:
    with _itself(images):
        return _laid_out(convolve(images, weight, Window.of(window)), images, weight)


@torch.library.custom_op("twoplayer::input_gradient", mutates_args=())
def _input_gradient(gradient: Tensor, weight: Tensor, size: list[int], window: list[int]) -> Tensor:
    with _itself(gradient):
        found = input_gradient(gradient, weight, (size[0], size[1]), Window.of(window))
        return _laid_out(found, gradient, weight)


@torch.library.custom_op("twoplayer::weight_gradient", mutates_args=())
def _weight_gradient(images: Tensor, gradient: Tensor, kernel_size: list[int], window: list[int]) -> Tensor:
    with _itself(images):
        found = weight_gradient(images, gradient, (kernel_size[0], kernel_size[1]), Window.of(window))
        return _laid_out(found, images, gradient)


@torch.library.custom_op("twoplayer::rectify", mutates_args=())
def _rectify(values: Tensor, slope: float) -> Tensor:
    return F.leaky_relu(values, slope)


@torch.library.custom_op("twoplayer::rectify_gradient", mutates_args=())
def _rectify_gradient(gradient: Tensor, values: Tensor, slope: float) -> Tensor:
    found: Tensor = torch.ops.aten.leaky_relu_backward(gradient, values, slope, True)
    return found


@_convolve.register_fake
def _(images: Tensor, weight: Tensor, window: list[int]) -> Tensor:
    size = Window.of(window).output_size(size_of(images), size_of(weight))
    return _laid_out(images.new_empty(len(images), len(weight), *size), images, weight)


@_input_gradient.register_fake
def _(gradient: Tensor, weight: Tensor, size: list[int], window: list[int]) -> Tensor:
    return _laid_out(gradient.new_empty(len(gradient), weight.shape[1] * window[8], *size), gradient, weight)


@_weight_gradient.register_fake
def _(images: Tensor, gradient: Tensor, kernel_size: list[int], window: list[int]) -> Tensor:
    shape = (gradient.shape[1], images.shape[1] // window[8], *kernel_size)
    return _laid_out(gradient.new_empty(shape), images, gradient)


@_rectify.register_fake
def _(values: Tensor, slope: float) -> Tensor:
    return torch.empty_like(values)


@_rectify_gradient.register_fake
def _(gradient: Tensor, values: Tensor, slope: float) -> Tensor:
    return torch.empty_like(gradient)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0], inputs[1])
    ctx.window = inputs[-1]


def _convolve_backward(ctx: Any, delta: Tensor) -> tuple[Tensor | None, ...]:
    (images, weight), window = ctx.saved_tensors, ctx.window
    by_images, by_weight, _ = ctx.needs_input_grad
    return (
        _input_gradient(delta, weight, list(size_of(images)), window) if by_images else None,
        _weight_gradient(images, delta, list(size_of(weight)), window) if by_weight else None,
        None,
    )


def _input_gradient_backward(ctx: Any, delta: Tensor) -> tuple[Tensor | None, ...]:
    (gradient, weight), window = ctx.saved_tensors, ctx.window
    by_gradient, by_weight, *_ = ctx.needs_input_grad
    return (
        _convolve(delta, weight, window) if by_gradient else None,
        _weight_gradient(delta, gradient, list(size_of(weight)), window) if by_weight else None,
        None,
        None,
    )


def _weight_gradient_backward(ctx: Any, delta: Tensor) -> tuple[Tensor | None, ...]:
    (images, gradient), window = ctx.saved_tensors, ctx.window
    by_images, by_gradient, *_ = ctx.needs_input_grad
    return (
        _input_gradient(gradient, delta, list(size_of(images)), window) if by_images else None,
        _convolve(images, delta, window) if by_gradient else None,
        None,
        None,
    )


def _keep_signs(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(output)
    ctx.slope = inputs[1]


def _rectify_backward(ctx: Any, delta: Tensor) -> tuple[Tensor, None]:
    return _rectify_gradient(delta, ctx.saved_tensors[0].detach(), ctx.slope), None


def _keep_values(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[1])
    ctx.slope = inputs[2]


def _rectify_gradient_backward(ctx: Any, delta: Tensor) -> tuple[Tensor, None, None]:
    return _rectify_gradient(delta, ctx.saved_tensors[0].detach(), ctx.slope), None, None


_convolve.register_autograd(_convolve_backward, setup_context=_keep)
_input_gradient.register_autograd(_input_gradient_backward, setup_context=_keep)
_weight_gradient.register_autograd(_weight_gradient_backward, setup_context=_keep)
_rectify.register_autograd(_rectify_backward, setup_context=_keep_signs)
_rectify_gradient.register_autograd(_rectify_gradient_backward, setup_context=_keep_values)
