"""A loaded data set: uint8 images in memory and what is known about them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from twoplayer.core.errors import UserError, did_you_mean
from twoplayer.core.protocols import ImageShape
from twoplayer.data.collection import digest_of
from twoplayer.data.form import Crop, Form, place_of
from twoplayer.data.streamed import Streamed
from twoplayer.ops.pyramid import halved


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
        notes: what a person should know about how they were read.
        known_fingerprint: of exactly these images, where it has been found before.
        streamed: where all pictures come from, when `images` are only some of them.
    """

    images: Tensor
    source: str
    split: str = "all"
    labels: Tensor | None = None
    class_names: tuple[str, ...] = ()
    conditions: Tensor | None = None
    notes: tuple[str, ...] = ()
    known_fingerprint: str | None = None
    streamed: Streamed | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def count(self) -> int:
        """Pictures that a pass of a training goes through."""
        return len(self) if self.streamed is None else len(self.streamed)

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
        if self.known_fingerprint is not None:
            return self.known_fingerprint
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
        changed = self.changed(self.images[rows])
        return replace(changed, labels=labels, conditions=conditions)

    def resized(self, form: Form) -> ImageData:
        """The same data in one form: cropped to squares, then resized; what the form leaves out stays as it is.

        Resizing averages over the covered area when shrinking (antialiased bilinear).
        """
        images, size = self.images, form.image_size
        if form.channels is not None and form.channels != self.shape[0]:
            images = _with_channels(images, form.channels)
        if size is not None and (size, size) != self.shape[1:]:
            images = _resize(_squares(images, form.crop), size)
        return self.changed(images)

    def of_classes(self, names: Sequence[str]) -> ImageData:
        """The images of some classes, which keep their order among themselves. Raises UserError for unknown ones."""
        assert self.labels is not None
        ids = class_ids(names, self.class_names, self.name)
        rows = torch.isin(self.labels, torch.tensor(ids)).nonzero().flatten()
        found = self.chosen(rows)
        renumbered = torch.full((len(self.class_names),), -1)
        renumbered[ids] = torch.arange(len(ids))
        labels = renumbered[self.labels[rows]]
        return replace(found, labels=labels, class_names=tuple(self.class_names[number] for number in ids))

    def changed(self, images: Tensor) -> ImageData:
        """The same data with other pixels."""
        return self if images is self.images else replace(self, images=images, known_fingerprint=None, streamed=None)

    def halved(self, times: int) -> ImageData:
        """The same data, each image blurred and halved `times` times as the Laplacian pyramid does.

        Raises UserError when a halving finds images of a single pixel.
        """
        if 2**times >= 2 * max(self.shape[1:]):
            raise UserError(f"data.halvings={times} is too many for {self.shape[2]}x{self.shape[1]} images")
        smaller = self.changed(halved(self.images, times)) if times else self
        if self.streamed is None or not times:
            return smaller
        return replace(
            smaller, streamed=self.streamed.halved(times), known_fingerprint=digest_of([self.fingerprint, times])
        )


def _with_channels(images: Tensor, channels: int) -> Tensor:
    if channels == 3 and images.shape[1] == 1:
        return images.repeat(1, 3, 1, 1)
    if channels == 1 and images.shape[1] == 3:  # ITU-R BT.601 luma, as Pillow's "L"
        weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
        return (images.float() * weights).sum(1, keepdim=True).round().to(torch.uint8)
    raise UserError(f"cannot make {channels} channels of {images.shape[1]}; data.channels is 1 or 3")


def class_ids(names: Sequence[str], known: Sequence[str], where: str) -> list[int]:
    """The ids of classes, ascending. Raises UserError for a name that is none."""
    for name in names:
        if name not in known:
            raise UserError(f"{where} has no class {name!r}{did_you_mean(name, known)} (it has: {', '.join(known)})")
    return sorted({known.index(name) for name in names})


def _squares(images: Tensor, crop: Crop) -> Tensor:
    """Of images [N, C, H, W]: see `Form.crop`; image n's name is its number."""
    height, width = images.shape[-2:]
    if height == width:
        return images
    side = min(height, width)
    if crop == "none":
        rows, columns = max(height, width) - height, max(height, width) - width
        around = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
        return torch.nn.functional.pad(images, around)
    if crop == "center":
        top, left = (height - side) // 2, (width - side) // 2
        return images[..., top : top + side, left : left + side]
    places = [place_of(crop, str(number)) for number in range(len(images))]
    starts = [(round(place * (height - side)), round(place * (width - side))) for place in places]
    return torch.stack(
        [each[:, top : top + side, left : left + side] for each, (top, left) in zip(images, starts, strict=True)]
    )


def _resize(images: Tensor, size: int) -> Tensor:
    chunks = [
        torch.nn.functional.interpolate(chunk.float(), (size, size), mode="bilinear", antialias=True)
        for chunk in torch.split(images, 4096)
    ]
    return torch.cat([chunk.round().clamp(0, 255).to(torch.uint8) for chunk in chunks])
