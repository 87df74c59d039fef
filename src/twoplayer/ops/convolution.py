"""Convolutions with "same" padding as TensorFlow defines it, and their exact transposes.

Source: https://www.tensorflow.org/api_docs/python/tf/nn#notes_on_padding_2. A convolution of stride s maps n pixels to
ceil(n / s). The padding that this needs is split evenly; an odd pixel goes *after*: 28 -> 14 with a 5x5 kernel pads
1 before and 2 after. The transposed convolution is the adjoint of the convolution from `output_size`, so it crops what
that convolution pads, and any output size is reachable, odd ones too.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from twoplayer.ops.window import Pair, Window


def same_output_size(size: int, stride: int) -> int:
    """Pixels that a "same" convolution makes of `size` pixels: ceil(size / stride)."""
    return -(-size // stride)


def same_padding(size: int, kernel_size: int, stride: int) -> tuple[int, int]:
    """Pixels to pad (before, after) along one axis of `size` pixels."""
    total = max((same_output_size(size, stride) - 1) * stride + kernel_size - size, 0)
    return total // 2, total - total // 2


def same_window(size: Pair, kernel_size: tuple[int, ...], stride: tuple[int, ...]) -> Window:
    """The movement of a "same" convolution over images of `size` (rows, columns)."""
    top, bottom = same_padding(size[0], kernel_size[0], stride[0])
    left, right = same_padding(size[1], kernel_size[1], stride[1])
    return Window((stride[0], stride[1]), (top, left), (bottom, right))


class SameConv2d(nn.Conv2d):
    """Convolution [N, C, H, W] -> [N, K, ceil(H / stride), ceil(W / stride)]."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, bias: bool = True
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, bias=bias)

    def window(self, size: Pair) -> Window:
        """How the kernel moves over images of `size` (rows, columns)."""
        return same_window(size, self.kernel_size, self.stride)

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        top, bottom = same_padding(height, self.kernel_size[0], self.stride[0])
        left, right = same_padding(width, self.kernel_size[1], self.stride[1])
        if (top, left) == (bottom, right):
            return F.conv2d(images, self.weight, self.bias, self.stride, (top, left))
        return F.conv2d(F.pad(images, (left, right, top, bottom)), self.weight, self.bias, self.stride)


class SameConvTranspose2d(nn.ConvTranspose2d):
    """Transposed convolution [N, C, ceil(H / stride), ceil(W / stride)] -> [N, K, H, W] with (H, W) = output_size."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        output_size: tuple[int, int],
        bias: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, bias=bias)
        self.output_size = output_size

    @property
    def window(self) -> Window:
        """How the kernel of the convolution whose adjoint this is moves over images of `output_size`."""
        return same_window(self.output_size, self.kernel_size, self.stride)

    def forward(self, images: Tensor, output_size: list[int] | None = None) -> Tensor:
        height, width = self.output_size
        top, bottom = same_padding(height, self.kernel_size[0], self.stride[0])
        left, right = same_padding(width, self.kernel_size[1], self.stride[1])
        assert images.shape[-2:] == (
            same_output_size(height, self.stride[0]),
            same_output_size(width, self.stride[1]),
        ), f"{tuple(images.shape)} cannot become {self.output_size}"
        rows = _crop(images.shape[-2], height, top, bottom, self.kernel_size[0], self.stride[0])
        columns = _crop(images.shape[-1], width, left, right, self.kernel_size[1], self.stride[1])
        padding, extra = (rows[0], columns[0]), (rows[1], columns[1])
        full = F.conv_transpose2d(images, self.weight, self.bias, self.stride, padding, extra)
        return full[..., top - rows[0] :, left - columns[0] :][..., :height, :width].contiguous()


def _crop(size: int, output_size: int, before: int, after: int, kernel_size: int, stride: int) -> tuple[int, int]:
    """What the kernel crops on both sides, and what it appends: a kernel smaller than its stride ends too early."""
    both = min(before, after)
    length = (size - 1) * stride + kernel_size - 2 * both
    return both, max(before - both + output_size - length, 0)


def count_parameters(module: nn.Module, *, trainable_only: bool = False) -> int:
    """Numbers that a module learns, plus its running statistics unless `trainable_only`."""
    tensors: list[Tensor] = list(module.parameters())
    if not trainable_only:
        tensors += [buffer for buffer in module.buffers() if torch.is_floating_point(buffer)]
    return sum(tensor.numel() for tensor in tensors)
