"""Words for a person at a terminal."""

from __future__ import annotations

import sys
from contextlib import suppress

SECONDS_BEFORE_WORDS = 2.0
"""What takes no longer is done in silence."""


def say(line: str) -> None:
    """A plain line on stderr; whoever read it may be gone."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)
