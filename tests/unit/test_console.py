"""Words for a person at a terminal."""

from __future__ import annotations

import fcntl
import io
import os
import struct
import sys
import termios

import pytest

from twoplayer.core.console import columns


def test_the_width_is_that_of_the_terminal_on_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 123, 0, 0))
    monkeypatch.delenv("COLUMNS", raising=False)
    with os.fdopen(slave, "w") as terminal, os.fdopen(master):
        monkeypatch.setattr(sys, "stderr", terminal)
        assert columns() == 123
        monkeypatch.setenv("COLUMNS", "77")
        assert columns() == 77
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert columns() is None, "it is no terminal, whatever $COLUMNS says"
