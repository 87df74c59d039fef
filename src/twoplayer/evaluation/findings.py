"""What is found in a training's log, and how logs are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Rows = Sequence[dict[str, Any]]

LEAST_ROWS = 8
"""Lines of the log before anything is said."""


@dataclass(frozen=True)
class Finding:
    """One thing that goes wrong.

    Attributes:
        name: what it is called, for example "mode collapse".
        since: the step from which on the evidence holds.
        evidence: the numbers that show it.
        sure: from 0 to 1.
        remedies: what to try, by name in `remedies.REMEDIES`; from the doctor, overrides for the run's recipe.
        symptom: it may follow from another finding, which then stands before it.
    """

    name: str
    since: int
    evidence: str
    sure: float
    remedies: tuple[str, ...]
    symptom: bool = False


def course(rows: Rows, key: str) -> list[tuple[int, float]]:
    """Steps and values of a figure, where it was taken."""
    return [(int(row["step"]), float(row[key])) for row in rows if row.get(key) is not None]


def recent(rows: Rows, key: str, share: float = 0.25) -> list[float]:
    """Values of a figure over the last part of the log."""
    return last_part(course(rows, key), share)


def last_part(points: Sequence[tuple[int, float]], share: float = 0.25) -> list[float]:
    """Values of the last points."""
    return [value for _, value in points[-max(1, round(share * len(points))) :]]


def since_when(points: Sequence[tuple[int, float]], holds: Callable[[float], bool]) -> int:
    """The step from which on a condition holds to the end."""
    first = points[-1][0]
    for step, value in reversed(points):
        if not holds(value):
            break
        first = step
    return first


def sureness(value: float, limit: float, certain: float) -> float:
    """Half sure at the limit, wholly at `certain`."""
    return min(1.0, max(0.5, 0.5 + 0.5 * (value - limit) / (certain - limit)))
