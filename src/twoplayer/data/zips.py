"""Pictures in a zip archive. Members are read in memory; nothing is unpacked, and a member's name is only a name."""

from __future__ import annotations

import lzma
import struct
import threading
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

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
from twoplayer.data.pictures import bad_picture
from twoplayer.data.source import FileSource, Split

ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    UnicodeDecodeError,
    OSError,
    EOFError,
    RuntimeError,
    NotImplementedError,
)
"""What a damaged, encrypted or foreign zip archive raises."""


class ZipSource(FileSource, EncodedSource):
    """`FILE.zip`: pictures, class folders optional. It has no splits: every split is the whole."""

    name: Literal["zip"] = "zip"
    syntax = "FILE.zip"
    ending = ".zip"

    def collection(self, split: Split) -> Collection:
        return ZipCollection.open(Path(self.path).expanduser(), self.text)


@dataclass
class ZipCollection(Collection):
    """The pictures of one zip archive."""

    path: Path = Path()
    members: list[zipfile.ZipInfo] = field(default_factory=list)
    local: threading.local = field(default_factory=threading.local)

    @classmethod
    def open(cls, path: Path, text: str) -> ZipCollection:
        """Read the archive's directory. Raises UserError."""
        if not path.is_file():
            raise UserError(f"{path}: no such file")
        try:
            with zipfile.ZipFile(path) as archive:
                members = [each for each in archive.infolist() if not each.is_dir() and is_picture_name(each.filename)]
        except ZIP_ERRORS as error:
            raise UserError(f"{path} is not a readable zip archive ({error}); copy it again") from error
        if any(each.flag_bits & 1 for each in members):
            raise UserError(f"{path} is encrypted; unpack it with its password and use the folder")
        members.sort(key=lambda each: each.filename)
        names = [each.filename for each in members]
        require_pictures(names, str(path))
        return cls(text, names, *classes_by_folder(names), path=path, members=members)

    def where(self, number: int) -> str:
        return f"{self.path}: {self.names[number]}"

    @property
    def identity(self) -> str:
        return digest_of((each.filename, each.CRC, each.file_size) for each in self.members)

    def read(self, number: int) -> bytes:
        member = self.members[number]
        if member.file_size > MOST_BYTES:
            raise too_large(self.where(number), member.file_size)
        try:
            with self._archive().open(member) as file:
                encoded = file.read(MOST_BYTES + 1)
        except ZIP_ERRORS as error:
            raise bad_picture(self.where(number), error) from error
        if len(encoded) > MOST_BYTES:
            raise too_large(self.where(number), len(encoded))
        return encoded

    def _archive(self) -> zipfile.ZipFile:
        """One for each thread, so that they do not wait for each other."""
        mine: zipfile.ZipFile | None = getattr(self.local, "archive", None)
        if mine is None:
            mine = self.local.archive = zipfile.ZipFile(self.path)
        return mine
