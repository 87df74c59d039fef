"""Random numbers in places that stay, for steps that are recorded or traced."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from twoplayer.core.rng import Stream

Key = tuple[str, tuple[str | int, ...], tuple[int, ...], float, float]


@dataclass
class Draws:
    """The random numbers of one step, in places that stay.

    Attributes:
        base: the step's place in the run's random stream.
        device: where the places are.
        places: by what was asked for, relative to the base.
    """

    base: Stream
    device: torch.device
    places: dict[Key, Tensor] = field(default_factory=dict)

    def place(self, kind: str, path: tuple[str | int, ...], shape: tuple[int, ...], low: float, high: float) -> Tensor:
        """Where these numbers stand; at first the present step's."""
        key = (kind, path, shape, low, high)
        if key not in self.places:
            self.places[key] = self._drawn(key).to(self.device)
        return self.places[key]

    def fill(self, base: Stream) -> None:
        """Bring the numbers of another step into the places."""
        self.base = base
        for key, place in self.places.items():
            values = self._drawn(key)
            place.copy_(values.pin_memory() if self.device.type == "cuda" else values, non_blocking=True)

    def _drawn(self, key: Key) -> Tensor:
        kind, path, shape, low, high = key
        stream = self.base.child(*path)
        return stream.normal(shape) if kind == "normal" else stream.uniform(shape, low, high)


@dataclass(frozen=True)
class PlacedStream(Stream):
    """A stream, relative to a step, whose numbers stand in places that stay.

    Attributes:
        draws: the places.
    """

    draws: Draws | None = None

    def uniform(
        self, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0, *, like: Tensor | None = None
    ) -> Tensor:
        return self._placed("uniform", shape, low, high)

    def normal(self, shape: tuple[int, ...], *, like: Tensor | None = None) -> Tensor:
        return self._placed("normal", shape, 0.0, 0.0)

    def derived_seed(self) -> int:
        raise AssertionError("only uniform and normal numbers can be brought into a recorded or traced step")

    def _placed(self, kind: str, shape: tuple[int, ...], low: float, high: float) -> Tensor:
        assert self.draws is not None
        return self.draws.place(kind, self.path, shape, low, high)
