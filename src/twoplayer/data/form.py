"""The one form that all images of a data set are brought to."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

Crop = Literal["center", "random", "none"]


@dataclass(frozen=True)
class Form:
    """What every picture is brought to.

    Attributes:
        image_size: pixels a side; None where all pictures have one size, which they keep.
        channels: 1 or 3; None: 1 where all pictures are gray, else 3.
        crop: "center": the central square; "random": a square drawn once for each picture, from its name; "none": the
            whole picture, with black on the shorter side.
    """

    image_size: int | None = None
    channels: int | None = None
    crop: Crop = "center"


def place_of(crop: Crop, name: str) -> float:
    """Where along an image's longer side its square lies: 0 is the beginning, 1 the end."""
    if crop != "random":
        return 0.5
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[0] / 255.0
