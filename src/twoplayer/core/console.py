"""Words for a person at a terminal."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

SECONDS_BEFORE_WORDS = 2.0
"""What takes no longer is done in silence."""


def say(line: str) -> None:
    """A plain line on stderr; whoever read it may be gone."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def columns() -> int | None:
    """How wide the terminal is that `say` writes to, unless $COLUMNS says otherwise; None where it writes elsewhere."""
    said = os.environ.get("COLUMNS", "")
    try:
        width = os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):  # no terminal; no file at all
        return None
    return int(said) if said.isdecimal() else width
