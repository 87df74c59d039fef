"""Batches as a pure function of their number, so that a run can go on from any of them."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from twoplayer.core.batch import Batch, to_float
from twoplayer.core.errors import UserError
from twoplayer.core.rng import Stream
from twoplayer.data.images import ImageData


class Batches:
    """Shuffled batches of a data set; the last partial batch of each pass is dropped.

    Args:
        data: the images; they are kept on the device as uint8.
        batch_size: images per batch.
        stream: where the order of each pass and the flips are drawn.
        device: where batches appear.
        flip: mirror each image left to right with probability 0.5.

    Raises:
        UserError: the batch is larger than the data.
    """

    def __init__(
        self, data: ImageData, batch_size: int, stream: Stream, device: torch.device, *, flip: bool = False
    ) -> None:
        if batch_size > len(data):
            raise UserError(f"batch_size={batch_size} is larger than the data ({len(data)} images in {data.name})")
        self.batch_size = batch_size
        self.per_epoch = len(data) // batch_size
        self.stream = stream
        self.flip = flip
        self.images = data.images.to(device)
        self.labels = None if data.labels is None else data.labels.to(device)
        self._order = lru_cache(maxsize=2)(self._draw_order)

    def __getitem__(self, number: int) -> Batch:
        """The batch with that number, counted from 0 over all passes."""
        epoch, place = divmod(number, self.per_epoch)
        chosen = self._order(epoch)[place * self.batch_size : (place + 1) * self.batch_size]
        images = to_float(self.images[chosen])
        if self.flip:
            mirrored = self.stream.child("flip", number).uniform((len(images), 1, 1, 1), like=images) < 0.5
            images = torch.where(mirrored, images.flip(-1), images)
        return Batch(images, None if self.labels is None else self.labels[chosen])

    def _draw_order(self, epoch: int) -> Tensor:
        return self.stream.child("order", epoch).permutation(len(self.images)).to(self.images.device)
