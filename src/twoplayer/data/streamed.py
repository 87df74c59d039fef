"""Pictures that are made ready when their batch comes: what does not fit in memory, or is not wanted there.

A batch is a function of its number, as everywhere: the order of a pass is drawn before any picture is read, so that a
run goes on from any batch without reading those before it. Pictures that can be read in any order are shuffled all
together. Those that lie in groups, such as the row groups of a Parquet file, are read in lanes; see `data/lanes.py`.
Of several processes that train together, each reads and decodes its own rows of each batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from copy import copy
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from torch import Tensor

from twoplayer.core.rng import Stream
from twoplayer.data.collection import Collection, Encoded, tried
from twoplayer.data.form import Form
from twoplayer.data.lanes import in_lanes
from twoplayer.data.pictures import BadPicture, decode
from twoplayer.ops.pyramid import halved

if TYPE_CHECKING:
    from twoplayer.data.images import ImageData

WHOLE = slice(None)
"""All rows of a batch."""

SAMPLED = 64
"""Pictures of a sample that a thread decodes at a time."""


@dataclass(frozen=True)
class Pixels:
    """Images as they are stored.

    Attributes:
        images: [N, C, H, W], uint8.
        labels: [N], int64.
        conditions: [N, ...], float.
    """

    images: Tensor
    labels: Tensor | None = None
    conditions: Tensor | None = None

    def to(self, device: torch.device) -> Pixels:
        """The same on a device; from pinned memory without waiting for it."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> Pixels:
        """The same in pinned memory."""
        return self._each(Tensor.pin_memory)

    def _each(self, made: Callable[[Tensor], Tensor]) -> Pixels:
        parts = (self.images, self.labels, self.conditions)
        return Pixels(*(None if each is None else made(each) for each in parts))  # type: ignore[arg-type]


class Streamed(ABC):
    """Where batches come from that are made ready when they are needed."""

    halvings = 0
    """How often each picture is blurred and halved."""

    is_closed = False
    """Whether work that is under way is of no use any more."""

    @abstractmethod
    def __len__(self) -> int:
        """How many pictures a pass has."""

    @abstractmethod
    def batches(self, order: Stream, first: int, size: int, rows: slice = WHOLE) -> Iterator[Callable[[], Pixels]]:
        """The work for the batches of a pass, from the one with number `first` on; a shorter last one may be there.

        Args:
            order: where the order of the pass is drawn.
            first: batches before it are not read.
            size: pictures per batch.
            rows: which of each batch are made; they are the same pictures whichever others are made.
        """

    def sample(self, n: int) -> Iterator[Callable[[], Pixels]]:
        """The work for n pictures to keep: the first of a pass of their own."""
        yield from islice(self.batches(Stream(0).child("sample"), 0, SAMPLED), -(-n // SAMPLED))

    def require_open(self) -> None:
        """Raise CancelledError when the work is of no use any more; asked between pictures, which may be large."""
        if self.is_closed:
            raise CancelledError

    def halved(self, times: int) -> Self:
        """The same pictures, blurred and halved that often."""
        found = copy(self)
        found.halvings = self.halvings + times
        return found


class OnHost(Streamed):
    """Images that are in the host's memory, or mapped into it, because the device has too little.

    Args:
        data: the images.
    """

    def __init__(self, data: ImageData) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def batches(self, order: Stream, first: int, size: int, rows: slice = WHOLE) -> Iterator[Callable[[], Pixels]]:
        for chosen in order.permutation(len(self))[first * size :].split(size):
            yield partial(self._chosen, chosen[rows])

    def _chosen(self, rows: Tensor) -> Pixels:
        labels, conditions = (None if each is None else each[rows] for each in (self.data.labels, self.data.conditions))
        return Pixels(self.data.images[rows], labels, conditions)


class Decoded(Streamed):
    """Pictures of a collection, read and decoded for each batch.

    Args:
        collection: its pictures can be read in any order.
        form: with size and channels.
    """

    def __init__(self, collection: Collection, form: Form) -> None:
        self.collection, self.form = collection, form

    def __len__(self) -> int:
        return len(self.collection)

    def batches(self, order: Stream, first: int, size: int, rows: slice = WHOLE) -> Iterator[Callable[[], Pixels]]:
        if self.collection.groups is None:
            for chosen in order.permutation(len(self))[first * size :].split(size):
                yield partial(self._read, chosen[rows].tolist())
            return
        for encoded in in_lanes(self.collection, order, first, size, rows):
            yield partial(self._made, encoded)

    def sample(self, n: int) -> Iterator[Callable[[], Pixels]]:
        if n < len(self):
            yield from super().sample(n)
        else:  # in their order, as prepared ones are
            for chosen in torch.arange(n).split(SAMPLED):
                yield partial(self._read, chosen.tolist())

    def _read(self, numbers: list[int]) -> Pixels:
        return self._made([(number, tried(self.collection, number)) for number in numbers])

    def _made(self, encoded: list[Encoded]) -> Pixels:
        """Raises BadPicture."""
        images = []
        for number, content in encoded:
            self.require_open()
            if isinstance(content, BadPicture):
                raise content
            where = self.collection.where(number)
            images.append(decode(content, self.collection.names[number], self.form, where))
        labels = self.collection.labels
        ids = None if labels is None else torch.from_numpy(labels[[number for number, _ in encoded]])
        return Pixels(halved(torch.from_numpy(np.stack(images)), self.halvings), ids)
