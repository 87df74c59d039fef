"""Half as many pixels a side without aliasing: the counterpart of bilinear enlargement."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class BilinearHalving(nn.Module):
    """[N, C, 2 H, 2 W] to [N, C, H, W]: the weights 1, 3, 3, 1 (of 8) along each axis.

    Exactly a quarter of the adjoint of bilinear enlargement to twice the size: border pixels stand for those beyond.
    """

    def forward(self, images: Tensor) -> Tensor:
        return _halve(_halve(images, -1), -2)


def _halve(images: Tensor, axis: int) -> Tensor:
    """Along one axis, -1 or -2."""
    even, odd = images.unflatten(axis, (-1, 2)).unbind(axis)
    rest = even.shape[axis] - 1
    before = torch.cat([even.narrow(axis, 0, 1), odd.narrow(axis, 0, rest)], axis)
    after = torch.cat([even.narrow(axis, 1, rest), odd.narrow(axis, rest, 1)], axis)
    halved: Tensor = 0.375 * (even + odd) + 0.125 * (before + after)
    return halved
