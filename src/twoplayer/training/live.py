"""Progress in a notebook: one line and one picture below the cell, replaced in place; the last state stays."""

from __future__ import annotations

import base64
import html
import time
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from twoplayer.core.errors import TrainingStopped
from twoplayer.core.notebook import HTML, PNG, TEXT, Shown, show
from twoplayer.runs.grid import encoded
from twoplayer.runs.log import Row
from twoplayer.training.progress import clock, describe, seconds_left

SECONDS_BETWEEN_UPDATES = 0.7
MOST_PIXELS = 800
"""Of the longer side of the picture; a larger grid is shown smaller."""

MOST_REMARKS = 6


class Live:
    """A bar with the latest figures, remarks, and the newest grid of samples."""

    def __init__(self, steps: int, done: int) -> None:
        self.steps = steps
        self.step = done
        self.row: Row | None = None
        self.remarks: list[str] = []
        self.next_update_at = 0.0
        self.line: Shown = show(self._bundle("begins"))
        self.picture: Shown | None = None

    def advance(self, step: int) -> None:
        self.step = step
        if time.monotonic() >= self.next_update_at:
            self.update(self._left())

    def figures(self, row: Row) -> None:
        self.row = row

    def remark(self, text: str) -> None:
        self.remarks = [*self.remarks, text][-MOST_REMARKS:]

    def grid(self, step: int, picture: Image.Image) -> None:
        bundle = {
            PNG: base64.b64encode(encoded(picture, MOST_PIXELS)).decode(),
            TEXT: f"<samples after step {step:,}>",
        }
        if self.picture is None:
            self.picture = show(bundle)
        else:
            self.picture.update(bundle, raw=True)

    def update(self, state: str) -> None:
        """Show now how far training is."""
        self.line.update(self._bundle(state), raw=True)
        self.next_update_at = time.monotonic() + SECONDS_BETWEEN_UPDATES

    def _left(self) -> str:
        return "begins" if self.row is None else f"{clock(seconds_left(self.row, self.steps))} left"

    def _bundle(self, state: str) -> dict[str, str]:
        figures = "" if self.row is None else describe(self.row)
        words = f"step {self.step:,} of {self.steps:,}  {state}"
        lines = [f"<div><code>{html.escape(line)}</code></div>" for line in (figures, *self.remarks) if line]
        bar = f"<progress value={self.step} max={max(self.steps, 1)} style='width:20em'></progress>"
        return {
            HTML: f"<div>{bar} {html.escape(words)}{''.join(lines)}</div>",
            TEXT: "\n".join(line for line in (words, figures, *self.remarks) if line),
        }


@contextmanager
def live(steps: int, done: int) -> Iterator[Live]:
    """Progress below the cell; says at the end how it ended."""
    shown = Live(steps, done)
    try:
        yield shown
    except TrainingStopped:
        shown.update("stopped and saved")
        raise
    except BaseException as error:
        shown.update(f"ended by {type(error).__name__}")
        raise
    seconds = 0.0 if shown.row is None else float(shown.row["seconds"] or 0)
    shown.update(f"done in {clock(seconds)}")
