"""Pictures in tar archives, and WebDataset shards. Members are read in memory; nothing is unpacked.

Links, devices and folders in an archive are no pictures, whatever they are called; a member's name is only a name.
Source of the shards: https://github.com/webdataset/webdataset: files of one sample have one name up to its first dot;
`.cls` holds its class.
"""

from __future__ import annotations

import glob
import os
import re
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path, PurePosixPath
from typing import Literal, Self

import numpy as np

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
from twoplayer.data.pictures import BadPicture, bad_picture, shown
from twoplayer.data.source import FileSource, Split
from twoplayer.data.tables import MAX_CLASSES

FOLDER = "shards:"
TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
CLASS_ENDING = "cls"
MOST_CLASS_BYTES = 1024

TAR_ERRORS = (tarfile.TarError, zlib.error, OSError, EOFError)


class ShardsSource(FileSource, EncodedSource):
    """`FILE.tar` or several as a pattern: `train-{000..009}.tar`, `train-*.tar`; also .tar.gz, .tgz, .tar.bz2, .tar.xz.

    Pictures with class folders, or samples in the manner of WebDataset. `shards:FOLDER` is all .tar files in a folder,
    such as `twoplayer sample --out shards:FOLDER` writes.
    """

    name: Literal["shards"] = "shards"
    syntax = "FILE.tar"
    ending = TAR_ENDINGS

    @classmethod
    def parse(cls, text: str) -> Self | None:
        return cls(path=text) if text.startswith(FOLDER) else super().parse(text)

    @property
    def text(self) -> str:
        return f"{FOLDER}{self.place.resolve()}" if self.path.startswith(FOLDER) else super().text

    @property
    def place(self) -> Path:
        """The folder, file or pattern."""
        return Path(self.path.removeprefix(FOLDER)).expanduser()

    def collection(self, split: Split) -> Collection:
        all_of_them = f"{glob.escape(str(self.place))}/*.tar"
        return TarCollection.open(expanded(all_of_them if self.path.startswith(FOLDER) else str(self.place)), self.text)


@dataclass(frozen=True)
class Member:
    """A file in a tar archive.

    Attributes:
        name: its path there.
        shard: which archive.
        start: of its first byte in the archive; of no use where that is compressed.
        size: bytes.
    """

    name: str
    shard: int
    start: int
    size: int


@dataclass
class TarCollection(Collection):
    """The pictures of tar archives, in the order in which they lie there."""

    shards: list[Path] = field(default_factory=list)
    members: list[Member] = field(default_factory=list)

    @classmethod
    def open(cls, shards: list[Path], text: str) -> TarCollection:
        """Go through the archives' headers once. Raises UserError."""
        members: list[Member] = []
        classes: dict[str, str] = {}
        for number, path in enumerate(shards):
            for name, start, size, content in headers(path):
                if content is not None:
                    classes[f"{number}/{sample_of(name)}"] = content
                elif is_picture_name(name):
                    members.append(Member(name, number, start, size))
        names = [each.name if len(shards) == 1 else f"{shards[each.shard].name}/{each.name}" for each in members]
        require_pictures(names, text)
        labels, class_names = classes_by_folder([each.name for each in members])
        if classes:
            labels, class_names = classes_by_sample(members, classes)
        return cls(text, names, labels, class_names, shards=shards, members=members)

    @property
    def identity(self) -> str:
        stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in self.shards]
        return digest_of([*stats, *self.members])

    def read(self, number: int) -> bytes:
        member = self.members[number]
        if member.size > MOST_BYTES:
            raise too_large(member.name, member.size)
        if is_compressed(self.shards[member.shard]):
            raise AssertionError("a compressed archive is read in its order only; see stream")
        try:
            file = os.open(self.shards[member.shard], os.O_RDONLY)
            try:
                encoded = os.pread(file, member.size, member.start)
            finally:
                os.close(file)
        except OSError as error:
            raise bad_picture(self.names[number], error) from error
        if len(encoded) < member.size:
            raise BadPicture(self.names[number], f"{self.shards[member.shard].name} ends within it; copy it again")
        return encoded

    @property
    def is_random(self) -> bool:
        """Whether `read` can be asked for any picture at any time."""
        return not any(map(is_compressed, self.shards))

    def stream(self) -> Iterator[tuple[int, bytes | BadPicture]]:
        if self.is_random:
            yield from super().stream()
            return
        numbers = iter(range(len(self)))  # members lie in the order in which the headers were read; names may repeat
        for path in self.shards:
            with tarfile.open(path, "r|*") as archive:
                for entry in archive:
                    if not entry.isfile() or not is_picture_name(entry.name):
                        continue
                    number = next(numbers, None)
                    if number is None or self.members[number].name != entry.name:
                        raise UserError(f"{path} has changed while it was read; begin again")
                    if entry.size > MOST_BYTES:
                        yield number, too_large(entry.name, entry.size)
                        continue
                    file = archive.extractfile(entry)
                    yield number, b"" if file is None else file.read()


