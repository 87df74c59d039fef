"""Labeled image sets from the hub, through the `datasets` library (imported only here, only when used)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from twoplayer.core.errors import UserError
from twoplayer.data.images import ImageData
from twoplayer.data.source import Split

IMAGE_COLUMNS = ("image", "img", "picture")
LABEL_COLUMNS = ("label", "labels", "fine_label")
"""What sets on the hub call these columns, the likeliest first."""


def load_from_hub(repository: str, name: str, split: Split, class_names: tuple[str, ...], reason: str) -> ImageData:
    """The split of a hub data set with one of the `IMAGE_COLUMNS` and one of the `LABEL_COLUMNS`, as uint8.

    Args:
        repository: "ORG/NAME", or a local folder of parquet files in the hub's layout.
        name: what the resulting data calls itself.
        split: "train", "test" or "all".
        class_names: one name per label.
        reason: why the local files were not used, for the error message.
    """
    import datasets

    datasets.disable_progress_bars()
    try:
        rows = datasets.load_dataset(repository, split="train+test" if split == "all" else split)
    except Exception as error:  # the library raises whatever its transport raises
        raise UserError(
            f"{name}: {reason}, and the hub cannot be read ({type(error).__name__}); set TWOPLAYER_DATA to a folder "
            f"that has {name}/, or connect to the network once"
        ) from error
    image, label = (_find(columns, rows.column_names, repository) for columns in (IMAGE_COLUMNS, LABEL_COLUMNS))
    images = torch.from_numpy(np.stack([_bytes_of(row) for row in rows[image]]))
    if images.ndim == 3:
        images = images.unsqueeze(-1)
    labels = torch.tensor(rows[label], dtype=torch.int64)
    return ImageData(images.permute(0, 3, 1, 2).contiguous(), name, split, labels, class_names)


def _find(wanted: tuple[str, ...], columns: Iterable[str], repository: str) -> str:
    for name in wanted:
        if name in columns:
            return name
    raise UserError(f"{repository} has no column {' or '.join(wanted)} (it has: {', '.join(columns)})")


def _bytes_of(image: Any) -> np.ndarray:
    return np.asarray(image.convert("L") if image.mode not in ("L", "RGB") else image, dtype=np.uint8)
