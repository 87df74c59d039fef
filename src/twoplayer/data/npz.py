"""Arrays saved with numpy: `images`, and `labels` if there are any."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from tokenize import TokenError
from typing import Literal

import numpy as np
import torch

from twoplayer.core.errors import UserError
from twoplayer.data.form import Form
from twoplayer.data.images import ImageData
from twoplayer.data.source import FileSource, Split
from twoplayer.data.tables import MAX_CLASSES

NUMPY_ERRORS = (
    ValueError,
    TypeError,
    OverflowError,
    SyntaxError,
    TokenError,
    MemoryError,
    EOFError,
    OSError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    RuntimeError,
)
"""What numpy and zipfile raise for arrays that are damaged or say they are larger than memory."""


class NpzSource(FileSource):
    """`FILE.npz` with `images` uint8 [N, H, W], [N, H, W, C] or [N, C, H, W] (C is 1 or 3), optionally `labels` [N]
    and `conditions` [N, ...], numbers that the images are conditioned on.

    The file is one set: it has no splits, every split is the whole.
    """

    name: Literal["npz"] = "npz"
    syntax = "FILE.npz"
    ending = ".npz"

    def load(self, split: Split, form: Form) -> ImageData:
        arrays = _read(Path(self.path).expanduser())
        if "images" not in arrays:
            raise UserError(f"{self.path} has no array 'images' (it has: {', '.join(arrays) or 'nothing'})")
        images = torch.from_numpy(channels_first(arrays["images"], self.path))
        if images.numel() == 0:
            raise UserError(f"{self.path} has no images (their shape is {list(images.shape)})")
        data = ImageData(images, self.text, conditions=_conditions(arrays, self.path)).resized(form)
        if "labels" not in arrays:
            return data
        labels = arrays["labels"]
        if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
            raise UserError(f"{self.path}: 'labels' must be {len(images)} whole numbers from 0, not {labels.shape}")
        if labels.max() >= MAX_CLASSES:
            raise UserError(f"{self.path}: 'labels' are class ids from 0; {labels.max()} is too large for one")
        names = tuple(str(label) for label in range(int(labels.max()) + 1))
        return replace(data, labels=torch.from_numpy(labels.astype(np.int64)), class_names=names)


def _conditions(arrays: dict[str, np.ndarray], path: str) -> torch.Tensor | None:
    found = arrays.get("conditions")
    if found is None:
        return None
    if found.shape[:1] != arrays["images"].shape[:1] or not np.issubdtype(found.dtype, np.number):
        raise UserError(f"{path}: 'conditions' must be numbers, one row per image, not {found.dtype} {found.shape}")
    conditions = torch.from_numpy(found.astype(np.float32))
    if found.ndim < 2 or not conditions.isfinite().all():
        raise UserError(f"{path}: 'conditions' must be finite numbers of shape [N, ...]")
    return conditions


def _read(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".npy")]
            return {name.removesuffix(".npy"): _array(archive, name) for name in names}
    except NUMPY_ERRORS as error:
        raise UserError(f"{path} is not a readable .npz of plain arrays: {error}") from error


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(name) as member:
        return np.lib.format.read_array(member, allow_pickle=False)


def channels_first(images: np.ndarray, path: str) -> np.ndarray:
    """Images of one of the layouts as [N, C, H, W]. Raises UserError."""
    if images.dtype != np.uint8:
        raise UserError(f"{path}: 'images' must be uint8, 0 to 255, not {images.dtype}")
    if images.ndim == 3:
        return images[:, None]
    if images.ndim == 4 and images.shape[1] in (1, 3):
        return images
    if images.ndim == 4 and images.shape[3] in (1, 3):
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    raise UserError(f"{path}: 'images' must be [N, H, W], [N, H, W, C] or [N, C, H, W], not {list(images.shape)}")
