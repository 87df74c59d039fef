"""CIFAR-10, from two Parquet files on disk or from the hub.

Source: Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html. The folder `$TWOPLAYER_DATA/cifar10` holds
`train.parquet` and `test.parquet` with columns `img` (encoded pictures) and `label`; where it does not exist, the
`datasets` library fetches the set once and keeps it in its own cache. A copy whose pictures were encoded with losses
(JPEG) differs a little from the hub's (PNG), and so does its fingerprint.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

import torch

from twoplayer.core.errors import UserError
from twoplayer.data.form import Form
from twoplayer.data.hub import load_from_hub
from twoplayer.data.images import ImageData
from twoplayer.data.parquet import ParquetSource
from twoplayer.data.source import Source, Split, Wanted, data_root

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

    def load(self, split: Split, form: Form) -> ImageData:
        root = data_root()
        folder = root / self.name if root else None
        if folder is None or not folder.is_dir():
            where = f"{folder} does not exist" if folder else "TWOPLAYER_DATA is not set"
            data = load_from_hub(HUB_REPOSITORY, self.name, split, CLASS_NAMES, where)
        else:
            parts = [read_part(folder, part) for part in PARTS[split]]
            images = torch.cat([each.images for each in parts])
            labels = torch.cat([each.labels for each in parts if each.labels is not None])
            data = ImageData(images, self.name, split, labels, CLASS_NAMES)
        return data.resized(form)


def read_part(folder: Path, part: str) -> ImageData:
    """The part "train" or "test" in a folder of Parquet files."""
    path = folder / f"{part}.parquet"
    if not path.is_file():
        raise UserError(f"{folder} lacks {path.name}; put it there or unset TWOPLAYER_DATA")
    data = ParquetSource(path=str(path)).images(Wanted(form=Form(channels=3)))
    if data.labels is None or data.labels.max() >= len(CLASS_NAMES):
        raise UserError(f"{path} must have a column 'label' with class ids from 0 to {len(CLASS_NAMES) - 1}")
    return data
