"""IDX files: one's own, and MNIST and Fashion-MNIST, which come from the hub where they are not on disk.

Sources: LeCun, Cortes and Burges 1998, http://yann.lecun.com/exdb/mnist (the IDX format is described there); Xiao,
Rasul and Vollgraf 2017, https://arxiv.org/abs/1708.07747. The folder `$TWOPLAYER_DATA/NAME` is read when it has the
four files (gzipped or not); otherwise the `datasets` library fetches the set once and keeps it in its own cache.
"""

from __future__ import annotations

import gzip
import io
import math
import struct
import zlib
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
import torch

from twoplayer.core.errors import UserError
from twoplayer.data.form import Form
from twoplayer.data.hub import load_from_hub
from twoplayer.data.images import ImageData
from twoplayer.data.source import FileSource, Source, Split, data_root

PARTS = {"train": ("train",), "test": ("t10k",), "all": ("train", "t10k")}
IDX_UINT8 = 0x08
MOST_IDX_BYTES = 2**34
"""Of a file, uncompressed: 16 GiB."""


class _IdxSource(Source):
    hub_repository: ClassVar[str]
    class_names: ClassVar[tuple[str, ...]]

    @classmethod
    def parse(cls, text: str) -> Self | None:
        return cls(name=text) if text == cls.syntax else None

    def load(self, split: Split, form: Form) -> ImageData:
        root = data_root()
        folder = root / self.name if root else None
        if folder is None or not folder.is_dir():
            where = f"{folder} does not exist" if folder else "TWOPLAYER_DATA is not set"
            data = load_from_hub(self.hub_repository, self.name, split, self.class_names, where)
        else:
            parts = [read_pair(folder, part) for part in PARTS[split]]
            images = torch.from_numpy(np.concatenate([images for images, _ in parts])).unsqueeze(1)
            labels = torch.from_numpy(np.concatenate([labels for _, labels in parts])).long()
            data = ImageData(images, self.name, split, labels, self.class_names)
        return data.resized(form)


class MnistSource(_IdxSource):
    """`mnist`: 60,000 train and 10,000 test digits, 28x28 gray."""

    name: Literal["mnist"] = "mnist"
    syntax = "mnist"
    least_accuracy = 0.985
    hub_repository = "ylecun/mnist"
    class_names = tuple(str(digit) for digit in range(10))


class FashionMnistSource(_IdxSource):
    """`fashion-mnist`: 60,000 train and 10,000 test pieces of clothing, 28x28 gray."""

    name: Literal["fashion-mnist"] = "fashion-mnist"
    syntax = "fashion-mnist"
    least_accuracy = 0.85
    hub_repository = "zalando-datasets/fashion_mnist"
    class_names = ("top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


class IdxSource(FileSource):
    """`FILE-idx3-ubyte`, gzipped or not: images [N, H, W], with the labels of `...labels...idx1-ubyte` beside it."""

    name: Literal["idx"] = "idx"
    syntax = "FILE-idx3-ubyte"
    ending = ("idx3-ubyte", "idx3-ubyte.gz")

    def load(self, split: Split, form: Form) -> ImageData:
        path = Path(self.path).expanduser()
        if not path.is_file():
            raise UserError(f"{path}: no such file")
        images = read_idx(path)
        if images.ndim != 3 or not images.size:
            raise UserError(f"{path} holds {images.shape} bytes; images are [N, H, W]")
        labels = _labels_beside(path)
        if labels is not None and labels.shape != images.shape[:1]:
            raise UserError(f"{path} has {len(images)} images, but {labels.shape[0]} labels lie beside it")
        pixels = torch.from_numpy(images).unsqueeze(1)
        if labels is None:
            return ImageData(pixels, self.text, "all").resized(form)
        names = tuple(map(str, range(int(labels.max()) + 1)))
        return ImageData(pixels, self.text, "all", torch.from_numpy(labels).long(), names).resized(form)


def _labels_beside(images: Path) -> np.ndarray | None:
    """uint8 [N], from the file that is called like the images', if there is one."""
    name = images.name.removesuffix(".gz").replace("images", "labels").replace("idx3", "idx1")
    there = [path for path in (images.with_name(name), images.with_name(f"{name}.gz")) if path.is_file()]
    return read_idx(there[0]) if there and there[0] != images else None


def read_pair(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [N, H, W] and labels uint8 [N] of the part "train" or "t10k" in a folder of IDX files."""
    images = read_idx(_find(folder, f"{part}-images-idx3-ubyte"))
    labels = read_idx(_find(folder, f"{part}-labels-idx1-ubyte"))
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise UserError(f"{folder}: {part} has images {images.shape} but labels {labels.shape}; copy the files again")
    return images, labels


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise UserError(f"{folder} lacks {name} or {name}.gz; put the IDX files there or unset TWOPLAYER_DATA")


def read_idx(path: Path) -> np.ndarray:
    """One IDX file of unsigned bytes, gzipped or not: uint8, shape from its header.

    Raises:
        UserError: the file is damaged or holds another type.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            shape = _shape(file, path)
            content = _read(file, math.prod(shape) + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path} is damaged ({error}); copy it again") from error
    if len(content) != math.prod(shape):
        found = f"only {len(content)}" if len(content) < math.prod(shape) else "more"
        raise UserError(f"{path} should hold {shape} bytes but has {found}; copy it again")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _shape(file: io.BufferedIOBase, path: Path) -> tuple[int, ...]:
    """What the header says. Raises UserError."""
    begin = file.read(4)
    if len(begin) < 4 or begin[:2] != b"\0\0" or begin[2] != IDX_UINT8 or not begin[3]:
        raise UserError(f"{path} is not an IDX file of bytes; copy it again")
    header = file.read(4 * begin[3])
    if len(header) < 4 * begin[3]:
        raise UserError(f"{path} ends within its header; copy it again")
    shape = struct.unpack(f">{begin[3]}I", header)
    if math.prod(shape) > MOST_IDX_BYTES:
        raise UserError(f"{path} says it holds {math.prod(shape):,} bytes; it is damaged, or too large")
    return shape


def _read(file: io.BufferedIOBase, most: int) -> bytearray:
    """Up to that many bytes; memory is taken as they come."""
    content = bytearray()
    while len(content) < most and (piece := file.read(min(2**24, most - len(content)))):
        content += piece
    return content
