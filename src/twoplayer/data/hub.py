"""Image sets from the hub, through the `datasets` library (imported only here, only when used).

Source: https://huggingface.co/docs/datasets: the features `Image` and `ClassLabel`. A local folder of Parquet files in
the hub's layout is named in the same way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch

from twoplayer.core.errors import UserError
from twoplayer.core.rng import Stream
from twoplayer.data.collection import MOST_BYTES, Collection, Rows, digest_of, too_large
from twoplayer.data.encoded import EncodedSource, require_streamable, sampled
from twoplayer.data.form import Form
from twoplayer.data.images import ImageData
from twoplayer.data.lanes import BUFFER
from twoplayer.data.pictures import BadPicture, bad_picture, decode
from twoplayer.data.source import Split, Wanted
from twoplayer.data.streamed import WHOLE, Pixels, Streamed
from twoplayer.data.tables import IMAGE_COLUMNS, LABEL_COLUMNS, class_ids
from twoplayer.ops.pyramid import halved


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
        try:
            return HubCollection.open(self.where, split, self.text)
        except NotThere as error:
            raise self._unreadable(error) from error

    def images(self, wanted: Wanted) -> ImageData:
        if wanted.cache != "none":
            return super().images(wanted)
        require_streamable(wanted)
        try:
            source = HubStream.open(self.where, self.text, wanted)
        except NotThere as error:
            raise self._unreadable(error) from error
        return sampled(source, self.text, wanted.split, source.class_names, (), source.identity)

    def has_test(self) -> bool:
        import datasets

        try:
            return "test" in datasets.get_dataset_split_names(self.where)
        except Exception:  # the library raises whatever its transport raises
            return False

    @property
    def where(self) -> str:
        """A folder, or the name of a set on the hub."""
        place = Path(self.repository).expanduser()
        return str(place) if place.is_dir() else self.repository

    def _unreadable(self, error: NotThere) -> UserError:
        return UserError(f"{self.text} cannot be read ({error}); is its name right, and the network there?")


class NotThere(Exception):
    """What the library's transport said."""


@dataclass
class HubCollection(Collection):
    """The rows of a split.

    Attributes:
        rows: the library's table, mapped from its own cache.
        column: where the pictures are.
        roots: folders in which files of pictures may lie.
    """

    rows: Any = None
    column: str = ""
    roots: tuple[Path, ...] = ()

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
        label = _find(LABEL_COLUMNS, rows.column_names, repository) if labeled else _label_of(rows.features)
        labels, names = None, tuple[str, ...]()
        if label is not None:
            labels = class_ids(rows[label], f"{text}: column {label!r}")
            names = tuple(map(str, getattr(rows.features[label], "names", None) or range(int(labels.max()) + 1)))
        try:
            rows = rows.cast_column(column, datasets.Image(decode=False))
        except (TypeError, ValueError, pa.ArrowException) as error:
            raise UserError(f"{repository}: column {column!r} holds no pictures") from error
        return cls(text, Rows(len(rows)), labels, names, rows=rows, column=column, roots=roots_of(repository))

    def where(self, number: int) -> str:
        return f"{self.text}: {self.names[number]}"

    @property
    def identity(self) -> str:
        return digest_of([self.rows._fingerprint])

    def read(self, number: int) -> bytes:
        return content_of(self.rows[number][self.column], self.where(number), self.roots)


