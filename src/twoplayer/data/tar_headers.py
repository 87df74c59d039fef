"""What lies where in a tar archive."""

from __future__ import annotations

import os
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from twoplayer.core.errors import UserError

CLASS_ENDING = "cls"
MOST_CLASS_BYTES = 1024

TAR_ERRORS = (tarfile.TarError, zlib.error, OSError, EOFError)

Header = tuple[str, int, int, bytes | None]
"""Of a file in an archive: its name, where its first byte lies, how many it has, and its content if that is a class."""


def headers(path: Path) -> Iterator[Header]:
    """Each plain file in a tar archive, and what is in it where that is a class.

    Plain headers at the beginning, as most shards have no others, are read here: `tarfile` takes several times as long.
    It reads the first one that is anything else, and all after it.

    Raises UserError.
    """
    try:
        with path.open("rb") as file:
            if not is_compressed(path):
                yield from _plain_headers(file)
            begun = file.tell()
            with tarfile.open(fileobj=file, mode="r|*" if is_compressed(path) else "r:") as archive:
                for entry in archive:
                    if not entry.isfile():
                        continue
                    content = None
                    if is_class(entry.name, entry.size):
                        member = archive.extractfile(entry)
                        content = b"" if member is None else member.read()
                    yield entry.name, entry.offset_data, entry.size, content
                end = archive.offset
            if not is_compressed(path):
                file.seek(max(begun, end))
                if file.read(tarfile.BLOCKSIZE).strip(b"\0"):  # what tarfile took for the archive's end
                    raise tarfile.ReadError("a header within it is damaged")
    except TAR_ERRORS as error:
        raise UserError(f"{path} is not a readable tar archive ({error}); copy it again") from error


def _plain_headers(file: BinaryIO) -> Iterator[Header]:
    """The entries before the first that is no plain file with a plain header, where the file is left.

    Source: https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html, "ustar Interchange Format".
    """
    place, room = 0, os.fstat(file.fileno()).st_size
    while len(block := os.pread(file.fileno(), tarfile.BLOCKSIZE, place)) == tarfile.BLOCKSIZE:
        found = _plain_header(block)
        if found is None:
            break
        name, size = found
        start = place + tarfile.BLOCKSIZE
        place = start + -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        if place > room:
            raise tarfile.ReadError("unexpected end of data")
        yield name, start, size, os.pread(file.fileno(), size, start) if is_class(name, size) else None
    file.seek(place)


def _plain_header(block: bytes) -> tuple[str, int] | None:
    """Name and size of a plain file; None for all other headers, and for what is none."""
    if block[257:262] != b"ustar" or block[156:157] != tarfile.REGTYPE:
        return None
    try:
        told, size = (int(field.strip(b" \0"), 8) for field in (block[148:156], block[124:136]))
    except ValueError:  # numbers that octal digits cannot say
        return None
    if sum(block) - sum(block[148:156]) + 8 * ord(" ") != told:
        return None
    ends = (field.split(b"\0", 1)[0] for field in (block[:100], block[345:500]))
    name, prefix = (end.decode("utf-8", "surrogateescape") for end in ends)
    return f"{prefix}/{name}" if prefix else name, size


def is_class(name: str, size: int) -> bool:
    """Whether a file in an archive tells a sample's class."""
    return name.endswith(f".{CLASS_ENDING}") and size <= MOST_CLASS_BYTES


def is_compressed(path: Path) -> bool:
    """By its name."""
    return not path.name.lower().endswith(".tar")
