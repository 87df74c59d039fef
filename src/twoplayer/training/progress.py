"""Progress on stderr: a bar in a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from twoplayer.runs.log import Row

SECONDS_BETWEEN_LINES = 5.0


class Progress(Protocol):
    """Somebody who shows how far training is."""

    def advance(self, step: int) -> None:
        """A step is done."""

    def figures(self, row: Row) -> None:
        """A line of the log was written."""


class Silent:
    """Shows nothing."""

    def advance(self, step: int) -> None:
        pass

    def figures(self, row: Row) -> None:
        pass


class Lines:
    """Plain lines for logs and pipes: the first, the last, and at most one in five seconds between."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.next_line_at = 0.0

    def advance(self, step: int) -> None:
        pass

    def figures(self, row: Row) -> None:
        now = time.monotonic()
        if now < self.next_line_at and row["step"] != self.steps:
            return
        self.next_line_at = now + SECONDS_BETWEEN_LINES
        left = seconds_left(row, self.steps)
        print(f"step {row['step']}/{self.steps}  {describe(row)}  {clock(left)} left", file=sys.stderr, flush=True)


class Bar:
    """A rich progress bar with the latest figures beneath the counts."""

    def __init__(self, bar: Any, task: Any) -> None:
        self.bar = bar
        self.task = task

    def advance(self, step: int) -> None:
        self.bar.update(self.task, completed=step)

    def figures(self, row: Row) -> None:
        self.bar.update(self.task, figures=describe(row))


def progress(steps: int, done: int, quiet: bool) -> AbstractContextManager[Progress]:
    """The kind of progress that suits where stderr goes, as a context manager."""
    if quiet:
        return nullcontext(Silent())
    if not sys.stderr.isatty():
        return nullcontext(Lines(steps))
    return _BarContext(steps, done)


class _BarContext(AbstractContextManager["Progress"]):
    def __init__(self, steps: int, done: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self.rich = RichProgress(
            "step",
            BarColumn(20),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("left  {task.fields[figures]}"),
            console=Console(stderr=True),
        )
        self.steps, self.done = steps, done

    def __enter__(self) -> Progress:
        self.rich.start()
        return Bar(self.rich, self.rich.add_task("train", total=self.steps, completed=self.done, figures=""))

    def __exit__(self, *exception: object) -> None:
        self.rich.stop()


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
