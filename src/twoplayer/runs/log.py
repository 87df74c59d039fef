"""metrics.jsonl: one JSON object per log interval."""

from __future__ import annotations

import errno
import json
import os
from contextlib import suppress
from pathlib import Path

from twoplayer.core.errors import UserError
from twoplayer.runs.files import write_atomically

Row = dict[str, float | int | None]
"""One line of the log. `None` says that a figure does not exist, for example a score without a probability."""

ALWAYS = ("loss/generator", "loss/discriminator", "loss/real", "loss/fake", "score/generator", "score/discriminator")
"""Keys that every row has, besides step, kimg, epoch, seconds and images_per_second."""


ALSO = ("step", "kimg", "epoch", "seconds", "images_per_second")
CLASSIFIER_ERROR = "classifier/test_error"
"""Share of test images that the classifier of semi-supervised training names wrongly; in the rows of checkpoints."""


def append_row(path: Path, row: Row) -> None:
    """Add a line and hand it to the system, so that a reader sees it at once. Raises OSError; no half line is left."""
    line = (json.dumps(row, allow_nan=False) + "\n").encode()
    with path.open("ab", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        try:
            if file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        except OSError:
            with suppress(OSError):
                file.truncate(size)
            raise


def flush_to_disk(path: Path) -> None:
    """Wait until everything appended is on the disk."""
    if path.exists():
        with path.open("ab") as file:
            os.fsync(file.fileno())


def read_rows(path: Path) -> list[Row]:
    """All complete lines; a last line that is still being written is left out.

    Raises UserError for a line that is no row.
    """
    if not path.exists():
        return []
    rows: list[Row] = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            row = json.loads(line)
            if not isinstance(row, dict) or not isinstance(row.get("step"), int):
                raise ValueError("it has no step")
        except ValueError as error:
            raise UserError(f"{path}, line {number} is damaged ({error}); remove that line") from error
        rows.append(row)
    return rows


def cut_after(path: Path, step: int) -> None:
    """Forget what was logged after a step: a run goes on from a checkpoint and will log it again."""
    kept = [row for row in read_rows(path) if (row["step"] or 0) <= step]
    write_atomically(path, b"".join((json.dumps(row) + "\n").encode() for row in kept))
