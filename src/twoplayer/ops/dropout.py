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

import numpy as np
import torch
from torch import Tensor

_generator: ContextVar[torch.Generator | None] = ContextVar("generator", default=None)


@contextmanager
def drawing_from(generator: torch.Generator) -> Iterator[None]:
    """Inside, the links of a chain draw from this generator instead of torch's global one."""
    token = _generator.set(generator)
    try:
        yield
    finally:
        _generator.reset(token)


def normal_like(like: Tensor) -> Tensor:
    """Independent standard normal numbers of the shape, dtype and layout of `like`."""
    return torch.empty_like(like).normal_(generator=_generator.get())


def keep_factors(like: Tensor, probability: float) -> Tensor:
    """0 with a probability, else 1 / (1 - probability): independent, of the shape, dtype and layout of `like`.

    The randomness is torch's: the same state of its global generator, or of the one that `drawing_from` names, gives
    the same factors.
    """
    factors = torch.empty_like(like)
    scale = 1.0 / (1.0 - probability)
    if like.device.type != "cpu":
        return factors.bernoulli_(1.0 - probability, generator=_generator.get()).mul_(scale)
    seed = int(torch.randint(2**63 - 1, (), generator=_generator.get()))
    bits = np.random.Generator(np.random.SFC64(seed)).integers(0, 2**64, -(-like.numel() // 2), dtype=np.uint64)
    numbers = torch.from_numpy(bits.view(np.int32))[: like.numel()]
    threshold = round(probability * 2**32) - 2**31
    torch.mul(numbers >= threshold, scale, out=factors.as_strided((like.numel(),), (1,)))
    return factors
