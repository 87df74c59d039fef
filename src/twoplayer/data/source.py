"""What a data source is, and how a SOURCE text finds its source.

Adding a source is one file with a `Source` subclass; its `parse` says which texts are its own.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Self

from twoplayer.core.catalogue import Component, components, discover
from twoplayer.core.errors import UserError, did_you_mean
from twoplayer.data.images import ImageData

Split = Literal["train", "test", "all"]


@dataclass(frozen=True)
class Survey:
    """A first look at a source.

    Attributes:
        image_size: what to resize to, where the images differ in size.
        problems: what is wrong with it, in words.
    """

    image_size: int | None = None
    problems: tuple[str, ...] = ()


class Source(Component):
    """Where images come from."""

    kind = "source"
    syntax: ClassVar[str]
    """How a user writes it, for help and error messages."""

    least_accuracy: ClassVar[float] = 0.5
    """On held-out images: what a small classifier has to reach before its features may judge fakes of this data."""

    @property
    def text(self) -> str:
        """The source as a recipe keeps it: places on disk are absolute, so that it is found from any folder."""
        return self.syntax

    def survey(self) -> Survey:
        """What can be said without reading every pixel. A source of one known form has nothing to say."""
        return Survey()

    @classmethod
    @abstractmethod
    def parse(cls, text: str) -> Self | None:
        """The source that `text` names, or None when it is not one of this kind."""

    @abstractmethod
    def load(self, split: Split, image_size: int | None, channels: int | None) -> ImageData:
        """Read the images. Raises UserError with one line on how to mend what is wrong."""


class FileSource(Source):
    """One file, known by its ending.

    Attributes:
        ending: of its name, lower case with the dot.
        path: the file; it need not exist.
    """

    ending: ClassVar[str]
    path: str

    @property
    def text(self) -> str:
        return str(Path(self.path).expanduser().resolve())

    @classmethod
    def parse(cls, text: str) -> Self | None:
        named = text.lower().endswith(cls.ending)
        return cls(path=text) if named else None  # type: ignore[call-arg]  # each kind of file has its own name


def open_source(text: str) -> Source:
    """The source that a user's SOURCE text names. Raises UserError for texts that none recognizes."""
    discover("twoplayer.data")
    if not text or text.endswith(":"):
        raise UserError(f"data source {text!r} names nothing")
    kinds = components(Source).values()  # type: ignore[type-abstract]
    for kind in sorted(kinds, key=lambda kind: kind.syntax != text):  # a name wins over a folder of that name
        if (source := kind.parse(text)) is not None:
            return source
    named = [kind.syntax for kind in kinds if ":" not in kind.syntax]
    if looks_like_path(text):
        raise UserError(f"data source {text!r}: no such file or folder")
    raise UserError(
        f"unknown data source {text!r}{did_you_mean(text, named)} (known: {', '.join(kind.syntax for kind in kinds)})"
    )


def looks_like_path(text: str) -> bool:
    """Whether a SOURCE text was meant as a place on disk."""
    return any(mark in text for mark in (os.sep, "/", ".")) or text.startswith("~")


def data_root() -> Path | None:
    """The folder that `TWOPLAYER_DATA` names, if it is set."""
    root = os.environ.get("TWOPLAYER_DATA")
    return Path(root).expanduser() if root else None
