"""What a format is that a generator can leave in. Adding one is one file with a `Format` subclass."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import nn

from twoplayer.core.catalogue import Component, components, discover
from twoplayer.core.errors import UserError, did_you_mean
from twoplayer.runs.snapshot import SnapshotInfo


@dataclass(frozen=True)
class Leaving:
    """A generator that leaves the house.

    Attributes:
        generator: in evaluation mode, on the CPU.
        info: what it is.
        card: its model card, Markdown.
    """

    generator: nn.Module
    info: SnapshotInfo
    card: str


class Format(Component):
    """How a generator is written."""

    kind = "format"
    ending: ClassVar[str]
    """Of the file, with the dot; empty for a folder."""

    @abstractmethod
    def write(self, leaving: Leaving, out: Path) -> list[str]:
        """Write it to a file or folder that is not there yet; lines about what was found on the way.

        Raises UserError.
        """


def formats() -> dict[str, type[Format]]:
    """All formats by name."""
    discover("twoplayer.export")
    return components(Format)  # type: ignore[type-abstract]


def format_called(name: str) -> Format:
    """The format of that name. Raises UserError."""
    known = formats()
    if name not in known:
        raise UserError(f"--format {name}{did_you_mean(name, known)} (allowed: {', '.join(known)})")
    return known[name].model_validate({"name": name})


def require_free(out: Path, ending: str) -> None:
    """Raise UserError when something is in the way, or a file's name does not end as it should."""
    if ending and out.suffix.lower() != ending:
        raise UserError(f"--out {out}: the name has to end in {ending}")
    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise UserError(f"{out} is there already; choose another --out")
    if not out.resolve().parent.is_dir():
        raise UserError(f"{out.resolve().parent}: no such folder")
