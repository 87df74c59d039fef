"""What a metric is: figures that say how good fakes are."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal

from twoplayer.core.catalogue import Component
from twoplayer.core.errors import UserError
from twoplayer.core.observed import Measurement, Observed, View, joined
from twoplayer.core.rng import Stream

Better = Literal["lower", "higher", "half"]
"""Which of two values of a figure is the better one; `half`: the one nearer to 1/2."""


def badness(better: Better, value: float) -> float:
    """What ranks the values of a figure: the smaller, the better."""
    return {"lower": value, "higher": -value, "half": abs(value - 0.5)}[better]


class Metric(Component):
    """Figures that say how good fakes are, mostly by comparing them with real images.

    `measure` is the definition. `start` begins one measurement that takes images as they come; it keeps them all and
    calls `measure` at the end.
    """

    kind = "metric"
    better: ClassVar[Mapping[str, Better]]
    """The figures that fakes can be ranked by."""
    deviations: ClassVar[Mapping[str, str]] = {}
    """All other figures: each is the standard deviation of the named one."""
    of_fakes_only: ClassVar[bool] = False
    """Whether no real image is looked at. Then `measure` gets any `Observed` for them, an empty one too."""

    of_classes: ClassVar[bool] = False
    """Whether probabilities have to be those of the data's own classes."""

    @property
    @abstractmethod
    def needs(self) -> tuple[View, ...]:
        """What is looked at, of each set."""

    @abstractmethod
    def measure(self, real: Observed, fake: Observed, stream: Stream) -> dict[str, float]:
        """All figures of `better` and `deviations`; maths in float64. `stream` is where chance comes from.

        Raises:
            UserError: there are too few images.
        """

    def start(self) -> Measurement:
        """A measurement that has seen nothing yet."""
        return Collector(self)

    def require(self, least: int, **counts: int) -> None:
        """Raise UserError where there are fewer than `least` images; the keywords are `real`, `fake`."""
        for role, count in counts.items():
            if count < least:
                raise UserError(f"{self.name} needs at least {least} {role} images, there are {count}")


class SummedMetric(Metric):
    """A metric that needs only sums over the images: the memory it takes does not grow with their number."""

    def measure(self, real: Observed, fake: Observed, stream: Stream) -> dict[str, float]:
        measurement = self.start()
        if not self.of_fakes_only:
            measurement.update(real, real=True)
        measurement.update(fake, real=False)
        return measurement.compute(stream)

    @abstractmethod
    def start(self) -> Measurement: ...


class Collector(Measurement):
    """Keeps what it sees, as much of it as the metric needs."""

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self.parts: dict[bool, list[Observed]] = {True: [], False: []}

    def update(self, images: Observed, *, real: bool) -> None:
        if len(images) and not (real and self.metric.of_fakes_only):
            self.parts[real].append(Observed(**{view: images.see(view) for view in self.metric.needs}))

    def compute(self, stream: Stream) -> dict[str, float]:
        return self.metric.measure(joined(self.parts[True]), joined(self.parts[False]), stream)
