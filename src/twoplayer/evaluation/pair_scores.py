"""Scores of games that compare pairs, read from their losses.

Such losses are means of -log p, where p is the probability that of a real image and the fake beside it the real one is
the more real, for G the fake one. So exp(-loss) is the geometric mean of p: in [0, 1], and 1/2 where D tells nothing
apart.
"""

from __future__ import annotations

import math
from typing import Any

from twoplayer.evaluation.findings import Rows


def with_pair_scores(rows: Rows) -> Rows:
    """The same lines of a log with both scores, where there are losses."""
    return [row | _scores(row) for row in rows]


def _scores(row: dict[str, Any]) -> dict[str, float]:
    found = {}
    for role in ("generator", "discriminator"):
        loss = row.get(f"loss/{role}")
        if loss is not None:
            found[f"score/{role}"] = min(math.exp(_penalties(row, role) - loss), 1.0)
    return found


def _penalties(row: dict[str, Any], role: str) -> float:
    """What a player's loss has in it beside the game: `penalty/NAME/ROLE`, and D's `penalty/NAME`."""
    paid = 0.0
    for key, value in row.items():
        kind, *rest = key.split("/")
        if kind == "penalty" and value is not None and (rest[1:] or ["discriminator"]) == [role]:
            paid += value
    return paid
