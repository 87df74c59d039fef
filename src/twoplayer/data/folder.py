"""A folder of pictures, subfolders included; first-level subfolders that all hold pictures are classes.

Symbolic links are followed, each real folder once. What becomes of a picture is said in `data/pictures.py`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISREG
from typing import Literal, Self

from twoplayer.core.errors import UserError
from twoplayer.data.collection import (
    MOST_BYTES,
    Collection,
    classes_by_folder,
    digest_of,
    is_picture_name,
    require_pictures,
    too_large,
)
from twoplayer.data.encoded import EncodedSource
from twoplayer.data.pictures import BadPicture, bad_picture
from twoplayer.data.source import Split


class FolderSource(EncodedSource):
    """`folder:PATH` or a bare path to a folder."""

    name: Literal["folder"] = "folder"
    syntax = "folder:PATH"
    path: str

    @property
    def text(self) -> str:
        return f"folder:{Path(self.path).expanduser().resolve()}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        if text.startswith("folder:"):
            return cls(path=text.removeprefix("folder:"))
        return cls(path=text) if Path(text).expanduser().is_dir() else None

    def collection(self, split: Split) -> Collection:
        return FolderCollection.open(Path(self.path).expanduser(), self.text)


@dataclass
class FolderCollection(Collection):
    """The pictures below a folder, in the order of their paths."""

    folder: Path = Path()
    stats: list[tuple[int, int]] = field(default_factory=list)

    @classmethod
    def open(cls, folder: Path, text: str) -> FolderCollection:
        """Find them. Raises UserError."""
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder")
        names = find_pictures(folder)
        require_pictures(names, str(folder))
        stats = [_stat(folder / name) for name in names]
        return cls(text, names, *classes_by_folder(names), folder=folder, stats=stats)

    @property
    def identity(self) -> str:
        return digest_of(zip(self.names, self.stats, strict=True))

    def where(self, number: int) -> str:
        return str(self.folder / self.names[number])

    def read(self, number: int) -> bytes:
        path = self.folder / self.names[number]
        try:
            if not S_ISREG(path.stat().st_mode):  # a pipe would be waited for
                raise BadPicture(str(path), "it is not a file")
            with path.open("rb") as file:
                encoded = file.read(MOST_BYTES + 1)
        except OSError as error:
            raise bad_picture(str(path), error) from error
        if len(encoded) > MOST_BYTES:
            raise too_large(str(path), path.stat().st_size)
        return encoded


def find_pictures(folder: Path) -> list[str]:
    """All files with a picture's ending below a folder, relative to it, sorted; hidden ones are left out.

    Raises UserError for a folder that may not be read.
    """

    def unreadable(error: OSError) -> None:
        raise UserError(f"{error.filename}: {error.strerror or error}") from error

    found: list[str] = []
    seen: set[tuple[int, int]] = set()
    for base, folders, files in os.walk(folder, onerror=unreadable, followlinks=True):
        stat = Path(base).stat()
        if (stat.st_dev, stat.st_ino) in seen:  # reached through a link once more
            folders.clear()
            continue
        seen.add((stat.st_dev, stat.st_ino))
        folders.sort()
        inside = os.path.relpath(base, folder)
        names = files if inside == "." else [f"{inside}/{name}" for name in files]
        found += [name for name in names if is_picture_name(name)]
    return sorted(found)


def _stat(path: Path) -> tuple[int, int]:
    """Size and time of the last change; zeros for what cannot be looked at, which reading will name."""
    try:
        stat = path.stat()
    except OSError:
        return 0, 0
    return stat.st_size, stat.st_mtime_ns
