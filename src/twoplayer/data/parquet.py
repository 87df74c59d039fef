"""Parquet files of encoded pictures, as the hub writes them.

Source: https://parquet.apache.org/docs/file-format and the `Image` and `ClassLabel` features of the `datasets` library:
a picture is a structure with its encoded `bytes`, the names of the classes stand in the schema's metadata. A plain
binary column of encoded pictures will do as well. The file is read with pyarrow, which comes with `datasets`, a row
group at a time.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from twoplayer.core.errors import UserError
from twoplayer.data.collection import MOST_BYTES, Collection, Group, Rows, digest_of, too_large
from twoplayer.data.encoded import EncodedSource
from twoplayer.data.pictures import BadPicture
from twoplayer.data.source import FileSource, Split
from twoplayer.data.tables import IMAGE_COLUMNS, LABEL_COLUMNS, class_ids


class ParquetSource(FileSource, EncodedSource):
    """`FILE.parquet` with a column of encoded pictures and, where there is one, a column of class ids.

    The pictures are in the column `image`, `img` or `picture`, else in the only column that can hold any. Class ids are
    whole numbers from 0 in `label`, `labels` or `fine_label`; columns of other types are left alone.
    """

    name: Literal["parquet"] = "parquet"
    syntax = "FILE.parquet"
    ending = ".parquet"

    def collection(self, split: Split) -> Collection:
        return ParquetCollection.open(Path(self.path).expanduser(), self.text)


@dataclass
class ParquetCollection(Collection):
    """The rows of one Parquet file.

    Attributes:
        path: the file.
        column: where the pictures are.
        starts: the first row of each row group, and the number of all rows.
        room: bytes of each row group.
        stat: the file's size and time.
        local: what each thread remembers.
    """

    path: Path = Path()
    column: str = ""
    starts: np.ndarray = field(default_factory=lambda: np.zeros(1, np.int64))
    room: list[int] = field(default_factory=list)
    stat: tuple[int, int] = (0, 0)
    local: threading.local = field(default_factory=threading.local)

    @classmethod
    def open(cls, path: Path, text: str) -> ParquetCollection:
        """Read its schema and labels.

        Raises:
            UserError: the file is missing, damaged or empty, lacks a column, or its labels are no class ids.
        """
        with opened(path) as file:
            schema = file.schema_arrow
            column, label = _image_column(schema, path), _label_column(schema)
            sizes = [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]
            starts = np.cumsum([0, *sizes])
            room = [file.metadata.row_group(group).total_byte_size for group in range(len(sizes))]
            labels = None if label is None or not starts[-1] else file.read([label]).column(label)
        if not starts[-1]:
            raise UserError(f"{path} has no rows")
        ids = None if labels is None else class_ids(labels.to_pylist(), f"{path}: column {label!r}")
        names = () if ids is None or label is None else _class_names(schema, label, int(ids.max()) + 1)
        stat = path.stat()
        return cls(
            text,
            Rows(int(starts[-1])),
            ids,
            names,
            path=path,
            column=column,
            starts=starts,
            room=room,
            stat=(stat.st_size, stat.st_mtime_ns),
        )

    def where(self, number: int) -> str:
        return f"{self.path}: {self.names[number]}"

    @property
    def identity(self) -> str:
        return digest_of([self.path.name, self.stat, self.column])

    @property
    def groups(self) -> list[Group] | None:
        return [Group(range(*ends), size) for ends, size in zip(pairwise(self.starts.tolist()), self.room, strict=True)]

    def read(self, number: int) -> bytes:
        group = int(np.searchsorted(self.starts, number, "right")) - 1
        return self._checked(number, self._group(group)[number - int(self.starts[group])])

    def stream(self) -> Iterator[tuple[int, bytes | BadPicture]]:
        for group in range(len(self.starts) - 1):
            for number, encoded in enumerate(self._group(group), int(self.starts[group])):
                try:
                    yield number, self._checked(number, encoded)
                except BadPicture as error:
                    yield number, error

    def _checked(self, number: int, encoded: bytes | None) -> bytes:
        if encoded is None:
            raise BadPicture(self.where(number), "the cell is empty")
        if len(encoded) > MOST_BYTES:
            raise too_large(self.where(number), len(encoded))
        return encoded

    def _group(self, group: int) -> list[bytes | None]:
        """The encoded pictures of a row group; each thread remembers its last one."""
        mine: tuple[int, list[bytes | None]] | None = getattr(self.local, "group", None)
        if mine is None or mine[0] != group:
            import pyarrow as pa
            import pyarrow.compute as pc

            with opened(self.path) as file:
                column = file.read_row_group(group, [self.column]).column(self.column)
            cells = pc.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column
            found = cells.to_pylist()
            if len(found) != self.starts[group + 1] - self.starts[group]:
                raise UserError(f"{self.path} has another number of rows than it says; copy it again")
            mine = (group, found)
            self.local.group = mine
        return mine[1]


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The file. Raises UserError where it is missing or damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except UserError:
        raise
    except (pa.ArrowException, OSError, ValueError, IndexError, KeyError) as error:
        problem = " ".join(str(error).split())
        raise UserError(f"{path} cannot be read as a Parquet file ({problem}); copy it again") from error


def _image_column(schema: Any, path: Path) -> str:
    able = [field.name for field in schema if _holds_pictures(field.type)]
    named = [name for name in IMAGE_COLUMNS if name in able]
    if named or len(able) == 1:
        return str((named or able)[0])
    why = f"columns {', '.join(able)} could all hold pictures" if able else "no column holds encoded pictures"
    raise UserError(f"{path}: {why}; call the right one 'image' (it has: {', '.join(schema.names) or 'none'})")


def _holds_pictures(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        place = kind.get_field_index("bytes")
        return place >= 0 and _holds_pictures(kind.field(place).type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _label_column(schema: Any) -> str | None:
    import pyarrow as pa

    whole = [field.name for field in schema if pa.types.is_integer(field.type)]
    return next((name for name in LABEL_COLUMNS if name in whole), None)


def _class_names(schema: Any, label: str, num_classes: int) -> tuple[str, ...]:
    """The names that `datasets` wrote into the schema; the ids themselves where there are none."""
    try:
        names = json.loads(schema.metadata[b"huggingface"])["info"]["features"][label]["names"]
    except (TypeError, KeyError, ValueError):
        names = []
    return tuple(map(str, names if len(names) >= num_classes else range(num_classes)))
