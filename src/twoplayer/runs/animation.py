"""Pictures in a row as a looping GIF. Source: https://www.w3.org/Graphics/GIF/spec-gif89a.txt."""

from __future__ import annotations

import io
from pathlib import Path

from torch import Tensor

from twoplayer.runs.files import write_atomically
from twoplayer.runs.grid import to_picture

FRAME_PIXELS = 256
"""Small frames are enlarged by a whole factor until they are about this wide: one stands where a grid has many."""

FASTEST = 50
"""Frames per second; the format counts in hundredths, and viewers slow down what is shown for less than two."""


def write_gif(frames: Tensor, path: Path, frames_per_second: int = 12) -> None:
    """Write an animation that begins again when it ends, atomically.

    The format has 256 colors per frame: gray pictures are stored exactly, others with the nearest of a palette.

    Args:
        frames: uint8 [T, C, H, W], C 1 or 3. Equal neighbors are stored as one frame that stays longer.
        path: the file.
        frames_per_second: 1 to 50, rounded to what hundredths of a second allow.
    """
    assert 1 <= frames_per_second <= FASTEST, f"frames_per_second={frames_per_second}"
    factor = max(FRAME_PIXELS // frames.shape[-1], 1)
    larger = frames.cpu().repeat_interleave(factor, -2).repeat_interleave(factor, -1)
    first, *rest = [to_picture(frame) for frame in larger.permute(0, 2, 3, 1).numpy()]
    buffer = io.BytesIO()
    milliseconds = 10 * round(100 / frames_per_second)
    first.save(buffer, "GIF", save_all=True, append_images=rest, duration=milliseconds, loop=0)
    write_atomically(path, buffer.getvalue())
