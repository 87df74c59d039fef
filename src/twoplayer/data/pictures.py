"""Encoded pictures of any kind to uint8 arrays of one form.

What becomes of a picture, in this order: its first frame is taken; it is turned upright (EXIF); 16-bit gray is divided
by 257; transparency is laid over white; palettes, CMYK and other color spaces become RGB, bilevel pictures gray; it is
cropped and resized with Pillow's antialiased bicubic filter. 32-bit modes are refused: no range is agreed on.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from twoplayer.core.errors import UserError
from twoplayer.data.form import Crop, Form, place_of

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
"""What a picture may be, whatever it is called: Pillow's other readers are old, seldom used, or start programs."""

GRAY_MODES = ("1", "L", "LA", "I;16", "I;16L", "I;16B")
UNDEFINED_MODES = ("I", "F")
"""32-bit modes: no range of values is agreed on."""

EXIF_ORIENTATION = 0x0112
TURNING = {"exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp"}
"""Where Pillow finds an orientation; asking it of small pictures without any costs as much as decoding them."""

# Pillow warns of half of what it refuses; whoever chose these pictures chose them
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class BadPicture(UserError):
    """A picture that cannot be read; the message names the file.

    Attributes:
        why: what is wrong with it.
    """

    def __init__(self, where: str, why: str) -> None:
        super().__init__(f"{shown(where)} cannot be read as a picture ({why}); repair or remove it")
        self.why = why


@dataclass(frozen=True)
class Header:
    """What a picture says of itself before it is decoded.

    Attributes:
        mode: Pillow's.
        size: (width, height) once it is upright.
        frames: more than one for animations.
    """

    mode: str
    size: tuple[int, int]
    frames: int = 1

    @property
    def is_gray(self) -> bool:
        """Whether it has no colors."""
        return self.mode in GRAY_MODES


def decode(encoded: bytes, name: str, form: Form, where: str | None = None) -> np.ndarray:
    """One picture as uint8 [channels, H, W]; form.channels left out means its own.

    Args:
        encoded: its file's content.
        name: which one it is, for a random crop.
        form: what it is brought to.
        where: where it lies, for messages; its name when left out.

    Raises:
        BadPicture: it cannot be read.
    """
    try:
        with opened_as_picture(encoded) as opened:
            is_gray = form.channels == 1 or (form.channels is None and opened.mode in GRAY_MODES)
            opened.load()
            if opened.format == "TIFF" or TURNING & opened.info.keys():
                ImageOps.exif_transpose(opened, in_place=True)
            picture = to_mode(opened, "L" if is_gray else "RGB")
    except Exception as error:  # Pillow raises whatever its decoders stumble on
        raise bad_picture(where or name, error) from error
    if form.image_size is not None:
        picture = squared(picture, form.image_size, form.crop, name)
    flat = np.frombuffer(picture.tobytes(), np.uint8)  # much cheaper than asarray for small pictures
    return flat.reshape(picture.height, picture.width, -1).transpose(2, 0, 1)


def opened_as_picture(encoded: bytes) -> Image.Image:
    """A picture whose header is read. Raises whatever Pillow does."""
    return Image.open(io.BytesIO(encoded), formats=FORMATS)


def read_picture(path: Path, form: Form) -> np.ndarray:
    """One picture's file; see `decode`. Raises BadPicture."""
    try:
        return decode(path.read_bytes(), str(path), form)
    except OSError as error:
        raise bad_picture(str(path), error) from error


def header(encoded: bytes, name: str) -> Header:
    """Read no more than a picture's header. Raises BadPicture."""
    try:
        with opened_as_picture(encoded) as picture:
            return Header(picture.mode, upright_size(picture), getattr(picture, "n_frames", 1))
    except Exception as error:  # Pillow raises whatever its decoders stumble on
        raise bad_picture(name, error) from error


def squared(picture: Image.Image, side: int, crop: Crop, name: str) -> Image.Image:
    """side x side pixels of a picture."""
    if picture.size == (side, side):
        return picture
    bicubic = Image.Resampling.BICUBIC
    if crop == "none":
        return ImageOps.pad(picture, (side, side), bicubic)
    place = place_of(crop, name)
    return ImageOps.fit(picture, (side, side), bicubic, centering=(place, place))


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
    return picture if picture.mode == mode else picture.convert(mode)


def upright_size(picture: Image.Image) -> tuple[int, int]:
    """(width, height) of a picture once it is upright (EXIF). Reads its header only."""
    width, height = picture.size
    if picture.format == "TIFF":  # Pillow turns these when it opens them
        return width, height
    lies_on_its_side = picture.getexif().get(EXIF_ORIENTATION) in (5, 6, 7, 8)
    return (height, width) if lies_on_its_side else (width, height)


def bad_picture(name: str, error: Exception) -> BadPicture:
    """What is wrong with a picture, in one line."""
    problem = "no known format" if isinstance(error, UnidentifiedImageError) else " ".join(str(error).split())
    return BadPicture(name, problem)


def shown(name: str) -> str:
    """A name as one line that any terminal can print: control characters and bytes that are no UTF-8 as escapes."""
    plain = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in plain)
