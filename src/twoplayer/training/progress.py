"""Progress: a bar in a terminal, a live display in a notebook, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

from PIL import Image

from twoplayer.core.console import say
from twoplayer.core.notebook import in_notebook
from twoplayer.runs.log import Row

SECONDS_BETWEEN_LINES = 5.0


class Progress(Protocol):
    """Somebody who shows how far training is."""

    def advance(self, step: int) -> None:
        """A step is done."""

    def figures(self, row: Row) -> None:
        """A line of the log was written."""

    def remark(self, text: str) -> None:
        """Something that a person should know now."""

    def grid(self, step: int, picture: Image.Image) -> None:
        """A grid of samples was made."""


class Silent:
    """Shows nothing."""

    def advance(self, step: int) -> None:
        pass

    def figures(self, row: Row) -> None:
        pass

    def remark(self, text: str) -> None:
        pass

    def grid(self, step: int, picture: Image.Image) -> None:
        pass


class Lines(Silent):
    """Plain lines for logs and pipes: the first, the last, and at most one in five seconds between.

    A reader that goes away does not end the training: the rest is not shown.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.next_line_at = 0.0

    def figures(self, row: Row) -> None:
        now = time.monotonic()
        if now < self.next_line_at and row["step"] != self.steps:
            return
        self.next_line_at = now + SECONDS_BETWEEN_LINES
        line = f"step {row['step']}/{self.steps}  {describe(row)}  {clock(seconds_left(row, self.steps))} left"
        try:
            print(line, file=sys.stderr, flush=True)
        except OSError:
            self.next_line_at = float("inf")

    def remark(self, text: str) -> None:
        say(text)


class Bar(Silent):
    """A rich progress bar, and beneath it a line with the latest figures."""

    def __init__(self, bar: Any, task: Any) -> None:
        self.bar = bar
        self.task = task

    def advance(self, step: int) -> None:
        self.bar.update(self.task, completed=step)

    def figures(self, row: Row) -> None:
        self.bar.update(self.task, figures=describe(row))

    def remark(self, text: str) -> None:
        self.bar.console.print(text, highlight=False, markup=False)


def progress(steps: int, done: int, quiet: bool) -> AbstractContextManager[Progress]:
    """The kind of progress that suits where a person looks, as a context manager."""
    if quiet:
        return nullcontext(Silent())
    if in_notebook():
        from twoplayer.training.live import live

        return live(steps, done)
    if not sys.stderr.isatty():
        return nullcontext(Lines(steps))
    return _bar(steps, done)


@contextmanager
def _bar(steps: int, done: int) -> Iterator[Progress]:
    from rich.console import Console, Group
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress
    from rich.text import Text

    class TwoLines(RichProgress):
        def get_renderables(self) -> Iterator[Any]:
            for task in self.tasks:
                yield Group(
                    self.make_tasks_table([task]), Text(task.fields["figures"], overflow="ellipsis", no_wrap=True)
                )

    columns = (TextColumn("step"), BarColumn(None), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("left"))
    with TwoLines(*columns, console=Console(stderr=True), expand=True) as bar:
        yield Bar(bar, bar.add_task("train", total=steps, completed=done, figures=""))


def describe(row: Row) -> str:
    """The figures of a log row on one line."""
    text = f"epoch {row['epoch']:.1f}  {row['kimg']:.1f} kimg  {row['images_per_second']:,.0f} img/s"
    text += f"  loss G {row['loss/generator']:.3f} D {row['loss/discriminator']:.3f}"
    if row["score/generator"] is not None:
        text += f"  score G {row['score/generator']:.2f} D {row['score/discriminator']:.2f}"
    return text


def seconds_left(row: Row, steps: int) -> float:
    """Time to the end at the average speed so far."""
    step = row["step"] or 1
    return float(row["seconds"] or 0) / step * (steps - step)


def clock(seconds: float) -> str:
    """m:ss or h:mm:ss."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
