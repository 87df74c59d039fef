"""When a run ends before its last step."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from twoplayer.core.catalogue import Settings


class Goal(Settings):
    """End the run when a figure of the log reaches a target; either `below` or `above`.

    Attributes:
        metric: a key of the metrics log, for example "loss/discriminator".
        below: the run ends when the figure is at most this.
        above: the run ends when the figure is at least this.
    """

    metric: str = Field(min_length=1)
    below: float | None = None
    above: float | None = None

    @model_validator(mode="after")
    def _one_side(self) -> Self:
        if (self.below is None) == (self.above is None):
            raise ValueError("say either stop.below or stop.above")
        return self

    def reached(self, figure: float) -> bool:
        """Whether a figure is at or beyond the target."""
        return figure <= self.below if self.below is not None else figure >= (self.above or 0.0)
