"""Batches as a pure function of their number, so that a run can go on from any of them."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from twoplayer.core.batch import Batch, to_float
from twoplayer.core.errors import UserError
from twoplayer.core.rng import Stream
from twoplayer.data.images import ImageData
from twoplayer.ops.pyramid import coarse


class Batches:
    """Shuffled batches of a data set; the last partial batch of each pass is dropped.

    Args:
        data: the images; they are kept on the device as uint8.
        batch_size: images per batch.
        stream: where the order of each pass and the flips are drawn.
        device: where batches appear.
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
        flip: bool = False,
        condition_on_coarse: bool = False,
        labeled_per_class: int | None = None,
    ) -> None:
        if batch_size > len(data):
            raise UserError(f"batch_size={batch_size} is larger than the data ({len(data)} images in {data.name})")
        self.batch_size = batch_size
        self.per_epoch = len(data) // batch_size
        self.stream = stream
        self.flip = flip
        self.images = data.images.to(device)
        self.labels = None if data.labels is None else data.labels.to(device)
        self.conditions = None if data.conditions is None else data.conditions.to(device)
        self.condition_on_coarse = condition_on_coarse
        self.labeled = None
        if labeled_per_class is not None:
            self.labeled = labeled_subset(data, labeled_per_class, stream.child("labeled")).to(device)
        self._order = lru_cache(maxsize=2)(self._draw_order)

    def __getitem__(self, number: int) -> Batch:
        """The batch with that number, counted from 0 over all passes."""
        batch = self.at(self.places(number), self.flips(number))
        return batch if self.labeled is None else replace(batch, labeled=self._labeled_batch(number))

    def places(self, number: int) -> Tensor:
        """The images of a batch, int64 [batch_size], on the device."""
        epoch, place = divmod(number, self.per_epoch)
        return self._order(epoch)[place * self.batch_size : (place + 1) * self.batch_size]

    def flips(self, number: int) -> Stream:
        """Where it is drawn which of them are mirrored."""
        return self.stream.child("flip", number)

    def at(self, places: Tensor, flips: Stream) -> Batch:
        """The batch of these images, without a labeled one."""
        return self._batch(places, flips)

    def some(self, n: int, stream: Stream) -> Batch:
        """n images, not mirrored, different ones while they last; always the same for one stream."""
        places = torch.arange(n) % len(self.images)
        return self._batch(stream.permutation(len(self.images))[places].to(self.images.device), None)

    def _batch(self, chosen: Tensor, flips: Stream | None) -> Batch:
        images = to_float(self.images[chosen])
        if self.flip and flips is not None:
            mirrored = flips.uniform((len(images), 1, 1, 1), like=images) < 0.5
            images = torch.where(mirrored, images.flip(-1), images)
        condition = None if self.conditions is None else self.conditions[chosen]
        if self.condition_on_coarse:
            condition = coarse(images)
        return Batch(images, None if self.labels is None else self.labels[chosen], condition)

    def _labeled_batch(self, number: int) -> Batch:
        """The labeled images go round and round in an order of their own."""
        assert self.labeled is not None
        places = torch.arange(number * self.batch_size, (number + 1) * self.batch_size) % len(self.labeled)
        return self._batch(self.labeled[places.to(self.labeled.device)], self.stream.child("labeled flip", number))

    def _draw_order(self, epoch: int) -> Tensor:
        return self.stream.child("order", epoch).permutation(len(self.images)).to(self.images.device)


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
