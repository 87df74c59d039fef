"""A batch of real images on the device, and the one conversion between stored bytes and model values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from twoplayer.core.ranks import Ranks
from twoplayer.core.rng import Stream


@dataclass(frozen=True)
class Batch:
    """Real images and what is known about them.

    Attributes:
        images: [N, C, H, W], float in [-1, 1].
        labels: [N], int64 class ids; absent for unlabeled data.
        condition: [N, ...], float; whatever else the images are conditioned on, for example a coarser image.
        labeled: a second batch, of images whose labels D may learn from; only in semi-supervised training.
    """

    images: Tensor
    labels: Tensor | None = None
    condition: Tensor | None = None
    labeled: Batch | None = None

    def given(self, names: Iterable[str]) -> dict[str, Tensor]:
        """The keywords that a conditional network is called with."""
        found = {name: getattr(self, name) for name in names}
        missing = [name for name, value in found.items() if value is None]
        assert not missing, f"the data has no {' and no '.join(missing)}"
        return found


class BatchSupply(Protocol):
    """Where the batches of a training come from: a batch is a function of its number.

    Attributes:
        per_epoch: batches in one pass over the data.
    """

    per_epoch: int

    def __getitem__(self, number: int) -> Batch:
        """The batch with that number, counted from 0 over all passes."""

    def some(self, n: int, stream: Stream) -> Batch:
        """n images; always the same for one stream."""


@runtime_checkable
class PartedSupply(BatchSupply, Protocol):
    """A supply that makes one process's rows of a batch without the others' rows."""

    def part(self, number: int, ranks: Ranks) -> Batch:
        """A rank's rows of the batch with that number."""


@runtime_checkable
class IndexedSupply(BatchSupply, Protocol):
    """A supply that says which images a batch is made of, and makes it on the device from that alone."""

    def places(self, number: int) -> Tensor:
        """The images of a batch, int64 [batch_size], on the device."""

    def flips(self, number: int) -> Stream:
        """Where it is drawn which of them are mirrored."""

    def at(self, places: Tensor, flips: Stream) -> Batch:
        """The batch of these images."""


def rows_of(batch: Batch, rows: slice) -> Batch:
    """Some images of a batch, and what is known about them."""

    def chosen(values: Tensor | None) -> Tensor | None:
        return None if values is None else values[rows]

    labeled = None if batch.labeled is None else rows_of(batch.labeled, rows)
    return replace(
        batch,
        images=batch.images[rows],
        labels=chosen(batch.labels),
        condition=chosen(batch.condition),
        labeled=labeled,
    )


def to_float(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """uint8 [N, C, H, W] to float in [-1, 1]: (x - 127.5) / 127.5."""
    return images.to(dtype).sub_(127.5).div_(127.5)


def to_uint8(images: Tensor) -> Tensor:
    """Float [N, C, H, W] in [-1, 1] to uint8, rounding to nearest; the inverse of `to_float`."""
    return images.detach().float().mul(127.5).add_(127.5).round_().clamp_(0, 255).to(torch.uint8)
