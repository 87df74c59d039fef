"""One value for a burn-in, another ever after."""

from __future__ import annotations

from typing import Literal

from twoplayer.core.schedule import ValueSchedule


class Step(ValueSchedule):
    """Start until the length is over, then end."""

    name: Literal["step"] = "step"

    def covered(self, progress: float) -> float:
        """Nothing before the end."""
        return 0.0
