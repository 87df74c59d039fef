"""A loaded data set: uint8 images in memory and what is known about them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from twoplayer.core.batch import to_float, to_uint8
from twoplayer.core.errors import UserError
from twoplayer.core.protocols import ImageShape
from twoplayer.ops.pyramid import downsample


@dataclass(frozen=True)
class ImageData:
    """Images of one size.

    Attributes:
        images: [N, C, H, W], uint8.
        source: the source's text, as a user would write it.
        split: "train", "test" or "all".
        labels: [N], int64; absent for unlabeled data.
        class_names: one name per class id; empty for unlabeled data.
        conditions: [N, ...], float; whatever else each image is conditioned on.
    """

    images: Tensor
    source: str
    split: str = "all"
    labels: Tensor | None = None
    class_names: tuple[str, ...] = ()
    conditions: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def name(self) -> str:
        """The source without the folders it lies in: what may be published."""
        return self.source.rsplit("/", 1)[-1]

    @property
    def title(self) -> str:
        """The name without a file's ending."""
        return self.name.removesuffix(".npz").removesuffix(".parquet")

    @property
    def shape(self) -> ImageShape:
        """Channels, height, width."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over shape, pixels, labels and conditions: the same content gives the same text anywhere."""
        digest = hashlib.sha256(repr(tuple(self.images.shape)).encode())
        digest.update(self.images.contiguous().numpy().data)
        if self.labels is not None:
            digest.update(self.labels.contiguous().numpy().data)
        if self.conditions is not None:
            digest.update(self.conditions.contiguous().numpy().data)
        return digest.hexdigest()

    def chosen(self, rows: Tensor) -> ImageData:
        """Some of the images with all that is known about them; rows: int64 [n]."""
        labels = None if self.labels is None else self.labels[rows]
        conditions = None if self.conditions is None else self.conditions[rows]
        return replace(self, images=self.images[rows], labels=labels, conditions=conditions)

    def resized(self, size: int | None, channels: int | None) -> ImageData:
        """The same data at size x size pixels with 1 or 3 channels; None keeps what is there.

        Images that are not square are cropped to their central square before they are resized. Resizing averages over
        the covered area when shrinking (antialiased bilinear).
        """
        images = self.images
        if channels is not None and channels != self.shape[0]:
            images = _with_channels(images, channels)
        if size is not None and (size, size) != self.shape[1:]:
            images = _resize(_central_square(images), size)
        return replace(self, images=images)

    def halved(self, times: int) -> ImageData:
        """The same data, each image blurred and halved `times` times as the Laplacian pyramid does.

        Raises UserError when a halving finds images of a single pixel.
        """
        images = self.images
        for _ in range(times):
            if max(images.shape[-2:]) == 1:
                raise UserError(f"data.halvings={times} is too many for {self.shape[2]}x{self.shape[1]} images")
            images = torch.cat([to_uint8(downsample(to_float(chunk))) for chunk in torch.split(images, 4096)])
        return replace(self, images=images)


def _with_channels(images: Tensor, channels: int) -> Tensor:
    if channels == 3 and images.shape[1] == 1:
        return images.repeat(1, 3, 1, 1)
    if channels == 1 and images.shape[1] == 3:  # ITU-R BT.601 luma, as Pillow's "L"
        weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
        return (images.float() * weights).sum(1, keepdim=True).round().to(torch.uint8)
    raise UserError(f"cannot make {channels} channels of {images.shape[1]}; data.channels is 1 or 3")


def _central_square(images: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return images[..., top : top + side, left : left + side]


def _resize(images: Tensor, size: int) -> Tensor:
    chunks = [
        torch.nn.functional.interpolate(chunk.float(), (size, size), mode="bilinear", antialias=True)
        for chunk in torch.split(images, 4096)
    ]
    return torch.cat([chunk.round().clamp(0, 255).to(torch.uint8) for chunk in chunks])
