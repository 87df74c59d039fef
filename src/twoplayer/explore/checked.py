"""Numbers that visitors choose: whatever a page lets through is looked at again."""

from __future__ import annotations

import math
from typing import Any

from twoplayer.core.errors import UserError

MOST_SEED = 2**53
"""A browser's numbers are whole up to here."""


def whole(value: Any, least: int, most: int, what: str) -> int:
    """A whole number that a visitor chose. Raises UserError for anything else, whatever the page lets through."""
    number = bounded(value, least, most, what)
    if number != int(number):
        raise UserError(f"{what}: a whole number, not {value}")
    return int(number)


def bounded(value: Any, least: float, most: float, what: str) -> float:
    """A number that a visitor chose. Raises UserError."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not least <= value <= most:
        raise UserError(f"{what}: a number from {least:,} to {most:,}, not {str(value)[:40]}")
    return float(value)
