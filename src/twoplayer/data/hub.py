"""Labeled image sets from the hub, through the `datasets` library (imported only here, only when used)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from twoplayer.core.errors import UserError
from twoplayer.data.images import ImageData
from twoplayer.data.source import Split


def load_from_hub(repository: str, name: str, split: Split, class_names: tuple[str, ...], reason: str) -> ImageData:
    """The split of a hub data set with columns `image` and `label`, as uint8.

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
    images = torch.from_numpy(np.stack([_bytes_of(row) for row in rows["image"]]))
    if images.ndim == 3:
        images = images.unsqueeze(-1)
    labels = torch.tensor(rows["label"], dtype=torch.int64)
    return ImageData(images.permute(0, 3, 1, 2).contiguous(), name, split, labels, class_names)


def _bytes_of(image: Any) -> np.ndarray:
    return np.asarray(image.convert("L") if image.mode not in ("L", "RGB") else image, dtype=np.uint8)
