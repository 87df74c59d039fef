"""One array of images, saved with numpy; mapped from disk where it is [N, H, W] or [N, C, H, W] of the wanted size."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch

from twoplayer.core.errors import UserError
from twoplayer.data.form import Form
from twoplayer.data.images import ImageData
from twoplayer.data.npz import NUMPY_ERRORS, channels_first
from twoplayer.data.source import FileSource, Split


class NpySource(FileSource):
    """`FILE.npy`: uint8 [N, H, W], [N, H, W, C] or [N, C, H, W] (C is 1 or 3); unlabeled, without splits."""

    name: Literal["npy"] = "npy"
    syntax = "FILE.npy"
    ending = ".npy"

    def load(self, split: Split, form: Form) -> ImageData:
        path = Path(self.path).expanduser()
        if not path.is_file():
            raise UserError(f"{path}: no such file")
        try:
            array = np.load(path, mmap_mode="c", allow_pickle=False)
        except NUMPY_ERRORS as error:
            raise UserError(f"{path} is not a readable .npy of numbers: {error}") from error
        images = torch.from_numpy(channels_first(array, str(path)))
        if images.numel() == 0:
            raise UserError(f"{path} has no images (their shape is {list(array.shape)})")
        return ImageData(images, self.text).resized(form)
