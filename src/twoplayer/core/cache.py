"""Where is kept what can be made again at the cost of time."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def cache_folder() -> Path:
    """`$TWOPLAYER_CACHE`, else `twoplayer` in the user's cache folder, else a folder among the temporary ones."""
    if place := os.environ.get("TWOPLAYER_CACHE"):
        return Path(place).expanduser()
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "twoplayer"
    except RuntimeError:  # a user without a home
        return Path(tempfile.gettempdir()) / "twoplayer-cache"
