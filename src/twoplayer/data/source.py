"""What a data source is, and how a SOURCE text finds its source.

Adding a source is one file with a `Source` subclass; its `parse` says which texts are its own.
"""

from __future__ import annotations

import os
import re
from abc import abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, Self

from torch import Tensor

from twoplayer.core.catalogue import Component, components, discover
from twoplayer.core.errors import UserError, did_you_mean
from twoplayer.core.rng import Stream
from twoplayer.data.form import Form
from twoplayer.data.images import ImageData
from twoplayer.data.prepared import BadImages, Told, nobody
from twoplayer.data.survey import Survey, survey_of_images

Split = Literal["train", "test", "all"]
Cache = Literal["auto", "none"]


@dataclass(frozen=True)
class Wanted:
    """Which images of a source, and how.

    Attributes:
        split: of sources that have splits; others give the whole.
        form: what each image is brought to.
        classes: only these, by name; empty: all.
        limit: only that many, drawn at random.
        bad_images: "error": one that cannot be read ends it; "skip": up to 1 % are left out and listed.
        told: is told how many pictures of how many are decoded.
        cache: "none": pictures are decoded for each batch; sources that are in memory as they are do not mind.
    """

    split: Split = "train"
    form: Form = field(default_factory=Form)
    classes: tuple[str, ...] = ()
    limit: int | None = None
    bad_images: BadImages = "error"
    told: Told = nobody
    cache: Cache = "auto"


class Source(Component):
    """Where images come from."""

    kind = "source"
    syntax: ClassVar[str]
    """How a user writes it, for help and error messages."""

    least_accuracy: ClassVar[float] = 0.5
    """On held-out images: what a small classifier has to reach before its features may judge fakes of this data."""

    has_splits: ClassVar[bool] = True
    """Else every split is the whole."""

    def has_test(self) -> bool:
        """Whether there are images that are not for training; asked before anything is loaded."""
        return self.has_splits

    @property
    def text(self) -> str:
        """The source as a recipe keeps it: places on disk are absolute, so that it is found from any folder."""
        return self.syntax

    def survey(self, split: Split = "train") -> Survey:
        """A first look at everything that is there."""
        return survey_of_images(self.load(split, Form()))

    def images(self, wanted: Wanted) -> ImageData:
        """The images that are wanted. Raises UserError with one line on how to mend what is wrong."""
        data = self.load(wanted.split, wanted.form)
        if wanted.classes:
            if data.labels is None:
                raise UserError(f"data.classes={list(wanted.classes)}, but {self.text} has no classes")
            data = data.of_classes(wanted.classes)
        if wanted.limit is not None:
            data = data.chosen(some_of(len(data), wanted.limit))
        return data

    @classmethod
    @abstractmethod
    def parse(cls, text: str) -> Self | None:
        """The source that `text` names, or None when it is not one of this kind."""

    @abstractmethod
    def load(self, split: Split, form: Form) -> ImageData:
        """All images of a split in one form. Raises UserError."""


class FileSource(Source):
    """One file, known by its ending.

    Attributes:
        ending: of its name, lower case with the dot; or several.
        path: the file; it need not exist.
    """

    ending: ClassVar[str | tuple[str, ...]]
    has_splits: ClassVar[bool] = False
    path: str

    @property
    def text(self) -> str:
        return str(Path(self.path).expanduser().resolve())

    @classmethod
    def parse(cls, text: str) -> Self | None:
        named = text.lower().endswith(cls.ending)
        return cls(path=text) if named else None  # type: ignore[call-arg]  # each kind of file has its own name


def some_of(n: int, limit: int) -> Tensor:
    """Which of n images a limit leaves, int64 [up to limit]: always the same ones."""
    return Stream(0).child("limit").permutation(n)[:limit]


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
        f"data source {text!r}: no such file or folder, and no source of that name{did_you_mean(text, named)} "
        f"(known: {', '.join(kind.syntax for kind in kinds)})"
    )


def title_of(text: str) -> str:
    """A source's last name, without what kind it is and a file's ending: what a file may be called after it."""
    name = text.rstrip("/").rsplit("/", 1)[-1].rsplit(":", 1)[-1]
    return re.sub(r"[^\w.-]+", "-", name.split(".", 1)[0]).strip("-") or "data"


def looks_like_path(text: str) -> bool:
    """Whether a SOURCE text was meant as a place on disk."""
    return any(mark in text for mark in (os.sep, "/", ".")) or text.startswith("~")


def data_root() -> Path | None:
    """The folder that `TWOPLAYER_DATA` names, if it is set."""
    root = os.environ.get("TWOPLAYER_DATA")
    return Path(root).expanduser() if root else None
