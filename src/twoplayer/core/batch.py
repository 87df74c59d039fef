"""A batch of real images on the device, and the one conversion between stored bytes and model values."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Real images and what is known about them.

    Attributes:
        images: [N, C, H, W], float in [-1, 1].
        labels: [N], int64 class ids; absent for unlabeled data.
    """

    images: Tensor
    labels: Tensor | None = None


def to_float(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """uint8 [N, C, H, W] to float in [-1, 1]: (x - 127.5) / 127.5."""
    return images.to(dtype).sub_(127.5).div_(127.5)


def to_uint8(images: Tensor) -> Tensor:
    """Float [N, C, H, W] in [-1, 1] to uint8, rounding to nearest; the inverse of `to_float`."""
    return images.detach().float().mul(127.5).add_(127.5).round_().clamp_(0, 255).to(torch.uint8)
