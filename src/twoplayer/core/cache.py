"""Where is kept what can be made again at the cost of time."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """`$TWOPLAYER_CACHE`, else `twoplayer` in the user's cache folder."""
    if place := os.environ.get("TWOPLAYER_CACHE"):
        return Path(place).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "twoplayer"
