"""A metrics log that may be growing, read on from where it was read to before."""

from __future__ import annotations

import json
import os
from pathlib import Path
from threading import Lock

from twoplayer.runs.log import Row

BEGINNING = 400
"""Bytes by which a log is known again: a new one may get the number of a file that is gone."""


class Log:
    """A metrics log that may be growing.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[Row] = []
        self._read_to = 0
        self._begins = b""
        self._lock = Lock()

    def read_on(self) -> list[Row]:
        """All complete lines; only what is new is read. A file that was replaced or cut is read anew."""
        with self._lock:
            self._read()
            return list(self.rows)

    def _read(self) -> None:
        try:
            with self.path.open("rb") as file:
                begins = file.read(len(self._begins))
                if begins != self._begins or os.fstat(file.fileno()).st_size < self._read_to:
                    self.rows, self._read_to, self._begins = [], 0, b""
                file.seek(self._read_to)
                new = file.read()
        except FileNotFoundError:
            self.rows, self._read_to, self._begins = [], 0, b""
            return
        whole = new[: new.rfind(b"\n") + 1]
        self._read_to += len(whole)
        self._begins = self._begins or whole[:BEGINNING]
        for line in whole.splitlines():
            try:
                row = json.loads(line)
            except ValueError:  # somebody edited it; the others are still worth a look
                continue
            if isinstance(row, dict) and isinstance(row.get("step"), int):
                self.rows.append(row)
