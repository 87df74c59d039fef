"""Stopping on SIGINT or SIGTERM: at once while there is nothing to save, after the present step while training.

Imports nothing heavy, so that the command line can listen from its first moment.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from twoplayer.core.errors import TrainingStopped
from twoplayer.core.notebook import in_notebook

SIGNALS = (signal.SIGINT, signal.SIGTERM)

GRACE_SECONDS = 0.5
"""Repeats within this time are the same request: a terminal and a parent process may both pass one on."""

NOTHING_SAVED = "stopped; nothing had to be saved"


class StopRequest:
    """Whether somebody asked to stop.

    Attributes:
        requested: a signal has arrived.
    """

    def __init__(self) -> None:
        self.requested = False
        self._deferring = False
        self._requested_at = 0.0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Answer signals inside the block. Python allows this in the main thread only; elsewhere nothing changes."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._receive) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def require_none(self) -> None:
        """Raise TrainingStopped when a signal has come before there was anything to save."""
        if self.requested:
            raise TrainingStopped(NOTHING_SAVED)

    @contextmanager
    def deferring(self) -> Iterator[None]:
        """Inside the block the first signal only sets `requested`; the block looks at it and saves."""
        before, self._deferring = self._deferring, True
        try:
            yield
        finally:
            self._deferring = before

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            if time.monotonic() - self._requested_at > GRACE_SECONDS:
                if in_notebook():  # where leaving the process would lose everything else that is in it
                    raise KeyboardInterrupt("left at once; the newest checkpoint stays")
                os._exit(TrainingStopped.exit_code)
            return
        self.requested, self._requested_at = True, time.monotonic()
        if not self._deferring:
            raise TrainingStopped(NOTHING_SAVED)
        with suppress(OSError):  # whoever read stderr may be gone; saving goes on
            os.write(2, b"\ntwoplayer: saving after this step; the same signal again leaves at once\n")
