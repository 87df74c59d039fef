"""Images moved by affine maps, with derivatives of every order.

Each pixel of the result is looked up where its map says, between four pixels of the image (bilinear). Sums over pixels
are gathers and their adjoints, so that a gradient can be differentiated again, which torch's `grid_sample` does not
offer. On a GPU the adjoint adds in no fixed order.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Affine(NamedTuple):
    """One map of the plane per image, (x, y) -> (xx x + xy y + x0, yx x + yy y + y0), in pixels from the center.

    Attributes:
        xx: [N], like all others.
    """

    xx: Tensor
    xy: Tensor
    x0: Tensor
    yx: Tensor
    yy: Tensor
    y0: Tensor

    def after(self, first: Affine) -> Affine:
        """This map of what another has mapped."""
        return Affine(
            self.xx * first.xx + self.xy * first.yx,
            self.xx * first.xy + self.xy * first.yy,
            self.xx * first.x0 + self.xy * first.y0 + self.x0,
            self.yx * first.xx + self.yy * first.yx,
            self.yx * first.xy + self.yy * first.yy,
            self.yx * first.x0 + self.yy * first.y0 + self.y0,
        )


def scaling(x: Tensor, y: Tensor) -> Affine:
    """Both axes by factors [N]; -1 mirrors."""
    none = torch.zeros_like(x)
    return Affine(x, none, none, none, y, none)


def rotation(angle: Tensor) -> Affine:
    """By angles [N] in radians."""
    none = torch.zeros_like(angle)
    return Affine(angle.cos(), -angle.sin(), none, angle.sin(), angle.cos(), none)


def translation(x: Tensor, y: Tensor) -> Affine:
    """By pixels [N] to the right and down."""
    one, none = torch.ones_like(x), torch.zeros_like(x)
    return Affine(one, none, x, none, one, y)


def warp(images: Tensor, where: Affine) -> Tensor:
    """Images [N, C, H, W] whose pixel at p is the image's at where(p); beyond its edges it is mirrored.

    The identity gives the image itself, bit for bit.
    """
    height, width = images.shape[-2:]
    y, x = torch.meshgrid(
        torch.arange(height, device=images.device, dtype=images.dtype) - (height - 1) / 2,
        torch.arange(width, device=images.device, dtype=images.dtype) - (width - 1) / 2,
        indexing="ij",
    )
    to = Affine(*(each.view(-1, 1, 1) for each in where))
    left, right, past = _between(to.xx * x + to.xy * y + to.x0 + (width - 1) / 2, width)
    upper, lower, below = _between(to.yx * x + to.yy * y + to.y0 + (height - 1) / 2, height)

    def at(row: Tensor, column: Tensor) -> Tensor:
        places = (row * width + column).flatten(1).unsqueeze(1).expand(-1, images.shape[1], -1)
        return images.flatten(2).gather(2, places).view(images.shape)

    past, below = past.unsqueeze(1), below.unsqueeze(1)
    above = (1.0 - past) * at(upper, left) + past * at(upper, right)
    return (1.0 - below) * above + below * ((1.0 - past) * at(lower, left) + past * at(lower, right))


def shift(images: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Images [N, C, H, W], each moved by whole pixels, int64 [N], to the right and down; zeros come in."""
    n, channels, height, width = images.shape
    row = torch.arange(height, device=images.device) - y.view(-1, 1)
    column = torch.arange(width, device=images.device) - x.view(-1, 1)
    inside = ((row >= 0) & (row < height)).unsqueeze(2) & ((column >= 0) & (column < width)).unsqueeze(1)
    places = row.clamp(0, height - 1).unsqueeze(2) * width + column.clamp(0, width - 1).unsqueeze(1)
    moved = images.flatten(2).gather(2, places.flatten(1).unsqueeze(1).expand(n, channels, -1)).view(images.shape)
    return torch.where(inside.unsqueeze(1), moved, torch.zeros_like(moved))


def _between(place: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """The pixels before and after places along an axis, int64, and how far a place is past the first, in [0, 1)."""
    around = 2 * (size - 1)
    if around:
        place = torch.remainder(place, around)
        place = torch.where(place > size - 1, around - place, place)
    else:
        place = torch.zeros_like(place)
    first = place.floor().clamp(0, size - 1)
    before = first.long()
    return before, (before + 1).clamp_max(size - 1), place - first
