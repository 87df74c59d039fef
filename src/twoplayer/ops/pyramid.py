"""The Laplacian pyramid: an image as its coarsest version and what each finer level adds.

Source: Burt and Adelson 1983, https://doi.org/10.1109/TCOM.1983.1095851, as used by Denton et al. 2015,
https://arxiv.org/abs/1506.05751, equations 5 and 6: h_k = I_k - u(d(I_k)). Here d is torch's antialiased bilinear
resize to half, which blurs before it drops pixels, and u its bilinear resize back. Whatever d and u are, adding h_k to
u(d(I_k)) returns I_k.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from twoplayer.core.batch import to_float, to_uint8


def downsample(images: Tensor) -> Tensor:
    """Float images [N, C, H, W] blurred and halved: [N, C, ceil(H / 2), ceil(W / 2)]."""
    height, width = images.shape[-2:]
    half = (-(-height // 2), -(-width // 2))
    return F.interpolate(images, half, mode="bilinear", antialias=True)


def halved(images: Tensor, times: int) -> Tensor:
    """Stored images, uint8 [N, C, H, W], blurred and halved `times` times."""
    for _ in range(times):
        images = torch.cat([to_uint8(downsample(to_float(chunk))) for chunk in images.split(4096)])
    return images


def upsample(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Float images enlarged to (height, width), smoothly."""
    return F.interpolate(images, size, mode="bilinear", align_corners=False)


def coarse(images: Tensor) -> Tensor:
    """What is left of images [N, C, H, W] after halving and enlarging: the low-pass image l of the same size."""
    return upsample(downsample(images), (images.shape[-2], images.shape[-1]))


def pyramid(images: Tensor, levels: int) -> list[Tensor]:
    """The Laplacian pyramid, coarsest first: an image, then the residual of each finer size; `levels` + 1 tensors."""
    residuals: list[Tensor] = []
    for _ in range(levels):
        smaller = downsample(images)
        residuals.append(images - upsample(smaller, (images.shape[-2], images.shape[-1])))
        images = smaller
    return [images, *residuals[::-1]]


def reconstruct(parts: Sequence[Tensor]) -> Tensor:
    """The images whose pyramid is given."""
    images = parts[0]
    for residual in parts[1:]:
        images = residual + upsample(images, (residual.shape[-2], residual.shape[-1]))
    return images
