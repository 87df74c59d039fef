"""Services that show trainings of many runs: what they are told, and what they have to offer."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from twoplayer.core.catalogue import Component
from twoplayer.core.errors import UserError

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Tracked:
    """A training that is tracked.

    Attributes:
        folder: of the run.
        recipe: resolved, as plain data.
        step: where this session begins; not 0 for a resumed run.
    """

    folder: Path
    recipe: dict[str, Any]
    step: int

    @property
    def identity(self) -> str:
        """The same text whenever this run is tracked; it does not tell where the run lies."""
        return hashlib.sha256(str(self.folder.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def importable(package: str) -> bool:
    """Whether a package is installed, without importing it."""
    try:
        found = find_spec(package)
        return found is not None and found.origin is not None  # a folder of that name is no package
    except (ImportError, ValueError):  # it, or the package around it, was hidden
        return False


class Tracking(Protocol):
    """One session of a training as a service sees it."""

    def figures(self, step: int, figures: dict[str, float]) -> None:
        """A line of the log was written."""

    def picture(self, step: int, png: Image.Image) -> None:
        """A grid of samples was made."""

    def end(self) -> None:
        """The session is over."""


class Tracker(Component):
    """A service."""

    kind = "tracker"

    package: ClassVar[str]
    """What has to be importable."""

    needs: ClassVar[str]
    """What a person does who has not got it."""

    def require(self) -> None:
        """Raise UserError where the service's package is not installed."""
        if not importable(self.package):
            raise UserError(f"tracking: {self.needs}")

    @abstractmethod
    def begin(self, tracked: Tracked) -> Tracking:
        """Begin to track; what it needs is there."""
