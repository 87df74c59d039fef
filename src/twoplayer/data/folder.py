"""A folder of pictures, subfolders included; first-level subfolders that all hold pictures are classes.

Every picture is turned upright (EXIF), its first frame taken, converted to grey or RGB, cropped to its central square
and resized to `image_size` with Pillow's antialiased bicubic filter.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from twoplayer.core.errors import UserError
from twoplayer.data.images import ImageData
from twoplayer.data.source import Source, Split

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
GREY_MODES = ("1", "L", "LA", "I", "I;16", "F")


class FolderSource(Source):
    """`folder:PATH` or a bare path to a folder. It has no splits: every split is the whole."""

    name: Literal["folder"] = "folder"
    syntax = "folder:PATH"
    path: str

    @classmethod
    def parse(cls, text: str) -> Self | None:
        if text.startswith("folder:"):
            return cls(path=text.removeprefix("folder:"))
        return cls(path=text) if Path(text).expanduser().is_dir() else None

    def load(self, split: Split, image_size: int | None, channels: int | None) -> ImageData:
        folder = Path(self.path).expanduser()
        paths = find_pictures(folder)
        channels = channels or _common_channels(paths)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            arrays = list(pool.map(lambda path: read_picture(path, image_size, channels), paths))
        sizes = {array.shape for array in arrays}
        if len(sizes) > 1:
            raise UserError(f"{folder}: pictures differ in size; say the one to use, for example data.image_size=64")
        images = torch.from_numpy(np.stack(arrays))
        names = class_names(folder, paths)
        if not names:
            return ImageData(images, self.path)
        ids = {name: index for index, name in enumerate(names)}
        labels = torch.tensor([ids[path.relative_to(folder).parts[0]] for path in paths])
        return ImageData(images, self.path, "all", labels, names)


def find_pictures(folder: Path) -> list[Path]:
    """All files with a picture's ending below a folder, sorted by path. Raises UserError when there are none."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    found = sorted(
        Path(base) / name
        for base, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(ENDINGS) and not name.startswith(".")
    )
    if not found:
        raise UserError(f"{folder} has no pictures (looked for {' '.join(ENDINGS)}, subfolders included)")
    return found


def class_names(folder: Path, paths: list[Path]) -> tuple[str, ...]:
    """Names of the first-level subfolders when every picture lies in one and there are at least two; else none."""
    parts = [path.relative_to(folder).parts for path in paths]
    names = {part[0] for part in parts if len(part) > 1}
    return tuple(sorted(names)) if len(names) > 1 and all(len(part) > 1 for part in parts) else ()


def read_picture(path: Path, image_size: int | None, channels: int) -> np.ndarray:
    """One picture as uint8 [channels, H, W]; square of image_size pixels when that is given.

    Raises:
        UserError: the file cannot be read as a picture; the message names it.
    """
    try:
        with Image.open(path) as opened:
            picture = ImageOps.exif_transpose(opened)
            picture = to_mode(picture, "L" if channels == 1 else "RGB")
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} cannot be read as a picture ({error}); repair or remove it") from error
    if image_size is not None:
        picture = ImageOps.fit(picture, (image_size, image_size), Image.Resampling.BICUBIC)
    array = np.asarray(picture, dtype=np.uint8)
    return array[None] if channels == 1 else np.ascontiguousarray(array.transpose(2, 0, 1))


def to_mode(picture: Image.Image, mode: str) -> Image.Image:
    """Grey or RGB; transparency is laid over white, 16-bit grey is scaled to 8 bits."""
    if picture.mode.startswith("I"):
        wide = np.asarray(picture, dtype=np.float64)
        picture = Image.fromarray((wide / (65535.0 if wide.max() > 255 else 255.0) * 255.0).round().astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert(mode)


def _common_channels(paths: list[Path]) -> int:
    """1 when all pictures are grey, else 3. Reads headers only."""
    for path in paths:
        try:
            with Image.open(path) as picture:
                if picture.mode not in GREY_MODES:
                    return 3
        except (UnidentifiedImageError, OSError) as error:
            raise UserError(f"{path} cannot be read as a picture ({error}); repair or remove it") from error
    return 1
