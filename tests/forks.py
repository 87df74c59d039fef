"""Children that are forked, not started: they have everything that the tests' own process has imported."""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import time
from collections.abc import Callable

SILENT_SECONDS = 10.0
"""After so long a child says on its error stream where it is, which is shown when the test fails."""


def forked(work: Callable[[], int | None]) -> int:
    """A child process that does the work and exits with what it answers; its process id.

    What the parent left behind is never collected in the child: the threads of its objects did not come along, and a
    destructor that waits for one waits for ever.
    """
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        gc.freeze()
        faulthandler.dump_traceback_later(SILENT_SECONDS, exit=False, file=2)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        code = work() or 0
    finally:
        os._exit(code)


def ended(child: int, seconds: float) -> int:
    """The child's exit code, minus the number of the signal that killed it; it is killed when it takes longer."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError(f"it did not end within {seconds} s")
