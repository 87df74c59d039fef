"""The runs that a page may show: those that lie under one folder, looked up by their name and in no other way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from twoplayer.core.errors import UserError
from twoplayer.explore.entry import Entry, changed_at
from twoplayer.runs.folder import RunFolder

DEEPEST = 4
"""Folders below the root in which runs are looked for."""

MOST_RUNS = 1000
MOST_LOADED = 8
"""Runs whose networks and images are kept in memory."""


class Library:
    """The runs under a folder.

    Args:
        root: the folder; itself a run, or with runs in it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._known: dict[str, Entry] = {}
        self._loaded: list[Entry] = []

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

    def loads(self, entry: Entry) -> None:
        """An entry's networks are about to be used; those that were not used for longest are forgotten."""
        others = [each for each in self._loaded if each is not entry]
        self._loaded = [*others[1 - MOST_LOADED :], entry]
        for each in list(self._known.values()):
            if each not in self._loaded:
                each.forget()

    def _folders(self) -> Iterator[RunFolder]:
        for count, folder in enumerate(_runs_below(self.root, DEEPEST)):
            if count >= MOST_RUNS:
                return
            yield folder

    def _name(self, folder: RunFolder) -> str:
        return folder.path.relative_to(self.root).as_posix() if folder.path != self.root else self.root.name


def _runs_below(place: Path, depth: int) -> Iterator[RunFolder]:
    """Links are not followed: a page shows what lies here. A folder of several seeds is its runs."""
    with suppress(OSError):
        if RunFolder(place).exists() and not RunFolder(place).of_seeds():
            yield RunFolder(place)
    if not depth:
        return
    inside: list[Path] = []
    with suppress(OSError):
        inside = sorted(place.iterdir())
    for each in inside:
        with suppress(OSError):
            if each.is_dir() and not each.is_symlink() and not each.name.startswith("."):
                yield from _runs_below(each, depth - 1)


def _age(entry: Entry) -> int:
    return -changed_at(entry.folder.config)
