"""How a kernel moves over an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

Pair = tuple[int, int]


def size_of(images: Tensor) -> Pair:
    """(rows, columns) of images or kernels, [..., H, W]."""
    return images.shape[-2], images.shape[-1]


def pair(both: int | Sequence[int]) -> Pair:
    """(rows, columns), where one number stands for both."""
    if isinstance(both, int):
        return both, both
    rows, columns = both if len(both) == 2 else (both[0], both[0])
    return rows, columns


@dataclass(frozen=True)
class Window:
    """How a kernel moves over an image. Pairs are (rows, columns).

    Attributes:
        stride: pixels from one place to the next.
        before: zeros above and to the left of the image.
        after: zeros below and to the right.
        dilation: pixels from one tap of the kernel to the next.
        groups: channels fall into that many groups, each with kernels of its own.
    """

    stride: Pair = (1, 1)
    before: Pair = (0, 0)
    after: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    @classmethod
    def of(cls, flat: Sequence[int]) -> Window:
        """The window that `flat` describes."""
        stride, before, after, dilation = ((flat[at], flat[at + 1]) for at in range(0, 8, 2))
        return cls(stride, before, after, dilation, flat[8])

    @property
    def flat(self) -> list[int]:
        """As an operator's schema can say it."""
        return [*self.stride, *self.before, *self.after, *self.dilation, self.groups]

    @property
    def even(self) -> bool:
        """Whether as much is padded before as after, which native kernels do by themselves."""
        return self.before == self.after

    @property
    def unpadded(self) -> Window:
        """The same movement over an image that is already padded."""
        return Window(self.stride, (0, 0), (0, 0), self.dilation, self.groups)

    def padded_size(self, size: Pair) -> Pair:
        """Pixels of an image of that size with its zeros."""
        return size[0] + self.before[0] + self.after[0], size[1] + self.before[1] + self.after[1]

    def output_size(self, size: Pair, kernel_size: Pair) -> Pair:
        """Pixels of the result."""
        rows, columns = (
            (padded - dilation * (kernel - 1) - 1) // stride + 1
            for padded, dilation, kernel, stride in zip(
                self.padded_size(size), self.dilation, kernel_size, self.stride, strict=True
            )
        )
        return rows, columns

    def image_size(self, size: Pair, kernel_size: Pair, extra: Pair = (0, 0)) -> Pair:
        """Pixels of the image that a transposed convolution makes of a map of `size`; `extra` of them at the end."""
        rows, columns = (
            (n - 1) * stride - before - after + dilation * (kernel - 1) + 1 + more
            for n, stride, before, after, dilation, kernel, more in zip(
                size, self.stride, self.before, self.after, self.dilation, kernel_size, extra, strict=True
            )
        )
        return rows, columns