class HubStream(Streamed):
    """The rows of a split as they come over the network: nothing is kept on disk.

    A pass is shuffled as the library does it: shards among each other, then within a buffer. To go on from a batch
    within a pass, the rows before it are fetched again; each of several processes fetches all rows and decodes its own.

    Args:
        rows: the library's stream, its pictures encoded.
        n: how many rows it has.
        column: where the pictures are.
        label: where the class ids are; only of classes that the set names.
        class_names: one per class id.
        text: the source, for messages.
        form: with size and channels.
        roots: folders in which files of pictures may lie.
    """

    def __init__(
        self,
        rows: Any,
        n: int,
        column: str,
        label: str | None,
        class_names: tuple[str, ...],
        text: str,
        form: Form,
        roots: tuple[Path, ...],
    ) -> None:
        self.rows, self.n, self.column, self.label = rows, n, column, label
        self.class_names, self.text, self.form, self.roots = class_names, text, form, roots

    @classmethod
    def open(cls, repository: str, text: str, wanted: Wanted) -> HubStream:
        """Ask what is there. Raises NotThere; UserError for what cannot be had from a stream."""
        import datasets

        if wanted.classes or wanted.split == "all":
            raise UserError(f"data.cache=none: {text} is streamed whole: say data.split=train, and no data.classes")
        try:
            rows = datasets.load_dataset(repository, split=wanted.split, streaming=True)
        except Exception as error:  # the library raises whatever its transport raises
            raise NotThere(type(error).__name__) from error
        announced = (rows.info.splits or {}).get(wanted.split)
        if announced is None or not announced.num_examples or rows.column_names is None:
            raise UserError(f"data.cache=none: {text} does not say how many pictures it has; leave data.cache out")
        column, label = _find(IMAGE_COLUMNS, rows.column_names, repository), _label_of(rows.features or {})
        names = tuple(map(str, getattr(rows.features[label], "names", None) or ())) if label else ()
        rows = rows.cast_column(column, datasets.Image(decode=False))
        n = announced.num_examples
        if wanted.limit is not None and wanted.limit < n:
            rows, n = rows.take(wanted.limit), wanted.limit
        return cls(rows, n, column, label if names else None, names, text, wanted.form, roots_of(repository))

    @property
    def identity(self) -> str:
        """What the hub says of the set; another text when it says that it has changed."""
        return digest_of([self.text, self.rows.info.version, self.rows.info.splits, self.n, self.form])

    def __len__(self) -> int:
        return self.n

    def batches(self, order: Stream, first: int, size: int, rows: slice = WHOLE) -> Iterator[Callable[[], Pixels]]:
        shuffled = self.rows.shuffle(seed=order.derived_seed() % 2**32, buffer_size=BUFFER)
        coming = iter(shuffled.skip(first * size) if first else shuffled)
        while chunk := self._next(coming, size):
            yield partial(self._made, chunk[rows])

    def _next(self, rows: Iterator[dict[str, Any]], size: int) -> list[dict[str, Any]]:
        """Raises UserError for whatever the library's transport raises."""
        try:
            return list(islice(rows, size))
        except Exception as error:
            problem = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(f"{self.text} cannot be read on ({problem}); --resume goes on when it can") from error

    def _made(self, rows: list[dict[str, Any]]) -> Pixels:
        images = []
        for row in rows:
            self.require_open()
            encoded = content_of(row[self.column], self.text, self.roots)
            name = hashlib.blake2b(encoded, digest_size=8).hexdigest()  # rows of a shuffled stream have no numbers
            images.append(decode(encoded, name, self.form, self.text))
        labels = None if self.label is None else torch.tensor([row[self.label] for row in rows])
        return Pixels(halved(torch.from_numpy(np.stack(images)), self.halvings), labels)


def content_of(cell: dict[str, Any] | None, where: str, roots: tuple[Path, ...]) -> bytes:
    """A cell's encoded picture; where it is in a file, perhaps within an archive, of one that came with the set.

    Raises BadPicture.
    """
    if cell is None or (cell["bytes"] is None and cell["path"] is None):
        raise BadPicture(where, "the cell is empty")
    encoded: bytes | None = cell["bytes"]
    if encoded is None:
        import fsspec

        path = str(cell["path"])
        place = path.rsplit("::", 1)[-1]
        if "://" not in place and not any(Path(place).resolve().is_relative_to(root) for root in roots):
            raise BadPicture(where, "it is a file that did not come with the set")
        try:
            with fsspec.open(path, "rb") as file:
                encoded = file.read(MOST_BYTES + 1)
        except (OSError, ValueError, KeyError) as error:
            raise bad_picture(where, error) from error
    if len(encoded) > MOST_BYTES:
        raise too_large(where, len(encoded))
    return encoded


def roots_of(repository: str) -> tuple[Path, ...]:
    """Where the files of a set may lie: its own folder, or what the library keeps."""
    import datasets

    kept = Path(datasets.config.HF_CACHE_HOME).expanduser().resolve()
    return (Path(repository).resolve(), kept) if Path(repository).is_dir() else (kept,)


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


def _label_of(features: Mapping[str, Any]) -> str | None:
    """The column of class ids, if there is one."""
    numbered = [name for name, kind in features.items() if "int" in getattr(kind, "dtype", "")]
    return next((name for name in LABEL_COLUMNS if name in numbered), None)


def _find(wanted: tuple[str, ...], columns: Iterable[str], repository: str) -> str:
    for name in wanted:
        if name in columns:
            return name
    raise UserError(f"{repository} has no column {' or '.join(wanted)} (it has: {', '.join(columns)})")
