"""Batches as a pure function of their number, so that a run can go on from any of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from dataclasses import replace
from functools import partial
from itertools import count, islice
from os import cpu_count
from typing import Any

import torch
from torch import Tensor

from twoplayer.core.batch import Batch, rows_of, to_float
from twoplayer.core.errors import UserError
from twoplayer.core.ranks import ALONE, Ranks, on_this_machine
from twoplayer.core.rng import Stream
from twoplayer.data.images import ImageData
from twoplayer.data.streamed import Pixels, Streamed
from twoplayer.ops.pyramid import coarse


class Batches(ABC):
    """Shuffled batches of a data set; the last partial batch of each pass is dropped.

    Args:
        data: the images.
        batch_size: images per batch.
        stream: where the order of each pass and the flips are drawn.
        device: where batches appear.
        is_resident: the images are kept on the device as uint8; else on the host.
        flip: mirror each image left to right with probability 0.5.
        condition_on_coarse: the condition of each image is its own low-pass version (see `ops/pyramid.py`).
        labeled_per_class: images of each class whose labels D may learn from, drawn once and shown as a second batch.

    Raises:
        UserError: the batch is larger than the data, or a class has too few images.
    """

    def __init__(
        self,
        data: ImageData,
        batch_size: int,
        stream: Stream,
        device: torch.device,
        *,
        is_resident: bool = True,
        flip: bool = False,
        condition_on_coarse: bool = False,
        labeled_per_class: int | None = None,
    ) -> None:
        if batch_size > data.count:
            raise UserError(f"batch_size={batch_size} is larger than the data ({data.count} images in {data.name})")
        self.batch_size = batch_size
        self.per_epoch = data.count // batch_size
        self.stream, self.device = stream, device
        self.flip = flip
        self.condition_on_coarse = condition_on_coarse
        place = device if is_resident else torch.device("cpu")
        self.images = data.images.to(place)
        self.labels = None if data.labels is None else data.labels.to(place)
        self.conditions = None if data.conditions is None else data.conditions.to(place)
        self.labeled = None
        if labeled_per_class is not None:
            self.labeled = labeled_subset(data, labeled_per_class, stream.child("labeled")).to(place)

    def __getitem__(self, number: int) -> Batch:
        """The batch with that number, counted from 0 over all passes."""
        return self.part(number, ALONE)

    def part(self, number: int, ranks: Ranks) -> Batch:
        """A rank's rows of the batch with that number; pictures of other rows are not made. Implements `PartedSupply`.

        Raises UserError when the batch cannot be shared equally.
        """
        rows = ranks.rows(self.batch_size)
        batch = self._numbered(number, rows, ranks.sliced(self.flips(number)))
        if self.labeled is None:
            return batch
        return replace(batch, labeled=rows_of(self._labeled_batch(number), rows))

    @abstractmethod
    def _numbered(self, number: int, rows: slice, flips: Stream) -> Batch:
        """These rows of the batch with that number, without a labeled one."""

    def flips(self, number: int) -> Stream:
        """Where it is drawn which images of a batch are mirrored."""
        return self.stream.child("flip", number)

    def some(self, n: int, stream: Stream) -> Batch:
        """n images, not mirrored, different ones while they last; always the same for one stream."""
        places = torch.arange(n) % len(self.images)
        return self._chosen(stream.permutation(len(self.images))[places].to(self.images.device), None)

    def close(self) -> None:  # noqa: B027  (batches that are there all the time keep nothing open)
        """No more batches are wanted."""

    def _chosen(self, places: Tensor, flips: Stream | None) -> Batch:
        """Images that are there all the time."""
        labels = None if self.labels is None else self.labels[places]
        conditions = None if self.conditions is None else self.conditions[places]
        return self._batch(Pixels(self.images[places], labels, conditions), flips)

    def _batch(self, pixels: Pixels, flips: Stream | None) -> Batch:
        pixels = pixels.to(self.device)
        images = to_float(pixels.images)
        if self.flip and flips is not None:
            mirrored = flips.uniform((len(images), 1, 1, 1), like=images) < 0.5
            images = torch.where(mirrored, images.flip(-1), images)
        return Batch(images, pixels.labels, coarse(images) if self.condition_on_coarse else pixels.conditions)

    def _labeled_batch(self, number: int) -> Batch:
        """The labeled images go round and round in an order of their own."""
        assert self.labeled is not None
        places = torch.arange(number * self.batch_size, (number + 1) * self.batch_size) % len(self.labeled)
        return self._chosen(self.labeled[places.to(self.labeled.device)], self.stream.child("labeled flip", number))


class IndexedBatches(Batches):
    """Batches of images that are on the device, made there from their places alone. Implements `IndexedSupply`."""

    _last: tuple[int, Tensor] | None = None

    def _numbered(self, number: int, rows: slice, flips: Stream) -> Batch:
        return self.at(self.places(number)[rows], flips)

    def places(self, number: int) -> Tensor:
        """The images of a batch, int64 [batch_size], on the device."""
        epoch, place = divmod(number, self.per_epoch)
        if self._last is None or self._last[0] != epoch:
            order = self.stream.child("order", epoch).permutation(len(self.images))
            self._last = epoch, order.to(self.images.device)
        return self._last[1][place * self.batch_size : (place + 1) * self.batch_size]

    def at(self, places: Tensor, flips: Stream) -> Batch:
        """The batch of these images, without a labeled one."""
        return self._chosen(places, flips)


class StreamedBatches(Batches):
    """Batches that are made in threads, a few ahead of the training.

    Args:
        data: the images that are there all the time, for figures along the way; all of them, or some.
        source: where batches come from.
        batch_size: images per batch.
        stream: where the order of each pass and the flips are drawn.
        device: where batches appear.
        how: as for `Batches`: flip, condition_on_coarse, labeled_per_class.
    """

    def __init__(
        self,
        data: ImageData,
        source: Streamed,
        batch_size: int,
        stream: Stream,
        device: torch.device,
        **how: Any,
    ) -> None:
        super().__init__(data, batch_size, stream, device, is_resident=False, **how)
        self.source = copy(source)
        self.workers = max((cpu_count() or 1) // on_this_machine(), 1)
        self._pool = ThreadPoolExecutor(self.workers, "batches")
        self._reader = ThreadPoolExecutor(1, "reader")  # groups of pictures come in their order
        self._begun: deque[Future[Pixels]] = deque()
        self._next: tuple[int, slice] | None = None

    def _numbered(self, number: int, rows: slice, flips: Stream) -> Batch:
        if (number, rows) != self._next:
            self._cancel()
            self._tasks = self._from(number, rows)
        while len(self._begun) < 2 * self.workers:
            self._begun.append(self._pool.submit(_done, self._reader.submit(next, self._tasks)))
        self._next = number + 1, rows
        return self._batch(self._begun.popleft().result(), flips)

    def close(self) -> None:
        self.source.is_closed = True
        self._cancel()
        self._pool.shutdown()
        self._reader.shutdown()

    def _cancel(self) -> None:
        while self._begun:
            self._begun.pop().cancel()
        self._next = None

    def _from(self, number: int, rows: slice) -> Iterator[Callable[[], Pixels]]:
        """The work for these rows of that batch and all that follow. Raises UserError where a pass is too short."""
        epoch, first = divmod(number, self.per_epoch)
        for each in count(epoch):
            done, order = first, self.stream.child("order", each)
            for task in islice(self.source.batches(order, first, self.batch_size, rows), self.per_epoch - first):
                done += 1
                yield partial(_pinned, task) if self.device.type == "cuda" else task
            if done < self.per_epoch:
                raise UserError(f"there are fewer than the {len(self.source):,} pictures that were announced")
            first = 0


def _done(task: Future[Callable[[], Pixels]]) -> Pixels:
    """Work that is done once it is known."""
    return task.result()()


def _pinned(task: Callable[[], Pixels]) -> Pixels:
    """Where the device can fetch it without the host waiting."""
    return task().pinned()


def labeled_subset(data: ImageData, per_class: int, stream: Stream) -> Tensor:
    """Places of `per_class` images of each class, drawn at random and shuffled: int64 [classes * per_class].

    Raises UserError when the data is unlabeled or a class has too few images.
    """
    if data.labels is None:
        raise UserError(f"data.labeled_per_class={per_class} needs labeled data, but {data.name} has no labels")
    order = stream.child("choice").permutation(len(data))
    labels = data.labels[order]
    chosen = [order[labels == label][:per_class] for label in range(len(data.class_names))]
    for name, places in zip(data.class_names, chosen, strict=True):
        if len(places) < per_class:
            raise UserError(f"data.labeled_per_class={per_class}, but class {name} has {len(places)} images")
    together = torch.cat(chosen)
    return together[stream.child("order").permutation(len(together))]
