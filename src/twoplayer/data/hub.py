"""Image sets from the hub, through the `datasets` library (imported only here, only when used).

Source: https://huggingface.co/docs/datasets: the features `Image` and `ClassLabel`. A local folder of Parquet files in
the hub's layout is named in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np

from twoplayer.core.errors import UserError
from twoplayer.data.collection import Collection, digest_of
from twoplayer.data.encoded import EncodedSource
from twoplayer.data.form import Form
from twoplayer.data.images import ImageData
from twoplayer.data.pictures import BadPicture
from twoplayer.data.source import Split, Wanted
from twoplayer.data.tables import IMAGE_COLUMNS, LABEL_COLUMNS


class HubSource(EncodedSource):
    """`hub:ORG/NAME`: a set on the hub, with its splits."""

    name: Literal["hub"] = "hub"
    syntax = "hub:ORG/NAME"
    repository: str
    has_splits: ClassVar[bool] = True

    @property
    def text(self) -> str:
        path = Path(self.repository).expanduser()
        return f"hub:{path.resolve() if path.is_dir() else self.repository}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        return cls(repository=text.removeprefix("hub:")) if text.startswith("hub:") else None

    def collection(self, split: Split) -> Collection:
        place = Path(self.repository).expanduser()
        where = str(place) if place.is_dir() else self.repository
        try:
            return HubCollection.open(where, split, self.text)
        except NotThere as error:
            raise UserError(
                f"{self.text} cannot be read ({error}); is its name right, and the network there?"
            ) from error


class NotThere(Exception):
    """What the library's transport said."""


@dataclass
class HubCollection(Collection):
    """The rows of a split.

    Attributes:
        rows: the library's table, mapped from its own cache.
        column: where the pictures are.
    """

    rows: Any = None
    column: str = ""

    @classmethod
    def open(cls, repository: str, split: Split, text: str, *, labeled: bool = False) -> HubCollection:
        """Fetch it where it is not there yet. Raises NotThere; UserError for sets without pictures, or labels."""
        import datasets
        import pyarrow as pa

        datasets.disable_progress_bars()
        try:
            rows = datasets.load_dataset(repository, split="train+test" if split == "all" else split)
        except Exception as error:  # the library raises whatever its transport raises
            raise NotThere(type(error).__name__) from error
        column = _find(IMAGE_COLUMNS, rows.column_names, repository)
        label = _find(LABEL_COLUMNS, rows.column_names, repository) if labeled else _label_of(rows.column_names)
        labels, names = None, tuple[str, ...]()
        if label is not None:
            labels = np.asarray(rows[label], np.int64)
            names = tuple(map(str, getattr(rows.features[label], "names", None) or range(int(labels.max()) + 1)))
        try:
            rows = rows.cast_column(column, datasets.Image(decode=False))
        except (TypeError, ValueError, pa.ArrowException) as error:
            raise UserError(f"{repository}: column {column!r} holds no pictures") from error
        numbers = [f"row {row}" for row in range(len(rows))]
        return cls(text, numbers, labels, names, rows=rows, column=column)

    def where(self, number: int) -> str:
        return f"{self.text}: {self.names[number]}"

    @property
    def identity(self) -> str:
        return digest_of([self.rows._fingerprint])

    def read(self, number: int) -> bytes:
        cell = self.rows[number][self.column]
        if cell is None or (cell["bytes"] is None and cell["path"] is None):
            raise BadPicture(self.where(number), "the cell is empty")
        encoded: bytes = cell["bytes"] if cell["bytes"] is not None else Path(cell["path"]).read_bytes()
        return encoded


def load_from_hub(repository: str, name: str, split: Split, class_names: tuple[str, ...], reason: str) -> ImageData:
    """The split of a labeled hub data set.

    Args:
        repository: "ORG/NAME", or a local folder of parquet files in the hub's layout.
        name: what the resulting data calls itself.
        split: "train", "test" or "all".
        class_names: one name per label.
        reason: why the local files were not used, for the error message.
    """
    source = HubSource(repository=repository)
    try:
        collection = HubCollection.open(repository, split, source.text, labeled=True)
    except NotThere as error:
        raise UserError(
            f"{name}: {reason}, and the hub cannot be read ({error}); set TWOPLAYER_DATA to a folder "
            f"that has {name}/, or connect to the network once"
        ) from error
    data = source.of(collection, Wanted(split, Form()))
    return ImageData(data.images, name, split, data.labels, class_names)


def _label_of(columns: Iterable[str]) -> str | None:
    return next((name for name in LABEL_COLUMNS if name in columns), None)


def _find(wanted: tuple[str, ...], columns: Iterable[str], repository: str) -> str:
    for name in wanted:
        if name in columns:
            return name
    raise UserError(f"{repository} has no column {' or '.join(wanted)} (it has: {', '.join(columns)})")
