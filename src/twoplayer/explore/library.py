"""The runs that a page may show: those that lie under one folder, looked up by their name and in no other way.

Everything is read from the runs' folders. Logs are read on from where they were read to before, so that looking at a
run that trains costs it nothing.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

from torch import Tensor

from twoplayer.core.errors import UserError
from twoplayer.core.rng import Stream
from twoplayer.evaluation import doctor
from twoplayer.loading import load_data
from twoplayer.recipes.load import load_recipe
from twoplayer.recipes.schema import Recipe
from twoplayer.runs.folder import RunFolder
from twoplayer.runs.log import Row
from twoplayer.trained import Run
from twoplayer.training.checkpoint import best_so_far

DEEPEST = 4
"""Folders below the root in which runs are looked for."""

MOST_RUNS = 1000
REALS = 256
SECONDS_ALIVE = 30.0
"""A run that is not at its end counts as training when its log has grown within this time, or ten of its intervals."""


class Log:
    """A metrics log that may be growing.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[Row] = []
        self._read_to = 0
        self._file = 0
        self._lock = Lock()

    def read_on(self) -> list[Row]:
        """All complete lines; only what is new is read. A file that was replaced or cut is read anew."""
        with self._lock:
            self._read()
            return list(self.rows)

    def _read(self) -> None:
        try:
            with self.path.open("rb") as file:
                stat = os.fstat(file.fileno())
                if stat.st_ino != self._file or stat.st_size < self._read_to:
                    self.rows, self._read_to, self._file = [], 0, stat.st_ino
                file.seek(self._read_to)
                new = file.read()
        except FileNotFoundError:
            self.rows, self._read_to = [], 0
            return
        whole = new[: new.rfind(b"\n") + 1]
        self._read_to += len(whole)
        for line in whole.splitlines():
            try:
                row = json.loads(line)
            except ValueError:  # somebody edited it; the others are still worth a look
                continue
            if isinstance(row, dict) and isinstance(row.get("step"), int):
                self.rows.append(row)


@dataclass
class Entry:
    """A run in the library.

    Attributes:
        name: its path below the root, with slashes.
        folder: where it lies.
    """

    name: str
    folder: RunFolder
    _log: Log = field(init=False, repr=False)
    _run: Run | None = field(default=None, init=False, repr=False)
    _published: int = field(default=0, init=False, repr=False)
    _lock: Lock = field(default_factory=Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        self._log = Log(self.folder.metrics)

    @property
    def run(self) -> Run:
        """What can be done with its newest generator; another one as soon as there is a newer generator."""
        with self._lock:
            published = _changed_at(self.folder.generator / "config.json")
            if self._run is None or published != self._published:
                self._run, self._published = Run(self.folder.path), published
            return self._run

    @cached_property
    def recipe(self) -> Recipe:
        """Resolved. Raises UserError where it cannot be read."""
        return load_recipe(str(self.folder.config))

    @cached_property
    def reals(self) -> tuple[Tensor, Tensor | None]:
        """Some of the images it was trained on, uint8 [N, C, H, W], and their class ids. Raises UserError."""
        options = self.recipe.data
        if options.cache == "none":  # decoded as they come: a few are enough here
            options = options.model_copy(update={"cache": "auto", "limit": min(options.limit or REALS, REALS)})
        data = load_data(options)
        chosen = Stream(self.recipe.seed).child("explore").permutation(len(data.images))[:REALS]
        return data.images[chosen], None if data.labels is None else data.labels[chosen]

    @property
    def best(self) -> tuple[int, float] | None:
        """The step of the best checkpoint, and the figure that says so."""
        return best_so_far(self.folder)

    @property
    def rows(self) -> list[Row]:
        """The log as it is now."""
        return self._log.read_on()

    @property
    def steps(self) -> int | None:
        """Of the whole training; None where it is not known yet."""
        if self.recipe.steps is not None:
            return self.recipe.steps
        images = self._environment.get("data", {}).get("images")
        return None if not images else self.recipe.total_steps(max(images // self.recipe.batch_size, 1))

    @property
    def progress(self) -> float:
        """From 0 to 1."""
        rows, steps = self.rows, self.steps
        return min((rows[-1]["step"] or 0) / steps, 1.0) if rows and steps else 0.0

    @property
    def is_training(self) -> bool:
        """Whether its log still grows, as far as can be told from outside."""
        if self.progress >= 1.0:
            return False
        try:
            age = time.time() - self.folder.metrics.stat().st_mtime
        except FileNotFoundError:
            return False
        rows = self._log.rows
        interval = (rows[-1]["seconds"] or 0.0) / len(rows) if rows else 0.0
        return age < max(SECONDS_ALIVE, 10 * interval)

    @property
    def seconds_left(self) -> float | None:
        """At the average speed so far; None before the first line."""
        rows, steps = self.rows, self.steps
        if not rows or not steps or not rows[-1]["step"]:
            return None
        return (rows[-1]["seconds"] or 0.0) / rows[-1]["step"] * max(steps - rows[-1]["step"], 0)

    @property
    def figures(self) -> dict[str, dict[str, Any]]:
        """Those that `evaluate` took."""
        try:
            found = json.loads(self.folder.evaluation.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return {name: each for name, each in found.items() if isinstance(each, dict) and "value" in each}

    @property
    def diagnosis(self) -> doctor.Diagnosis:
        """What the doctor says."""
        try:
            failure = json.loads(self.folder.failure.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            failure = None
        return doctor.diagnose(self.rows, self.recipe, None, failure)

    @property
    def grid(self) -> Path | None:
        """The newest grid of samples."""
        steps = self.folder.sample_steps()
        return self.folder.sample_grid(steps[-1]) if steps else None

    @property
    def _environment(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self.folder.environment.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return found


class Library:
    """The runs under a folder.

    Args:
        root: the folder; itself a run, or with runs in it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._known: dict[str, Entry] = {}

    def entries(self) -> list[Entry]:
        """All that are there now, the youngest first; what was known before keeps what it has read."""
        found = {self._name(folder): folder for folder in self._folders()}
        self._known = {name: self._known.get(name) or Entry(name, folder) for name, folder in found.items()}
        return sorted(self._known.values(), key=_age)

    def entry(self, name: str) -> Entry:
        """The run of that name. Raises UserError for what is none of them, whatever it is called."""
        if name not in self._known:
            self.entries()
        entry = self._known.get(name)
        if entry is None or not entry.folder.exists():
            raise UserError(f"there is no run {name!r} here any more")
        return entry

    def _folders(self) -> Iterator[RunFolder]:
        for count, folder in enumerate(_runs_below(self.root, DEEPEST)):
            if count >= MOST_RUNS:
                return
            yield folder

    def _name(self, folder: RunFolder) -> str:
        return folder.path.relative_to(self.root).as_posix() if folder.path != self.root else self.root.name


def _runs_below(place: Path, depth: int) -> Iterator[RunFolder]:
    """Links are not followed: a page shows what lies here."""
    if RunFolder(place).exists():
        yield RunFolder(place)
    if not depth:
        return
    try:
        inside = sorted(each for each in place.iterdir() if each.is_dir() and not each.is_symlink())
    except OSError:
        return
    for each in inside:
        if not each.name.startswith("."):
            yield from _runs_below(each, depth - 1)


def _age(entry: Entry) -> int:
    return -_changed_at(entry.folder.config)


def _changed_at(path: Path) -> int:
    """In nanoseconds; 0 where nothing is."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
