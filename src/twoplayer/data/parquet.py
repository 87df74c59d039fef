"""Parquet files of encoded pictures, as the hub writes them.

Source: https://parquet.apache.org/docs/file-format and the `Image` and `ClassLabel` features of the `datasets` library:
a picture is a structure with its encoded `bytes`, the names of the classes stand in the schema's metadata. A plain
binary column of encoded pictures will do as well. The file is read with pyarrow, which comes with `datasets`; pictures
are brought to one form as those of a folder are (`data/folder.py`).
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from twoplayer.core.errors import UserError
from twoplayer.data.folder import GRAY_MODES, UNREADABLE, survey_of, to_mode, upright_size
from twoplayer.data.hub import IMAGE_COLUMNS, LABEL_COLUMNS
from twoplayer.data.images import ImageData
from twoplayer.data.npz import MAX_CLASSES
from twoplayer.data.source import FileSource, Split, Survey

ROWS_PER_TASK = 256
"""Pictures that a thread takes at once."""

SMALL_PICTURE_BYTES = 8192
"""Encoded pictures below this are mostly Python's own work, for which threads would only wait for each other."""

T = TypeVar("T")


class ParquetSource(FileSource):
    """`FILE.parquet` with a column of encoded pictures and, where there is one, a column of class ids.

    The pictures are in the column `image`, `img` or `picture`, else in the only column that can hold any. Class ids are
    whole numbers from 0 in `label`, `labels` or `fine_label`; columns of other types are left alone. The file is one
    set: it has no splits, every split is the whole.
    """

    name: Literal["parquet"] = "parquet"
    syntax = "FILE.parquet"
    ending = ".parquet"

    def survey(self) -> Survey:
        """Headers only: what cannot be read, and a size to resize to where the pictures differ in size."""
        path = Path(self.path).expanduser()
        try:
            sizes = in_threads(_upright_size, read_rows(path).pictures, path)
        except UserError as error:
            return Survey(problems=(str(error),))
        return survey_of(sizes)

    def load(self, split: Split, image_size: int | None, channels: int | None) -> ImageData:
        path = Path(self.path).expanduser()
        rows = read_rows(path)
        images = torch.from_numpy(decode(rows.pictures, path, image_size, channels))
        labels = None if rows.labels is None else torch.from_numpy(rows.labels)
        return ImageData(images, self.text, "all", labels, rows.class_names)


@dataclass(frozen=True)
class Rows:
    """The columns of a Parquet file that matter here.

    Attributes:
        pictures: N encoded pictures; None for an empty cell.
        labels: [N], int64 from 0, where the file has any.
        class_names: one name per class id; empty without labels.
    """

    pictures: list[bytes | None]
    labels: np.ndarray | None
    class_names: tuple[str, ...]


