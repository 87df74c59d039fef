"""A folder of pictures, subfolders included; first-level subfolders that all hold pictures are classes.

Every picture is turned upright (EXIF), its first frame taken, converted to gray or RGB, cropped to its central square
and resized to `image_size` with Pillow's antialiased bicubic filter.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from twoplayer.core.errors import UserError
from twoplayer.data.images import ImageData
from twoplayer.data.source import Source, Split, Survey

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
GRAY_MODES = ("1", "L", "LA", "I;16", "I;16L", "I;16B")
UNDEFINED_MODES = ("I", "F")
"""32-bit modes: no range of values is agreed on."""

LARGEST_PROPOSED_SIZE = 64
EXIF_ORIENTATION = 0x0112


UNREADABLE = (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""What Pillow raises for files that are no picture, damaged or a bomb."""


class FolderSource(Source):
    """`folder:PATH` or a bare path to a folder. It has no splits: every split is the whole."""

    name: Literal["folder"] = "folder"
    syntax = "folder:PATH"
    path: str

    @property
    def text(self) -> str:
        return f"folder:{Path(self.path).expanduser().resolve()}"

    def survey(self) -> Survey:
        """Headers only: which files are unreadable, and a size to resize to where the pictures differ in size."""
        sizes, broken = [], []
        for path in find_pictures(Path(self.path).expanduser()):
            try:
                sizes.append(_header(path)[1])
            except UserError as error:
                broken.append(str(error))
        return survey_of(sizes, broken)

    @classmethod
    def parse(cls, text: str) -> Self | None:
        if text.startswith("folder:"):
            return cls(path=text.removeprefix("folder:"))
        return cls(path=text) if Path(text).expanduser().is_dir() else None

    def load(self, split: Split, image_size: int | None, channels: int | None) -> ImageData:
        folder = Path(self.path).expanduser()
        paths = find_pictures(folder)
        if image_size is None and len({_header(path)[1] for path in paths}) > 1:
            raise UserError(f"{folder}: pictures differ in size; say the one to use, for example data.image_size=64")
        channels = channels or _common_channels(paths)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            arrays = list(pool.map(lambda path: read_picture(path, image_size, channels), paths))
        images = torch.from_numpy(np.stack(arrays))
        names = class_names(folder, paths)
        if not names:
            return ImageData(images, self.text)
        ids = {name: index for index, name in enumerate(names)}
        labels = torch.tensor([ids[path.relative_to(folder).parts[0]] for path in paths])
        return ImageData(images, self.text, "all", labels, names)


def survey_of(sizes: list[tuple[int, int]], problems: Sequence[str] = ()) -> Survey:
    """What (width, height) of each readable picture say: the power of two to resize to, where they differ."""
    if len(set(sizes)) < 2:
        return Survey(None, tuple(problems))
    shorter = sorted(min(size) for size in sizes)
    proposed = min(2 ** (shorter[len(shorter) // 2].bit_length() - 1), LARGEST_PROPOSED_SIZE)
    smallest, largest = min(sizes), max(sizes)
    differ = f"pictures differ in size, from {smallest[0]}x{smallest[1]} to {largest[0]}x{largest[1]} pixels"
    return Survey(proposed, (*problems, differ))


def upright_size(picture: Image.Image) -> tuple[int, int]:
    """(width, height) of a picture once it is upright (EXIF). Reads its header only."""
    width, height = picture.size
    lies_on_its_side = picture.getexif().get(EXIF_ORIENTATION) in (5, 6, 7, 8)
    return (height, width) if lies_on_its_side else (width, height)


def find_pictures(folder: Path) -> list[Path]:
    """All files with a picture's ending below a folder, sorted by path; hidden files and folders are left out.

    Raises UserError when there are none.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    found = sorted(
        path
        for path in (Path(base) / name for base, _, names in os.walk(folder) for name in names)
        if path.name.lower().endswith(ENDINGS)
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
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
    except UNREADABLE as error:
        raise UserError(f"{path} cannot be read as a picture ({error}); repair or remove it") from error
    if image_size is not None:
        picture = ImageOps.fit(picture, (image_size, image_size), Image.Resampling.BICUBIC)
    array = np.asarray(picture, dtype=np.uint8)
    return array[None] if channels == 1 else np.ascontiguousarray(array.transpose(2, 0, 1))


def to_mode(picture: Image.Image, mode: str) -> Image.Image:
    """Gray or RGB. Transparency is laid over white, 16-bit gray is divided by 257.

    Raises ValueError for 32-bit modes.
    """
    if picture.mode in UNDEFINED_MODES:
        raise ValueError("32-bit pictures have no agreed range; convert them to 8 or 16 bits")
    if picture.mode.startswith("I;16"):
        picture = Image.fromarray((np.asarray(picture, dtype=np.float64) / 257.0).round().astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert(mode)


def _common_channels(paths: list[Path]) -> int:
    """1 when all pictures are gray, else 3. Reads headers only."""
    return 1 if all(_header(path)[0] in GRAY_MODES for path in paths) else 3


def _header(path: Path) -> tuple[str, tuple[int, int]]:
    """Mode and (width, height) once it is upright. Raises UserError for what is no picture."""
    try:
        with Image.open(path) as picture:
            return picture.mode, upright_size(picture)
    except UNREADABLE as error:
        raise UserError(f"{path} cannot be read as a picture ({error}); repair or remove it") from error
