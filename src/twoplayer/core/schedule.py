"""Numbers that change while a run goes on: a value that is a function of the real images shown so far.

A schedule may stand where a recipe says a number of type `Scheduled`. Before a step its present value is taken
(`fixed_at`), so that penalties and optimizers only ever compute with plain numbers.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeVar

from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from twoplayer.core.catalogue import Component, Settings, piece_of


@dataclass(frozen=True)
class Moment:
    """How far a run is, at the start of a step.

    Attributes:
        kimg: thousands of real images shown to D so far.
        total_kimg: those of the whole run.
    """

    kimg: float
    total_kimg: float


BEGINNING = Moment(0.0, 1.0)


class ValueSchedule(Component):
    """A number on its way from `start` to `end`, where it stays.

    Attributes:
        start: the value before the first step.
        end: the value when the way is done, and ever after.
        kimg: how long the way is, in thousands of real images shown to D; either this or `share`.
        share: how long the way is, as a share of the whole run; such a run cannot be made longer.
    """

    kind = "schedule"

    start: float
    end: float
    kimg: float | None = Field(None, gt=0.0)
    share: float | None = Field(None, gt=0.0, le=1.0)

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.kimg is None) == (self.share is None):
            raise ValueError("a schedule says either kimg or share: how long the way from start to end is")
        return self

    @abstractmethod
    def covered(self, progress: float) -> float:
        """How much of the way from start to end, in [0, 1], is covered when this share of its length, in (0, 1), is."""

    def at(self, moment: Moment) -> float:
        """The value for a step that begins then."""
        progress = self._progress(moment)
        if progress <= 0.0 or progress >= 1.0:
            return self.start if progress <= 0.0 else self.end
        return self.start + (self.end - self.start) * self.covered(progress)

    def is_over(self, moment: Moment) -> bool:
        """Whether the value will not change any more."""
        return self._progress(moment) >= 1.0

    def scaled(self, factor: float) -> Self:
        """The same way between values that are `factor` times as large."""
        return self.model_copy(update={"start": self.start * factor, "end": self.end * factor})

    def _progress(self, moment: Moment) -> float:
        length = self.share * moment.total_kimg if self.share is not None else self.kimg
        assert length is not None, "one of them is said"
        return moment.kimg / length

    # What the bounds of a recipe's number ask of a schedule in its place. A way may begin or end at a bound that a
    # constant has to be above, such as a learning rate that falls to zero.

    def __gt__(self, bound: float) -> bool:
        return min(self.start, self.end) >= bound and max(self.start, self.end) > bound

    def __ge__(self, bound: float) -> bool:
        return min(self.start, self.end) >= bound

    def __lt__(self, bound: float) -> bool:
        return max(self.start, self.end) < bound

    def __le__(self, bound: float) -> bool:
        return max(self.start, self.end) <= bound


_Either = float | SerializeAsAny[ValueSchedule]

if TYPE_CHECKING:
    Scheduled = float | ValueSchedule
else:
    Scheduled = Annotated[_Either, BeforeValidator(partial(piece_of, ValueSchedule))]

S = TypeVar("S", bound=Settings)


def is_number(annotation: Any) -> bool:
    """Whether a field of this type holds a number, be it one that may be a schedule."""
    return annotation is float or annotation == _Either


def schedules_in(settings: Settings) -> dict[str, ValueSchedule]:
    """The numbers that change, by their key."""
    return {key: value for key, value in settings if isinstance(value, ValueSchedule)}


def fixed_at(settings: S, moment: Moment) -> S:
    """The same settings with each schedule's value at a moment in its place; itself where there is none."""
    changing = schedules_in(settings)
    values = {key: schedule.at(moment) for key, schedule in changing.items()}
    return settings.model_copy(update=values) if values else settings


def fixed(value: Scheduled) -> float:
    """A number that was made plain before it is computed with."""
    assert isinstance(value, float), "a schedule's value is taken before a step"
    return value
