"""The three bilinear maps of a convolution, each through the fastest exact kernel at hand.

With y = convolve(x, w): <g, y> = <x, input_gradient(g, w)> = <w, weight_gradient(x, g)> for every g. Each map's
derivatives are the two others, so a loss may be differentiated as often as wanted without leaving these three, and a
transposed convolution is `input_gradient`.

PyTorch's second derivative of a convolution goes through a slower formulation (a convolution whose kernel is the whole
gradient image); here the native kernels of the first derivative serve.

A convolution of a single channel is taken apart on a CPU into its taps: a matrix product with the shifted images, the
same sum in another order, for which native kernels take several times as long.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F

from twoplayer.ops.tracing import is_traced
from twoplayer.ops.window import Pair, Window, size_of

COLUMN_NUMBERS = 4 * 2**20
"""How many numbers `_weight_gradient_columns` lays out at a time: 16 MiB of float32."""


def convolve(images: Tensor, weight: Tensor, window: Window, bias: Tensor | None = None) -> Tensor:
    """Cross-correlation [N, C, H, W], [K, C / groups, h, w] -> [N, K, H', W']."""
    if is_traced():
        found: Tensor = torch.ops.twoplayer.convolve(images, weight, window.flat)
        return found if bias is None else found + bias[:, None, None]
    if _one_place(size_of(images), size_of(weight), window):
        return F.linear(_in_rows(images), _in_rows(weight), bias)[..., None, None]
    if _by_taps(images, weight.shape[1], window):
        taps = _shifted(images, window, size_of(weight))
        kernels = weight.flatten(1).t()  # [h w, K]
        rows = taps.flatten(1).t()  # [N H' W', h w]
        values = rows @ kernels if bias is None else torch.addmm(bias, rows, kernels)
        return values.view(*taps.shape[1:], len(weight)).permute(0, 3, 1, 2)
    if not window.even:
        images, window = pad(images, window), window.unpadded
    return F.conv2d(images, weight, bias, window.stride, window.before, window.dilation, window.groups)


def input_gradient(gradient: Tensor, weight: Tensor, size: Pair, window: Window) -> Tensor:
    """The adjoint in the image: [N, K, H', W'] -> [N, C, H, W] with (H, W) = size."""
    if is_traced():
        found: Tensor = torch.ops.twoplayer.input_gradient(gradient, weight, list(size), window.flat)
        return found
    if _one_place(size, size_of(weight), window):
        return _as_map(_in_rows(gradient) @ _in_rows(weight), size)
    if _by_taps(gradient, weight.shape[1], window):
        taps = weight.flatten(1).t() @ _rows(gradient).t()  # [h w, N H' W']
        return _summed(taps.view(len(taps), len(gradient), *gradient.shape[2:]), size, size_of(weight), window)
    if not window.even:
        return _input_gradient_uneven(gradient, weight, size, window)
    shape = (len(gradient), weight.shape[1] * window.groups, *size)
    return _backward(gradient, _shaped(shape, gradient, weight), weight, window, (True, False))


def weight_gradient(images: Tensor, gradient: Tensor, kernel_size: Pair, window: Window) -> Tensor:
    """The adjoint in the kernel: [N, C, H, W], [N, K, H', W'] -> [K, C / groups, h, w]."""
    if is_traced():
        found: Tensor = torch.ops.twoplayer.weight_gradient(images, gradient, list(kernel_size), window.flat)
        return found
    channels = images.shape[1] // window.groups
    if _one_place(size_of(images), kernel_size, window):
        return _as_map(_in_rows(gradient).t() @ _in_rows(images), kernel_size)
    if _by_taps(images, channels, window):
        taps = _shifted(images, window, kernel_size).flatten(1)
        return (taps @ _rows(gradient)).t().reshape(gradient.shape[1], 1, *kernel_size)
    if not window.even:
        images, window = pad(images, window), window.unpadded
    if _by_columns(images, gradient, window):
        return _weight_gradient_columns(pad(images, window), gradient, kernel_size, window)
    shape = (gradient.shape[1], channels, *kernel_size)
    return _backward(gradient, images, _shaped(shape, images, gradient), window, (False, True))


def _input_gradient_uneven(gradient: Tensor, weight: Tensor, size: Pair, window: Window) -> Tensor:
    """Native kernels pad evenly: what the smaller side needs, and the rest of the larger side is cropped."""
    both = (min(window.before[0], window.after[0]), min(window.before[1], window.after[1]))
    top, left = window.before[0] - both[0], window.before[1] - both[1]
    rows, columns = window.after[0] - both[0], window.after[1] - both[1]
    even = Window(window.stride, both, both, window.dilation, window.groups)
    whole = input_gradient(gradient, weight, (top + size[0] + rows, left + size[1] + columns), even)
    return whole[..., top : top + size[0], left : left + size[1]]


def _weight_gradient_columns(images: Tensor, gradient: Tensor, kernel_size: Pair, window: Window) -> Tensor:
    """As a matrix product with what every place of the kernel sees, some images at a time so that it stays in cache."""
    (n, channels), (rows, columns) = images.shape[:2], size_of(gradient)
    size = (rows, columns, *kernel_size, channels)
    batch = max(min(n, COLUMN_NUMBERS // math.prod(size)), 1)
    buffer = images.new_empty(batch, *size)
    total = images.new_zeros(math.prod(size[2:]), gradient.shape[1])
    stride = images.stride()
    steps = (
        stride[0],
        stride[2] * window.stride[0],
        stride[3] * window.stride[1],
        stride[2] * window.dilation[0],
        stride[3] * window.dilation[1],
        stride[1],
    )
    for some, deltas in zip(images.split(batch), gradient.split(batch), strict=True):
        seen = buffer[: len(some)].copy_(some.as_strided((len(some), *size), steps))
        total.addmm_(seen.view(len(some) * rows * columns, -1).t(), _rows(deltas))
    return total.view(*kernel_size, channels, -1).permute(3, 2, 0, 1)


def _backward(gradient: Tensor, images: Tensor, weight: Tensor, window: Window, wanted: tuple[bool, bool]) -> Tensor:
    """One of the native kernels; of the tensor whose gradient is wanted only the shape and the format are read."""
    found = torch.ops.aten.convolution_backward(
        gradient, images, weight, None, window.stride, window.before, window.dilation, False, (0, 0), window.groups,
        (*wanted, False),
    )  # fmt: skip
    result: Tensor = found[0] if wanted[0] else found[1]
    return result


def _by_taps(images: Tensor, channels_per_group: int, window: Window) -> bool:
    return images.device.type == "cpu" and channels_per_group == 1 and window.groups == 1


def _by_columns(images: Tensor, gradient: Tensor, window: Window) -> bool:
    """Without AVX-512 the native kernel is slower than a matrix product."""
    return (
        torch.backends.cpu.get_cpu_capability() == "AVX2"
        and images.device.type == "cpu"
        and images.dtype == torch.float32
        and window.groups == 1
        and images.shape[1] >= 16
        and is_channels_last(images)
        and is_channels_last(gradient)
        and len(images) > 0
    )


def is_channels_last(images: Tensor) -> bool:
    """Whether the channels of each pixel lie side by side in memory, and nothing says otherwise."""
    return images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()


def _shifted(images: Tensor, window: Window, kernel_size: Pair) -> Tensor:
    """What each tap of the kernel sees: [N, 1, H, W] -> [h w, N, H', W']."""
    padded = pad(images, window).squeeze(1)
    size = window.output_size(size_of(images), kernel_size)
    seen = images.new_empty(kernel_size[0] * kernel_size[1], len(images), *size)
    for tap, (rows, columns) in zip(seen, _places(size, kernel_size, window), strict=True):
        tap.copy_(padded[:, rows, columns])
    return seen


def _summed(taps: Tensor, size: Pair, kernel_size: Pair, window: Window) -> Tensor:
    """The adjoint of `_shifted`: [h w, N, H', W'] -> [N, 1, H, W]."""
    wide = torch.promote_types(taps.dtype, torch.float32)
    padded = torch.zeros(taps.shape[1], *window.padded_size(size), dtype=wide, device=taps.device)
    for tap, (rows, columns) in zip(taps, _places(size_of(taps), kernel_size, window), strict=True):
        padded[:, rows, columns] += tap
    top, left = window.before
    return padded[:, None, top : top + size[0], left : left + size[1]].to(taps.dtype)


def _places(size: Pair, kernel_size: Pair, window: Window) -> Iterator[tuple[slice, slice]]:
    """The pixels of the padded image that each tap meets, tap by tap."""
    for tap in product(range(kernel_size[0]), range(kernel_size[1])):
        starts = (place * dilation for place, dilation in zip(tap, window.dilation, strict=True))
        rows, columns = (
            slice(start, start + (n - 1) * stride + 1, stride)
            for start, n, stride in zip(starts, size, window.stride, strict=True)
        )
        yield rows, columns


def _rows(gradient: Tensor) -> Tensor:
    """[N, K, H', W'] -> [N H' W', K]; no copy where channels are last in memory."""
    return gradient.permute(0, 2, 3, 1).reshape(-1, gradient.shape[1])


def pad(images: Tensor, window: Window) -> Tensor:
    """The images with the window's zeros around them."""
    (top, left), (bottom, right) = window.before, window.after
    if not any((*window.before, *window.after)):
        return images
    if not is_channels_last(images) or images.requires_grad:
        return F.pad(images, (left, right, top, bottom))
    height, width = window.padded_size(size_of(images))  # torch would fill everything with zeros first
    shape = (*images.shape[:2], height, width)
    padded = torch.empty(shape, dtype=images.dtype, device=images.device, memory_format=torch.channels_last)
    for border in (padded[:, :, :top], padded[:, :, height - bottom :]):
        border.zero_()
    for border in (padded[..., :left], padded[..., width - right :]):
        border.zero_()
    padded[:, :, top : height - bottom, left : width - right] = images
    return padded


def _one_place(size: Pair, kernel_size: Pair, window: Window) -> bool:
    """Whether the kernel covers the whole image: then a convolution is a dense layer."""
    return window == Window() and size == kernel_size


def _in_rows(images: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, H W C], which is how channels-last images lie in memory."""
    return images.permute(0, 2, 3, 1).flatten(1)


def _as_map(rows: Tensor, size: Pair) -> Tensor:
    """The inverse of `_in_rows`."""
    images: Tensor = rows.unflatten(1, (*size, -1)).permute(0, 3, 1, 2)
    return images


def _shaped(shape: tuple[int, ...], first: Tensor, second: Tensor) -> Tensor:
    """An empty tensor of a shape, with channels last in memory where one of the two has them last."""
    last = any(is_channels_last(each) for each in (first, second))
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.empty(shape, dtype=first.dtype, device=first.device, memory_format=layout)
