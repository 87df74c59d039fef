"""What columns of tables of pictures are called, and what a label may be."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from twoplayer.core.errors import UserError

IMAGE_COLUMNS = ("image", "img", "picture")
LABEL_COLUMNS = ("label", "labels", "fine_label")
"""What sets on the hub call these columns, the likeliest first."""

MAX_CLASSES = 10_000


def class_ids(cells: Iterable[int | None], where: str) -> np.ndarray:
    """A column of class ids, int64 [N]. Raises UserError for what is no class id."""
    found = list(cells)
    for cell in found:
        if cell is None or not 0 <= cell < MAX_CLASSES:
            told = "an empty cell" if cell is None else cell
            raise UserError(f"{where} holds class ids from 0 to {MAX_CLASSES - 1}, not {told}")
    return np.array(found, np.int64)
