"""The files of a prepared set: mapped into memory, locked against a second writer, checked when they are opened."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from twoplayer.core.console import SECONDS_BEFORE_WORDS, say

FILES = ("facts.json", "images.u8", "rows.npy", "state.u8", "sha256")

DAMAGE = (OSError, EOFError, ValueError, KeyError, TypeError)
"""What is raised when files of a set are cut, or not what they should be."""


@dataclass(frozen=True)
class Prepared:
    """Decoded pictures.

    Attributes:
        images: [N, C, H, W], uint8, mapped from disk.
        rows: [N], which pictures of the collection they are.
        bad: what was wrong with those that were left out.
        folder: where they lie.
    """

    images: np.ndarray
    rows: np.ndarray
    bad: tuple[str, ...]
    folder: Path

    def remembered(self, name: str, find: Callable[[], str]) -> str:
        """A text about these pictures that takes long to find; one process finds it, others wait."""
        place = self.folder / name
        with locked(self.folder):
            if not place.is_file() or not place.stat().st_size:
                temporary = place.with_name(f"{name}.{os.getpid()}.tmp")
                temporary.write_text(find(), encoding="utf-8")
                temporary.replace(place)
            return place.read_text(encoding="utf-8")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Inside, no other process prepares this; who waits for one says so."""
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=SECONDS_BEFORE_WORDS)
    except Timeout:
        say("another process prepares these pictures; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def allocated(path: Path) -> int:
    """Bytes of a file that have a place on the disk; holes have none."""
    stat = path.stat()
    return min(getattr(stat, "st_blocks", stat.st_size // 512 + 1) * 512, stat.st_size)


def mapped(path: Path, shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """A file of bytes, as it is or made of zeros."""
    size = int(np.prod(shape))
    if not path.exists() or path.stat().st_size != size:
        with path.open("wb") as file:
            file.truncate(size)
    _reserve(path, size)
    return np.memmap(path, np.uint8, "r+", shape=shape)


def _reserve(path: Path, size: int) -> None:
    """Give every byte of a file its place: a disk that fills up while a map is written to kills the process.

    Raises OSError where there is no space. File systems that cannot reserve are left to the check before.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise OSError(error.errno, error.strerror, str(path)) from error


def opened(folder: Path) -> Prepared:
    """A set that was prepared before. Raises one of DAMAGE."""
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    shape = tuple(map(int, facts["shape"]))
    rows = np.load(folder / "rows.npy", allow_pickle=False)
    if rows.shape != shape[:1] or (folder / "images.u8").stat().st_size != math.prod(shape):
        raise ValueError("its files do not belong together")
    images = np.memmap(folder / "images.u8", np.uint8, "c", shape=shape)
    return Prepared(images, rows, tuple(facts["bad"]), folder)
