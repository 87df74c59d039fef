"""What the links of a chain draw: dropout factors, cheap on a CPU, and noise.

Source: Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html, with the factor 1 / (1 - p) at training
time ("inverted"). On a CPU torch draws one floating-point number for each value, one after another; here each 64 bits
of a fast generator, seeded from torch's, decide about two values, in steps of 2^-32 of the probability (a float32
draw has steps of 2^-24).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

_generator: ContextVar[torch.Generator | None] = ContextVar("generator", default=None)
_seeds: ContextVar[Seeds | None] = ContextVar("seeds", default=None)


@contextmanager
def drawing_from(generator: torch.Generator) -> Iterator[None]:
    """Inside, the links of a chain draw from this generator instead of torch's global one."""
    token = _generator.set(generator)
    try:
        yield
    finally:
        _generator.reset(token)


@dataclass
class Seeds:
    """One seed, an int64 [], for each time that dropout factors are drawn, in places that stay.

    Attributes:
        places: in the order in which they are asked for.
    """

    places: list[Tensor] = field(default_factory=list)
    used: int = 0

    def next(self) -> Tensor:
        """The next place; at first the seed that `keep_factors` would draw."""
        if self.used == len(self.places):
            self.places.append(_new_seed(None))
        self.used += 1
        return self.places[self.used - 1]

    def fill(self) -> None:
        """Bring the seeds that `keep_factors` would draw now into the places."""
        for place in self.places:
            place.copy_(_new_seed(None))


@contextmanager
def seeded_by(seeds: Seeds) -> Iterator[None]:
    """Inside, dropout factors are an operator of a seed, as a traced program needs it."""
    token = _seeds.set(seeds)
    try:
        yield
    finally:
        _seeds.reset(token)


def normal_like(like: Tensor) -> Tensor:
    """Independent standard normal numbers of the shape, dtype and layout of `like`."""
    return torch.empty_like(like).normal_(generator=_generator.get())


def keep_factors(like: Tensor, probability: float) -> Tensor:
    """0 with a probability, else 1 / (1 - probability): independent, of the shape, dtype and layout of `like`.

    The randomness is torch's: the same state of its global generator, or of the one that `drawing_from` names, gives
    the same factors.
    """
    if like.device.type != "cpu":
        factors = torch.empty_like(like)
        return factors.bernoulli_(1.0 - probability, generator=_generator.get()).mul_(1.0 / (1.0 - probability))
    seeds = _seeds.get()
    if seeds is not None:
        found: Tensor = _seeded_factors(like, probability, seeds.next())
        return found
    return _factors(like, probability, int(_new_seed(_generator.get())))


def _factors(like: Tensor, probability: float, seed: int) -> Tensor:
    factors = torch.empty_like(like)
    bits = np.random.Generator(np.random.SFC64(seed)).integers(0, 2**64, -(-like.numel() // 2), dtype=np.uint64)
    numbers = torch.from_numpy(bits.view(np.int32))[: like.numel()]
    threshold = round(probability * 2**32) - 2**31
    torch.mul(numbers >= threshold, 1.0 / (1.0 - probability), out=factors.as_strided((like.numel(),), (1,)))
    return factors


def _new_seed(generator: torch.Generator | None) -> Tensor:
    return torch.randint(2**63 - 1, (), generator=generator)


@torch.library.custom_op("twoplayer::keep_factors", mutates_args=())
def _seeded_factors(like: Tensor, probability: float, seed: Tensor) -> Tensor:
    return _factors(like, probability, int(seed))


@_seeded_factors.register_fake
def _(like: Tensor, probability: float, seed: Tensor) -> Tensor:
    return torch.empty_like(like)