def headers(path: Path) -> Iterator[tuple[str, int, int, str | None]]:
    """Name, place and size of each plain file in a tar archive, and what is in it where that is a class.

    Raises UserError.
    """
    try:
        with tarfile.open(path, "r|*" if is_compressed(path) else "r:") as archive:
            for entry in archive:
                if not entry.isfile():
                    continue
                content = None
                if entry.name.endswith(f".{CLASS_ENDING}") and entry.size <= MOST_CLASS_BYTES:
                    file = archive.extractfile(entry)
                    content = "" if file is None else file.read().decode("utf-8", "replace").strip()
                yield entry.name, entry.offset_data, entry.size, content
    except TAR_ERRORS as error:
        raise UserError(f"{path} is not a readable tar archive ({error}); copy it again") from error


def is_compressed(path: Path) -> bool:
    """By its name."""
    return not path.name.lower().endswith(".tar")


def sample_of(name: str) -> str:
    """What files of one sample have in common: the path up to the first dot of the file's name."""
    path = PurePosixPath(name)
    return str(path.with_name(path.name.split(".", 1)[0]))


def classes_by_sample(members: list[Member], classes: dict[str, str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Class ids and names from the `.cls` files. Raises UserError where a picture has none."""
    told = [classes.get(f"{each.shard}/{sample_of(each.name)}") for each in members]
    missing = [each.name for each, name in zip(members, told, strict=True) if name is None]
    if missing:
        raise UserError(f"{shown(missing[0])} has no .cls beside it, but other pictures do ({len(missing)} have none)")
    found = [name for name in told if name is not None]
    names = sorted(set(found), key=lambda name: (not name.isdecimal(), len(name.lstrip("0")), name.lstrip("0"), name))
    if all(name.isdecimal() for name in names):
        if len(names[-1]) > len(str(MAX_CLASSES)) or int(names[-1]) >= MAX_CLASSES:
            raise UserError(f".cls files hold class ids from 0 to {MAX_CLASSES - 1}, not {names[-1][:20]}")
        names = [str(number) for number in range(int(names[-1]) + 1)]
    ids = {name: number for number, name in enumerate(names)}
    return np.array([ids[name] for name in found], np.int64), tuple(map(shown, names))


def expanded(pattern: str) -> list[Path]:
    """The files that a pattern with {000..009}, {a,b}, * or ? means, in order. Raises UserError for missing ones."""
    parts = [choices(part) for part in re.split(r"(\{[^{}]*\})", pattern)]
    found: list[Path] = []
    for chosen in product(*parts):
        text = "".join(chosen)
        is_pattern = glob.has_magic(text) and not Path(text).is_file()
        found += map(Path, sorted(glob.glob(text)) if is_pattern else [text])  # noqa: PTH207  (absolute ones too)
    missing = [path for path in found if not path.is_file()]
    if not found or missing:
        raise UserError(f"{missing[0] if missing else pattern}: no such file")
    return found


def choices(part: str) -> list[str]:
    """What a part of a pattern stands for."""
    if not part.startswith("{"):
        return [part]
    counted = re.fullmatch(r"\{(\d+)\.\.(\d+)\}", part)
    if counted:
        first, last = counted.groups()
        return [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    return part[1:-1].split(",")
