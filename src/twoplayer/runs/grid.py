"""Tiled pictures of samples."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from twoplayer.core.errors import UserError
from twoplayer.runs.files import write_atomically

TILE_PIXELS = 64
"""Small images are enlarged by a whole factor until a tile is about this wide, so that a person can see them."""

GAP_PIXELS = 6
GAP_TONE = 128
TITLE_PIXELS = 16


def tile(images: Tensor, columns: int | None = None, titles: Sequence[str] = ()) -> Image.Image:
    """A grid of uint8 images [N, C, H, W], C 1 or 3, row by row.

    Args:
        images: the pictures.
        columns: how many stand side by side; as square as possible when left out.
        titles: what stands above each column.
    """
    factor = max(TILE_PIXELS // images.shape[-1], 1)
    tiles = images.cpu().repeat_interleave(factor, -2).repeat_interleave(factor, -1).permute(0, 2, 3, 1).numpy()
    n, height, width, channels = tiles.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    step_down, step_right = height + GAP_PIXELS, width + GAP_PIXELS
    canvas = np.full((rows * step_down + GAP_PIXELS, columns * step_right + GAP_PIXELS, channels), GAP_TONE, np.uint8)
    for index, pixels in enumerate(tiles):
        top, left = index // columns * step_down + GAP_PIXELS, index % columns * step_right + GAP_PIXELS
        canvas[top : top + height, left : left + width] = pixels
    return _titled(to_picture(canvas), titles, step_right)


def _titled(grid: Image.Image, titles: Sequence[str], step_right: int) -> Image.Image:
    if not titles:
        return grid
    font = ImageFont.load_default(TITLE_PIXELS)
    taller = Image.new(grid.mode, (grid.width, grid.height + TITLE_PIXELS + GAP_PIXELS), (255,) * len(grid.getbands()))
    taller.paste(grid, (0, TITLE_PIXELS + GAP_PIXELS))
    draw = ImageDraw.Draw(taller)
    for column, title in enumerate(titles):
        while title and font.getlength(title) > step_right:
            title = title[:-1]
        place = (GAP_PIXELS / 2 + (column + 0.5) * step_right, GAP_PIXELS / 2)
        draw.text(place, title, font=font, fill=(0,) * len(grid.getbands()), anchor="mt")
    return taller


def to_picture(pixels: np.ndarray) -> Image.Image:
    """uint8 [H, W, 1 or 3] as a Pillow image."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def encoded(picture: Image.Image, most_pixels: int | None = None, kind: str = "PNG", **how: Any) -> bytes:
    """A picture as a file's content, its longer side no more than `most_pixels`."""
    if most_pixels is not None and max(picture.size) > most_pixels:
        picture = picture.copy()
        picture.thumbnail((most_pixels, most_pixels))
    buffer = io.BytesIO()
    picture.save(buffer, kind, **how)
    return buffer.getvalue()


def save_png(picture: Image.Image, path: Path, facts: Mapping[str, str | int | float] | None = None) -> None:
    """Write a PNG atomically, with facts about it as text that image viewers show."""
    text = PngInfo()
    for key, value in (facts or {}).items():
        text.add_text(key, str(value))
    write_atomically(path, encoded(picture, pnginfo=text))


def write_pictures(blocks: Iterable[Tensor], folder: Path) -> None:
    """Write every image of blocks uint8 [N, C, H, W] as folder/000000.png, 000001.png, ... at its own size.

    Raises:
        UserError: the folder has something in it.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty; choose a new or empty folder for --out")
    folder.mkdir(parents=True, exist_ok=True)
    number = 0
    for block in blocks:
        for image in block.permute(0, 2, 3, 1).numpy():
            to_picture(image).save(folder / f"{number:06d}.png")
            number += 1
