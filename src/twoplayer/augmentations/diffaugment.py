"""DiffAugment: every image that D sees is recolored, moved and partly covered at random, and G learns through it.

Source: Zhao, Liu, Lin, Zhu and Han 2020, https://arxiv.org/abs/2006.10738, with the amounts of their code:
brightness + U(-0.5, 0.5), saturation x U(0, 2), contrast x U(0.5, 1.5); a move by whole pixels up to an eighth of each
side, zeros (middle gray) coming in; a rectangle of half of each side, around any pixel, covered with zeros. Applied to
reals alone, such changes would leak into the pictures; applied to both, D never sees an image that is not changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from twoplayer.core.augmentation import Augmentation
from twoplayer.core.rng import Stream
from twoplayer.ops import color as colors
from twoplayer.ops.warp import shift

Change = Literal["color", "translation", "cutout"]


class DiffAugment(Augmentation):
    """Color, translation and cutout, always or each with a probability.

    Attributes:
        policy: which changes, in this order.
        probability: of each change, for each image; 1 in the paper.
    """

    name: Literal["diffaugment"] = "diffaugment"
    policy: Annotated[tuple[Change, ...], Field(strict=False, min_length=1)] = ("color", "translation", "cutout")
    probability: float = Field(1.0, ge=0.0, le=1.0)

    def build(self) -> nn.Module:
        return _DiffAugment(self.policy, self.probability)


class _DiffAugment(nn.Module):
    def __init__(self, policy: tuple[Change, ...], probability: float) -> None:
        super().__init__()
        self.policy, self.probability = policy, probability

    def forward(self, images: Tensor, stream: Stream) -> Tensor:
        for change in self.policy:
            images = CHANGES[change](images, stream.child(change), self.probability)
        return images


def color(images: Tensor, stream: Stream, probability: float) -> Tensor:
    """Brightness, saturation and contrast of images [N, C, H, W] in [-1, 1], each changed with a probability."""
    dark, pale, flat, amount, saturation, contrast = stream.uniform((len(images), 6), like=images).unbind(1)
    images = colors.brighten(images, torch.where(dark < probability, amount - 0.5, 0.0))
    images = colors.saturate(images, torch.where(pale < probability, 2.0 * saturation, 1.0))
    return colors.contrast(images, torch.where(flat < probability, contrast + 0.5, 1.0))


def translation(images: Tensor, stream: Stream, probability: float) -> Tensor:
    """Images [N, C, H, W], each moved by up to an eighth of its height and width, with a probability."""
    height, width = images.shape[-2:]
    gate, x, y = stream.uniform((len(images), 3), like=images).unbind(1)
    moved = gate < probability
    return shift(
        images,
        torch.where(moved, whole(x, 2 * (width // 8) + 1) - width // 8, 0),
        torch.where(moved, whole(y, 2 * (height // 8) + 1) - height // 8, 0),
    )


def cutout(images: Tensor, stream: Stream, probability: float) -> Tensor:
    """Images [N, C, H, W] with a rectangle of half of each side set to 0, with a probability; it may reach beyond."""
    gate, x, y = stream.uniform((len(images), 3), like=images).unbind(1)
    row, column = (
        covered(whole(place, side + 1 - side // 2 % 2), side, images)
        for place, side in ((y, images.shape[2]), (x, images.shape[3]))
    )
    hidden = row.unsqueeze(2) & column.unsqueeze(1) & (gate < probability).view(-1, 1, 1)
    return torch.where(hidden.unsqueeze(1), torch.zeros_like(images), images)


def whole(uniform: Tensor, n: int) -> Tensor:
    """Numbers in [0, 1) to whole numbers 0 .. n-1, int64."""
    return (uniform * n).long().clamp_max(n - 1)


def covered(center: Tensor, side: int, images: Tensor) -> Tensor:
    """Which pixels along an axis lie in a window of half of them around centers [N]: bool [N, side]."""
    first = (center - side // 4).view(-1, 1)
    places = torch.arange(side, device=images.device)
    return (places >= first) & (places < first + side // 2)


CHANGES: dict[Change, Callable[[Tensor, Stream, float], Tensor]] = {
    "color": color,
    "translation": translation,
    "cutout": cutout,
}
