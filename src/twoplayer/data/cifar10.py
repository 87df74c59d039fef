"""CIFAR-10, from two Parquet files on disk or from the hub.

Source: Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html. The folder `$TWOPLAYER_DATA/cifar10` holds
`train.parquet` and `test.parquet` with columns `img` (encoded pictures) and `label`; where it does not exist, the
`datasets` library fetches the set once and keeps it in its own cache. A copy whose pictures were encoded with losses
(JPEG) differs a little from the hub's (PNG), and so does its fingerprint.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch

from twoplayer.core.errors import UserError
from twoplayer.data.hub import load_from_hub
from twoplayer.data.images import ImageData
from twoplayer.data.parquet import decode, read_rows
from twoplayer.data.source import Source, Split, data_root

HUB_REPOSITORY = "uoft-cs/cifar10"
CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PARTS = {"train": ("train",), "test": ("test",), "all": ("train", "test")}


class Cifar10Source(Source):
    """`cifar10`: 50,000 train and 10,000 test photographs of ten kinds of things, 32x32 color."""

    name: Literal["cifar10"] = "cifar10"
    syntax = "cifar10"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        return cls() if text == cls.syntax else None

    def load(self, split: Split, image_size: int | None, channels: int | None) -> ImageData:
        root = data_root()
        folder = root / self.name if root else None
        if folder is None or not folder.is_dir():
            where = f"{folder} does not exist" if folder else "TWOPLAYER_DATA is not set"
            data = load_from_hub(HUB_REPOSITORY, self.name, split, CLASS_NAMES, where)
        else:
            parts = [read_part(folder, part) for part in PARTS[split]]
            images, labels = (torch.from_numpy(np.concatenate(arrays)) for arrays in zip(*parts, strict=True))
            data = ImageData(images, self.name, split, labels, CLASS_NAMES)
        return data.resized(image_size, channels)


def read_part(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [N, 3, H, W] and labels int64 [N] of the part "train" or "test" in a folder of Parquet files."""
    path = folder / f"{part}.parquet"
    if not path.is_file():
        raise UserError(f"{folder} lacks {path.name}; put it there or unset TWOPLAYER_DATA")
    rows = read_rows(path)
    if rows.labels is None or rows.labels.max() >= len(CLASS_NAMES):
        raise UserError(f"{path} must have a column 'label' with class ids from 0 to {len(CLASS_NAMES) - 1}")
    return decode(rows.pictures, path, None, 3), rows.labels
