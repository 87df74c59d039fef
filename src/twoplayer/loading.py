"""The images that a recipe means, and what is said about them."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

from twoplayer.core.console import SECONDS_BEFORE_WORDS, say
from twoplayer.core.stop import StopRequest
from twoplayer.data.form import Form
from twoplayer.data.images import ImageData
from twoplayer.data.prepared import Told, nobody
from twoplayer.data.source import Wanted, open_source
from twoplayer.recipes.schema import DataOptions

SECONDS_BETWEEN_WORDS = 2.0


def load_data(options: DataOptions, *, quiet: bool = True, stop: StopRequest | None = None) -> ImageData:
    """The images that a recipe's `data` section means; unless quiet, long decoding is shown.

    A library on the way may lose what a signal raises in it: then the next chunk, or the end, raises it again.

    Raises:
        UserError: they cannot be had.
        TrainingStopped: a signal has come.
    """
    with nullcontext(nobody) if quiet else counted("decoding pictures") as shown:

        def told(done: int, n: int) -> None:
            shown(done, n)
            if stop is not None:
                stop.require_none()

        data = open_source(options.source).images(wanted(options, told))
    if stop is not None:
        stop.require_none()
    return data.halved(options.halvings)


def wanted(options: DataOptions, told: Told) -> Wanted:
    """What a recipe's `data` section wants of its source."""
    form = Form(options.image_size, options.channels, options.crop)
    return Wanted(options.split, form, options.classes, options.limit, options.bad_images, told, options.cache)


@contextmanager
def counted(what: str) -> Iterator[Told]:
    """Shows on stderr how far something is, where it takes longer than a moment: a bar in a terminal, else lines."""
    if not sys.stderr.isatty():
        yield _lines(what)
        return
    with ExitStack() as stack:
        yield _bar(stack, what)


def _bar(stack: ExitStack, what: str) -> Told:
    """A bar that appears when it is worth it and is gone with the stack."""
    begun, task, bar = time.monotonic(), None, None

    def told(done: int, n: int) -> None:
        nonlocal task, bar
        if bar is None:
            if time.monotonic() - begun < SECONDS_BEFORE_WORDS:
                return
            bar = stack.enter_context(rich_bar())
            task = bar.add_task(what, total=n)
        bar.update(task, completed=done)

    return told


def rich_bar() -> Any:
    """With the number done, the speed and the time left."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Speed(ProgressColumn):
        def render(self, task: Any) -> Text:
            return Text(f"{task.speed or 0:,.0f}/s")

    columns = (TextColumn("{task.description}"), BarColumn(None), MofNCompleteColumn(), Speed(), TimeRemainingColumn())
    return Progress(*columns, TextColumn("left"), console=Console(stderr=True), expand=True)


def _lines(what: str) -> Told:
    begun, last = time.monotonic(), 0.0

    def told(done: int, n: int) -> None:
        nonlocal last
        now = time.monotonic() - begun
        if now < SECONDS_BEFORE_WORDS or (now - last < SECONDS_BETWEEN_WORDS and done < n):
            return
        last, left = now, now / max(done, 1) * (n - done)
        say(f"{what} {done:,}/{n:,}  {done / now:,.0f}/s  {left:.0f} s left")

    return told


def whole_splits(options: DataOptions) -> tuple[ImageData, ImageData]:
    """The train and the test split without a limit; twice everything where the source has no splits."""
    train, test = (load_data(options.model_copy(update={"split": split, "limit": None})) for split in ("train", "test"))
    return train, test


def held_out_data(options: DataOptions) -> ImageData | None:
    """The test split, brought to the form of the training images; None where the source has none."""
    if not open_source(options.source).has_test():
        return None
    data = load_data(options.model_copy(update={"split": "test", "limit": None}))
    return data if data.split == "test" else None


def data_facts(data: ImageData) -> dict[str, Any]:
    """What a run says about its data; nothing that names a place on disk."""
    return {
        "source": data.name,
        "split": data.split,
        "images": data.count,
        "shape": list(data.shape),
        "sha256": data.fingerprint,
        "notes": list(data.notes),
    }
