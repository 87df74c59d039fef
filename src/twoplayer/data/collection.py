"""Pictures that are still encoded, wherever they lie: folders, archives, tables.

A collection knows how many there are, what each is called, and how to read one; nothing is ever written to where it
lies, and nothing is unpacked to disk.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import PurePosixPath
from typing import overload

import numpy as np

from twoplayer.core.errors import UserError
from twoplayer.data.pictures import ENDINGS, BadPicture, shown

MOST_BYTES = 2**28
"""Of one encoded picture: 256 MiB. What says it is larger, or turns out to be, is no picture but a bomb."""


Encoded = tuple[int, bytes | BadPicture]
"""A picture's number and its file's content, or why it cannot be read."""


@dataclass(frozen=True)
class Group:
    """Pictures that are read together.

    Attributes:
        rows: which ones.
        size: bytes, encoded.
    """

    rows: range
    size: int


@dataclass
class Collection(ABC):
    """Encoded pictures.

    Attributes:
        text: the source, as a user would write it.
        names: of each picture, for messages; unique.
        labels: [N], int64 class ids; absent for unlabeled pictures.
        class_names: one per class id.
        notes: what a person should know about files that were left out.
    """

    text: str
    names: Sequence[str]
    labels: np.ndarray | None = None
    class_names: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.names)

    @property
    @abstractmethod
    def identity(self) -> str:
        """A text that is another one when any file has changed since; cheap: names, sizes, times."""

    @property
    def selection(self) -> str:
        """Which part of the source this is."""
        return ""

    @property
    def names_digest(self) -> str:
        """A text that is another one when a picture is called otherwise; the same wherever they lie."""
        return digest_of(self.names)

    def where(self, number: int) -> str:
        """Where a picture lies, for messages."""
        return self.names[number]

    @property
    def is_random(self) -> bool:
        """Whether `read` can be asked for any picture at any time; else `stream` is the only way."""
        return True

    @property
    def groups(self) -> list[Group] | None:
        """How pictures have to be read to be read fast, in their order; None: one by one, in any order."""
        return None

    @abstractmethod
    def read(self, number: int) -> bytes:
        """One encoded picture; may be called from several threads. Raises BadPicture for what cannot be read."""

    def stream(self) -> Iterator[Encoded]:
        """All pictures once, with their numbers, in the order in which they are read fastest."""
        for number in range(len(self)):
            yield number, tried(self, number)

    def some(self, wanted: set[int]) -> Iterator[Encoded]:
        """Some pictures, with their numbers."""
        if self.is_random:
            for number in sorted(wanted):
                yield number, tried(self, number)
        else:
            yield from (each for each in self.stream() if each[0] in wanted)


class Rows(Sequence[str]):
    """What the rows of a table are called, without a list of it.

    Args:
        n: how many there are.
    """

    def __init__(self, n: int) -> None:
        self._rows = range(n)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[str]: ...

    def __getitem__(self, place: int | slice) -> str | Sequence[str]:
        found = self._rows[place]
        return f"row {found}" if isinstance(found, int) else [f"row {row}" for row in found]


@dataclass
class Part(Collection):
    """Some pictures of a collection.

    Attributes:
        whole: the collection.
        numbers: which of it, ascending, int64 [N].
    """

    whole: Collection | None = None
    numbers: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    @classmethod
    def of(cls, whole: Collection, numbers: np.ndarray, classes: Sequence[str] = ()) -> Part:
        """These pictures; with `classes`, their ids count among these only."""
        labels, names = whole.labels, whole.class_names
        if labels is not None:
            labels = labels[numbers]
            if classes:
                ids = {names.index(name): place for place, name in enumerate(classes)}
                labels = np.array([ids[number] for number in labels.tolist()], np.int64)
                names = tuple(classes)
        return cls(whole.text, [whole.names[n] for n in numbers], labels, names, whole.notes, whole, numbers)

    def where(self, number: int) -> str:
        assert self.whole is not None
        return self.whole.where(int(self.numbers[number]))

    @property
    def identity(self) -> str:
        assert self.whole is not None
        return digest_of([self.whole.identity, self.selection])

    @property
    def selection(self) -> str:
        return digest_of([self.numbers.tolist(), self.class_names])

    @property
    def is_random(self) -> bool:
        assert self.whole is not None
        return self.whole.is_random

    @property
    def groups(self) -> list[Group] | None:
        assert self.whole is not None
        if (groups := self.whole.groups) is None:
            return None
        ends = np.searchsorted(self.numbers, [group.rows.stop for group in groups]).tolist()
        rows = [range(start, end) for start, end in pairwise([0, *ends])]
        return [Group(mine, group.size) for mine, group in zip(rows, groups, strict=True) if mine]

    def read(self, number: int) -> bytes:
        assert self.whole is not None
        return self.whole.read(int(self.numbers[number]))

    def stream(self) -> Iterator[Encoded]:
        assert self.whole is not None
        if self.is_random:
            yield from super().stream()
            return
        places = {number: place for place, number in enumerate(self.numbers.tolist())}
        yield from ((places[number], encoded) for number, encoded in self.whole.stream() if number in places)


def tried(collection: Collection, number: int) -> bytes | BadPicture:
    """One encoded picture, or why it cannot be read."""
    try:
        return collection.read(number)
    except BadPicture as error:
        return error


def digest_of(parts: Iterable[object]) -> str:
    """A SHA-256 over the text of parts."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{part!r}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def is_picture_name(name: str) -> bool:
    """Whether a path inside a collection has a picture's ending and no hidden part."""
    parts = (part for part in name.split("/") if part != ".")
    return name.lower().endswith(ENDINGS) and not any(part.startswith((".", "__MACOSX")) for part in parts)


def classes_by_folder(names: Sequence[str]) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Class ids and names, when every picture lies in a folder of the first level and there are at least two.

    One folder around everything, as archives often have it, does not count.
    """
    parts = [PurePosixPath(name).parts for name in names] if any("/" in name for name in names) else []
    if not parts:
        return None, ()
    while parts and all(len(part) > 2 for part in parts) and len({part[0] for part in parts}) == 1:
        parts = [part[1:] for part in parts]
    folders = sorted({part[0] for part in parts if len(part) > 1})
    if len(folders) < 2 or not all(len(part) > 1 for part in parts):
        return None, ()
    ids = {name: number for number, name in enumerate(folders)}
    return np.array([ids[part[0]] for part in parts], np.int64), tuple(map(shown, folders))


def require_pictures(names: Sequence[str], where: str) -> None:
    """Raise UserError when there are none."""
    if not names:
        raise UserError(f"{where} has no pictures (looked for {' '.join(ENDINGS)}, subfolders included)")


def too_large(name: str, size: int) -> BadPicture:
    """The error for what is no picture by its size alone."""
    return BadPicture(name, f"it has {size:,} bytes")
