"""Sources whose pictures are encoded: they are prepared once and mapped from disk."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch

from twoplayer.core.errors import UserError
from twoplayer.data.collection import Collection, Part
from twoplayer.data.form import Form
from twoplayer.data.images import ImageData, class_ids
from twoplayer.data.prepared import prepared
from twoplayer.data.source import Source, Split, Wanted, some_of
from twoplayer.data.survey import Survey, survey_of_collection


class EncodedSource(Source):
    """A source that is a collection.

    Attributes:
        has_splits: else every split is the whole.
    """

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
        """The pictures of a collection in the wanted form."""
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
