"""Services that show trainings of many runs: what they are told, and what they have to offer."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from twoplayer.core.catalogue import Component

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

    @abstractmethod
    def begin(self, tracked: Tracked) -> Tracking:
        """Begin to track. Raises UserError where the service's package is not installed."""
