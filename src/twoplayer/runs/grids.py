"""Which of a run's grids of samples a document shows, and in which size."""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass

from PIL import Image

from twoplayer.runs.folder import RunFolder
from twoplayer.runs.grid import encoded

logger = logging.getLogger("twoplayer")

SHOWN_EPOCHS = (1, 2, 4, 10, 50, 100)

MOST_GRIDS = 24
MOST_BYTES = 2**21
"""Of all grids together, before they are written as text, which makes them a third larger."""

MOST_PIXELS = 1600
"""Of a grid's longer side; a larger one is made smaller."""


@dataclass(frozen=True)
class Grid:
    """A grid of samples.

    Attributes:
        step: after which it was made.
        epoch: which ended with that step; 0 where none did.
        picture: PNG, or WebP where that was too large.
    """

    step: int
    epoch: int
    picture: bytes

    @property
    def title(self) -> str:
        """In words."""
        return f"step {self.step:,}" + (f", end of epoch {self.epoch:,}" if self.epoch else "")


def grids_of(folder: RunFolder) -> list[Grid]:
    """The grids to show: the first, the last, those at the ends of some epochs, and others evenly between.

    A grid that cannot be read is left out, with a warning.
    """
    epochs = epochs_of(folder)
    steps = list(epochs)
    even = {steps[round(k * (len(steps) - 1) / (MOST_GRIDS - 1))] for k in range(MOST_GRIDS)} if steps else set()
    chosen = [step for step, epoch in epochs.items() if step in even or epoch in SHOWN_EPOCHS]
    found = [Grid(step, epochs[step], _fitted(folder.sample_grid(step).read_bytes())) for step in chosen]
    while len(found) > 1 and sum(len(grid.picture) for grid in found) > MOST_BYTES:
        found = found[:1] + found[2:-1:2] + found[-1:] if len(found) > 2 else found[-1:]
    return found


def epochs_of(folder: RunFolder) -> dict[int, int]:
    """The steps that have a grid, and the epoch that ended with each; 0 where none did."""
    found = {}
    for step in folder.sample_steps():
        path = folder.sample_grid(step)
        try:
            with Image.open(path) as picture:
                found[step] = int(picture.info.get("epoch_ended", 0))
        except OSError:
            logger.warning("grid left out of the report, it cannot be read: %s", path)
    return found


def _fitted(content: bytes) -> bytes:
    """A grid as it is, or as WebP where it is too large."""
    with Image.open(io.BytesIO(content)) as picture:
        if len(content) <= MOST_BYTES and max(picture.size) <= MOST_PIXELS:
            return content
        return encoded(picture.convert("RGB"), MOST_PIXELS, "WEBP", quality=80)
