"""Pictures that are made ready when their batch comes: what does not fit in memory, or is not wanted there.

A batch is a function of its number, as everywhere: the order of a pass is drawn before any picture is read, so that a
run goes on from any batch without reading those before it. Pictures that can be read in any order are shuffled all
together. Those that lie in groups, such as the row groups of a Parquet file, are shuffled as whole groups, and then
among the groups that are in memory together, so that each group is read once in a pass.
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
from twoplayer.data.collection import Collection, Group, tried
from twoplayer.data.form import Form
from twoplayer.data.pictures import BadPicture, decode
from twoplayer.ops.pyramid import halved

if TYPE_CHECKING:
    from twoplayer.data.images import ImageData

BUFFER = 4096
"""Pictures of groups that are shuffled together, if they are not more than MOST_BUFFERED bytes; at least one group."""

MOST_BUFFERED = 2**28

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
    def batches(self, order: Stream, first: int, size: int) -> Iterator[Callable[[], Pixels]]:
        """The work for the batches of a pass, from the one with number `first` on; a shorter last one may be there.

        Args:
            order: where the order of the pass is drawn.
            first: batches before it are not read.
            size: pictures per batch.
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

    def batches(self, order: Stream, first: int, size: int) -> Iterator[Callable[[], Pixels]]:
        for rows in order.permutation(len(self))[first * size :].split(size):
            yield partial(self._chosen, rows)

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

    def batches(self, order: Stream, first: int, size: int) -> Iterator[Callable[[], Pixels]]:
        if self.collection.groups is None:
            for chosen in order.permutation(len(self))[first * size :].split(size):
                yield partial(self._read, chosen.tolist())
            return
        waiting: list[tuple[int, bytes | BadPicture]] = []
        for found in self._in_blocks(order, first * size):
            waiting += found
            while len(waiting) >= size:
                yield partial(self._made, waiting[:size])
                del waiting[:size]
        if waiting:
            yield partial(self._made, waiting)

    def sample(self, n: int) -> Iterator[Callable[[], Pixels]]:
        if n < len(self):
            yield from super().sample(n)
        else:  # in their order, as prepared ones are
            for chosen in torch.arange(n).split(SAMPLED):
                yield partial(self._read, chosen.tolist())

    def _read(self, numbers: list[int]) -> Pixels:
        return self._made([(number, tried(self.collection, number)) for number in numbers])

    def _made(self, encoded: list[tuple[int, bytes | BadPicture]]) -> Pixels:
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

    def _in_blocks(self, order: Stream, skipped: int) -> Iterator[list[tuple[int, bytes | BadPicture]]]:
        """Encoded pictures in the order of a pass, a block of groups at a time, without the first `skipped`."""
        groups = self.collection.groups
        assert groups is not None
        turns = order.child("groups").permutation(len(groups)).tolist()
        for number, block in enumerate(_blocks([groups[turn] for turn in turns])):
            rows = [row for group in block for row in group.rows]
            if skipped < len(rows):
                encoded = [(row, tried(self.collection, row)) for row in rows]
                shuffled = order.child("block", number).permutation(len(rows))
                yield [encoded[place] for place in shuffled[skipped:].tolist()]
            skipped = max(skipped - len(rows), 0)


def _blocks(groups: list[Group]) -> Iterator[list[Group]]:
    """Groups that are in memory together."""
    block: list[Group] = []
    pictures = size = 0
    for group in groups:
        pictures, size = pictures + len(group.rows), size + group.size
        if block and (pictures > BUFFER or size > MOST_BUFFERED):
            yield block
            block, pictures, size = [], len(group.rows), group.size
        block.append(group)
    if block:
        yield block