def read_rows(path: Path) -> Rows:
    """Pictures, still encoded, and labels of a Parquet file.

    Raises:
        UserError: the file is missing, damaged or empty, lacks a column, or its labels are no class ids.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            image, label = _image_column(schema, path), _label_column(schema)
            table = file.read([image] if label is None else [image, label])
    except (pa.ArrowException, OSError) as error:
        problem = " ".join(str(error).split())
        raise UserError(f"{path} cannot be read as a Parquet file ({problem}); copy it again") from error
    if len(table) == 0:
        raise UserError(f"{path} has no rows")
    column = table.column(image)
    pictures = (pc.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column).to_pylist()
    if label is None:
        return Rows(pictures, None, ())
    labels = _class_ids(table.column(label), f"{path}: column {label!r}")
    return Rows(pictures, labels, _class_names(schema, label, int(labels.max()) + 1))


def decode(pictures: Sequence[bytes | None], path: Path, image_size: int | None, channels: int | None) -> np.ndarray:
    """Encoded pictures as uint8 [N, C, H, W].

    Args:
        pictures: N files' contents.
        path: where they come from, for error messages.
        image_size: pixels a side; left out, all pictures must have one size.
        channels: 1 or 3; left out, 1 when all pictures are gray, else 3.

    Raises:
        UserError: a picture cannot be read (the message names its row), or they differ in size.
    """

    def read(encoded: bytes | None) -> np.ndarray:
        return _decode_one(encoded, image_size, channels)

    arrays = in_threads(read, pictures, path)
    if len({array.shape[1:] for array in arrays}) > 1:
        raise UserError(f"{path}: pictures differ in size; say the one to use, for example data.image_size=64")
    shape = max(array.shape for array in arrays)
    images = np.empty((len(arrays), *shape), np.uint8)
    for image, array in zip(images, arrays, strict=True):
        image[:] = array  # a gray picture among colored ones fills all three channels
    return images


def in_threads(read: Callable[[bytes | None], T], pictures: Sequence[bytes | None], path: Path) -> list[T]:
    """`read` of every picture, in order, in as many threads as pay.

    Raises:
        UserError: Pillow cannot read a picture; the message names its row, counted from 0.
    """

    def read_some(start: int) -> list[T]:
        found = []
        for row, encoded in enumerate(pictures[start : start + ROWS_PER_TASK], start):
            try:
                found.append(read(encoded))
            except UNREADABLE as error:
                problem = "no known format" if isinstance(error, UnidentifiedImageError) else error
                raise UserError(f"{path}: row {row} cannot be read as a picture ({problem})") from error
        return found

    num_bytes = sum(len(encoded) for encoded in pictures if encoded is not None)
    is_small = num_bytes < SMALL_PICTURE_BYTES * len(pictures)
    with ThreadPoolExecutor(1 if is_small else os.cpu_count()) as pool:
        return [one for some in pool.map(read_some, range(0, len(pictures), ROWS_PER_TASK)) for one in some]


def _decode_one(encoded: bytes | None, image_size: int | None, channels: int | None) -> np.ndarray:
    """One picture as uint8 [C, H, W]; raises what Pillow raises."""
    with _open(encoded) as opened:
        is_gray = channels == 1 or (channels is None and opened.mode in GRAY_MODES)
        ImageOps.exif_transpose(opened, in_place=True)
        picture = to_mode(opened, "L" if is_gray else "RGB")
    if image_size is not None:
        picture = ImageOps.fit(picture, (image_size, image_size), Image.Resampling.BICUBIC)
    flat = np.frombuffer(picture.tobytes(), np.uint8)  # much cheaper than asarray for small pictures
    return flat.reshape(picture.height, picture.width, -1).transpose(2, 0, 1)


def _upright_size(encoded: bytes | None) -> tuple[int, int]:
    """(width, height) of a picture once it is upright. Reads its header only."""
    with _open(encoded) as picture:
        return upright_size(picture)


def _open(encoded: bytes | None) -> Image.Image:
    if encoded is None:
        raise ValueError("the cell is empty")
    return Image.open(io.BytesIO(encoded))


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


def _class_ids(column: Any, where: str) -> np.ndarray:
    """[N], int64. Raises UserError for empty cells, negative numbers and numbers too large for a class id."""
    if column.null_count:
        raise UserError(f"{where} is empty in {column.null_count} rows; a label is a class id from 0")
    ids: np.ndarray = column.to_numpy()
    wrong = ids[(ids < 0) | (ids >= MAX_CLASSES)]
    if len(wrong):
        raise UserError(f"{where} holds class ids from 0 to {MAX_CLASSES - 1}, not {wrong[0]}")
    return ids.astype(np.int64)


def _class_names(schema: Any, label: str, num_classes: int) -> tuple[str, ...]:
    """The names that `datasets` wrote into the schema; the ids themselves where there are none."""
    try:
        names = json.loads(schema.metadata[b"huggingface"])["info"]["features"][label]["names"]
    except (TypeError, KeyError, ValueError):
        names = []
    return tuple(map(str, names if len(names) >= num_classes else range(num_classes)))
