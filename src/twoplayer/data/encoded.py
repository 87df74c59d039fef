"""Sources whose pictures are encoded: they are prepared once and mapped from disk."""

from __future__ import annotations

from abc import abstractmethod
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch

from twoplayer.core.errors import UserError
from twoplayer.data.collection import Collection, Part, digest_of
from twoplayer.data.form import Form
from twoplayer.data.images import ImageData, class_ids
from twoplayer.data.prepared import prepared
from twoplayer.data.source import Source, Split, Wanted, some_of
from twoplayer.data.streamed import Decoded, Streamed
from twoplayer.data.survey import Survey, survey_of_collection

SAMPLE = 4096
"""Pictures that are kept in memory where the others are not."""


class EncodedSource(Source):
    """A source that is a collection."""

    has_splits: ClassVar[bool] = False

    @abstractmethod
    def collection(self, split: Split) -> Collection:
        """Its pictures. Raises UserError."""

    def survey(self, split: Split = "train") -> Survey:
        return survey_of_collection(self.collection(split))

    def load(self, split: Split, form: Form) -> ImageData:
        return self.images(Wanted(split, form))

    def images(self, wanted: Wanted) -> ImageData:
        return self.of(selected(self.collection(wanted.split), wanted), wanted)

    def of(self, collection: Collection, wanted: Wanted) -> ImageData:
        """The pictures of a collection in the wanted form. Raises UserError."""
        if wanted.cache == "none":
            return self._streamed(collection, wanted)
        found = prepared(collection, wanted.form, wanted.bad_images, wanted.told)
        labels = None if collection.labels is None else torch.from_numpy(collection.labels[found.rows])
        left_out = (f"left out: {words}" for words in found.bad)
        data = ImageData(
            torch.from_numpy(found.images),
            self.text,
            wanted.split if self.has_splits else "all",
            labels,
            collection.class_names,
            notes=(*collection.notes, *left_out),
        )
        return replace(data, known_fingerprint=found.remembered("sha256", lambda: data.fingerprint))

    def _streamed(self, collection: Collection, wanted: Wanted) -> ImageData:
        require_streamable(wanted)
        if not collection.is_random:
            raise UserError(
                f"data.cache=none: {collection.text} is compressed as a whole and can be read from its start only; "
                "unpack it to .tar, or leave data.cache out"
            )
        source = Decoded(collection, wanted.form)
        return sampled(
            source,
            self.text,
            wanted.split if self.has_splits else "all",
            collection.class_names,
            tuple(collection.notes),
            digest_of([len(collection), collection.names_digest, collection.labels is None, wanted.form]),
        )


def require_streamable(wanted: Wanted) -> None:
    """Raise UserError for what cannot be decoded batch by batch."""
    form = wanted.form
    if form.image_size is None or form.channels is None:
        raise UserError(
            "data.cache=none: say data.image_size and data.channels, because the pictures are not read before"
        )
    if wanted.bad_images == "skip":
        raise UserError(
            "data.cache=none: data.bad_images=skip needs to read every picture before; leave one of them out"
        )


def sampled(
    source: Streamed, text: str, split: Split, class_names: tuple[str, ...], notes: tuple[str, ...], identity: str
) -> ImageData:
    """Pictures that are decoded for each batch, and as many of them as figures along the way need.

    Raises UserError where one of these cannot be read.
    """
    n = min(SAMPLE, len(source))
    pool = ThreadPoolExecutor()
    try:
        parts = list(pool.map(lambda task: task(), source.sample(n)))
    except BaseException:  # an interrupt does not wait for large pictures
        source.is_closed = True
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    images = torch.cat([each.images for each in parts])
    labels = [each.labels for each in parts if each.labels is not None]
    if len(images) < len(source):
        notes = (*notes, f"data.cache=none: figures are of {len(images):,} of the {len(source):,} pictures")
    data = ImageData(images, text, split, torch.cat(labels) if labels else None, class_names, notes=notes)
    return replace(data, known_fingerprint=digest_of([identity, data.fingerprint]), streamed=source)


def selected(collection: Collection, wanted: Wanted) -> Collection:
    """Of the wanted classes, no more than the wanted number. Raises UserError."""
    if wanted.classes:
        if collection.labels is None:
            raise UserError(f"data.classes={list(wanted.classes)}, but {collection.text} has no classes")
        ids = class_ids(wanted.classes, collection.class_names, collection.text)
        numbers = np.flatnonzero(np.isin(collection.labels, ids))
        collection = Part.of(collection, numbers, [collection.class_names[number] for number in ids])
    if wanted.limit is not None and wanted.limit < len(collection):
        collection = Part.of(collection, np.sort(some_of(len(collection), wanted.limit).numpy()))
    return collection
