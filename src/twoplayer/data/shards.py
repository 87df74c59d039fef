"""Pictures in tar archives, and WebDataset shards. Members are read in memory; nothing is unpacked.

Links, devices and folders in an archive are no pictures, whatever they are called; a member's name is only a name.
Source of the shards: https://github.com/webdataset/webdataset: files of one sample have one name up to its first dot;
`.cls` holds its class.
"""

from __future__ import annotations

import glob
import os
import re
import sys
import tarfile
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Literal, Self

import numpy as np

from twoplayer.core.console import SECONDS_BEFORE_WORDS, say
from twoplayer.core.errors import UserError
from twoplayer.data.collection import (
    MOST_BYTES,
    Collection,
    Encoded,
    classes_by_folder,
    digest_of,
    is_picture_name,
    require_pictures,
    too_large,
)
from twoplayer.data.encoded import EncodedSource
from twoplayer.data.index import Index, indexed
from twoplayer.data.pictures import BadPicture, bad_picture, shown
from twoplayer.data.source import FileSource, Split
from twoplayer.data.tables import MAX_CLASSES
from twoplayer.data.tar_headers import headers, is_compressed

FOLDER = "shards:"
TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


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


@dataclass
class TarCollection(Collection):
    """The pictures of tar archives, in the order in which they lie there.

    Attributes:
        archives: the files.
        index: what lies where in them; places are of no use where an archive is compressed.
    """

    archives: list[Path] = field(default_factory=list)
    index: Index | None = None

    @classmethod
    def open(cls, archives: list[Path], text: str) -> TarCollection:
        """Go through the archives' headers, unless that was done before. Raises UserError."""
        index = indexed(archives, lambda: found_in(archives, text))
        return cls(text, index.names, index.labels, index.class_names, archives=archives, index=index)

    def where(self, number: int) -> str:
        name = self.names[number] if len(self.archives) == 1 else self.names[number].split("/", 1)[1]
        return f"{self.archive_of(number)}: {name}"

    @property
    def identity(self) -> str:
        stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in self.archives]
        return digest_of([*stats, self.names_digest])

    @property
    def names_digest(self) -> str:
        assert self.index is not None
        return self.index.names_digest

    def archive_of(self, number: int) -> Path:
        """The file in which a picture lies."""
        assert self.index is not None
        return self.archives[int(self.index.shards[number])]

    def read(self, number: int) -> bytes:
        assert self.index is not None
        start, size, path = int(self.index.starts[number]), int(self.index.sizes[number]), self.archive_of(number)
        if size > MOST_BYTES:
            raise too_large(self.where(number), size)
        if is_compressed(path):
            raise AssertionError("a compressed archive is read in its order only; see stream")
        try:
            file = os.open(path, os.O_RDONLY)
            try:
                encoded = os.pread(file, size, start)
            finally:
                os.close(file)
        except OSError as error:
            raise bad_picture(self.where(number), error) from error
        if len(encoded) < size:
            raise BadPicture(self.where(number), f"{path.name} ends within it; copy it again")
        return encoded

    @property
    def is_random(self) -> bool:
        """Whether `read` can be asked for any picture at any time."""
        return not any(map(is_compressed, self.archives))

    def stream(self) -> Iterator[Encoded]:
        if self.is_random:
            yield from super().stream()
            return
        numbers = iter(range(len(self)))  # members lie in the order in which the headers were read; names may repeat
        for path in self.archives:
            with tarfile.open(path, "r|*") as archive:
                for entry in archive:
                    if not entry.isfile() or not is_picture_name(entry.name):
                        continue
                    number = next(numbers, None)
                    if number is None or self.names[number] != called(path, entry.name, self.archives):
                        raise UserError(f"{path} has changed while it was read; begin again")
                    if entry.size > MOST_BYTES:
                        yield number, too_large(self.where(number), entry.size)
                        continue
                    file = archive.extractfile(entry)
                    yield number, b"" if file is None else file.read()


def called(path: Path, name: str, archives: list[Path]) -> str:
    """What a picture is called: its path in its archive, after the archive's name where there are several."""
    return name if len(archives) == 1 else f"{path.name}/{name}"


def found_in(archives: list[Path], text: str) -> Index:
    """Go through the archives' headers; says so where it takes longer than a moment. Raises UserError."""
    members: list[str] = []
    told: list[str | None] = []
    shards, starts, sizes = array("i"), array("q"), array("q")
    has_classes, begun, is_said = False, time.monotonic(), False
    for number, path in enumerate(archives):
        classes: dict[str, str] = {}
        for name, start, size, content in headers(path):
            if content is not None:
                classes[sample_of(name)] = sys.intern(content.decode("utf-8", "replace").strip())
            elif is_picture_name(name):
                members.append(name)
                shards.append(number)
                starts.append(start)
                sizes.append(size)
        told += [classes.get(sample_of(name)) if classes else None for name in members[len(told) :]]
        has_classes = has_classes or bool(classes)
        if not is_said and time.monotonic() - begun > SECONDS_BEFORE_WORDS:
            say(f"making an index of {text}: once, until a file changes")
            is_said = True
    names = [called(archives[shard], name, archives) for shard, name in zip(shards, members, strict=True)]
    require_pictures(names, text)
    labels, class_names = classes_by_sample(names, told) if has_classes else classes_by_folder(members)
    arrays = (np.array(shards, np.int32), np.array(starts, np.int64), np.array(sizes, np.int64))
    return Index(names, *arrays, labels, class_names, digest_of(names))


def sample_of(name: str) -> str:
    """What files of one sample have in common: the path up to the first dot of the file's name."""
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{last.split('.', 1)[0]}"


def classes_by_sample(names: list[str], told: list[str | None]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Class ids and names from what the `.cls` files say of each picture. Raises UserError where one has none."""
    missing = [name for name, content in zip(names, told, strict=True) if content is None]
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
