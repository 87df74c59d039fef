"""Where visitors play: one game for each, none shared, and no more kept than there is room for."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from itertools import count
from threading import Lock

from twoplayer.explore.choices import Choice
from twoplayer.explore.plane import Plane

SECONDS_OF_PLAY = 0.15
"""Of computing in each tick."""

MOST_STEPS = 20_000
"""Played without a click; then it rests, because perhaps nobody looks any more."""

MOST_TABLES = 64
"""Games that are kept; of more, the one that nobody touched for longest is forgotten."""

_numbers = count(1)


@dataclass
class Table:
    """Where a visitor plays. Nobody else sits there.

    Attributes:
        game: what is played.
        number: of the game, so that the page knows a new one.
        owed: steps that should have been played by now and were not.
        told: when the last tick came.
        played: steps since the last click.
    """

    game: Plane
    number: int = field(default_factory=lambda: next(_numbers))
    owed: float = 0.0
    told: float = 0.0
    played: int = 0

    def rest(self) -> None:
        """What was owed is forgotten."""
        self.owed, self.told, self.played = 0.0, time.monotonic(), 0

    def tick(self, speed: float) -> int:
        """Play what is due at so many steps per second, within the time of a tick. How many were played."""
        now = time.monotonic()
        passed, self.told = min(now - self.told, 1.5), now
        self.owed = MOST_STEPS if math.isinf(speed) else self.owed + speed * passed
        if self.owed < 1.0:
            return 0
        played = self.game.play(int(self.owed), SECONDS_OF_PLAY)
        self.owed = min(self.owed - played, 1.0)
        self.played += played
        return played


class Tables:
    """The games of all visitors, by their number, which a visitor's session keeps and nobody sees."""

    def __init__(self) -> None:
        self._open: OrderedDict[int, Table] = OrderedDict()
        self._lock = Lock()

    def open(self, choice: Choice) -> Table:
        """A table for a new game. Raises UserError."""
        table = Table(Plane(choice))
        with self._lock:
            self._open[table.number] = table
            while len(self._open) > MOST_TABLES:
                self._open.popitem(last=False)
        return table

    def at(self, number: int | None) -> Table | None:
        """The table of that number; None where it was forgotten, or never was."""
        with self._lock:
            if number is None or number not in self._open:
                return None
            self._open.move_to_end(number)
            return self._open[number]
