"""Dropout factors whose random numbers are cheap on a CPU.

Source: Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html, with the factor 1 / (1 - p) at training
time ("inverted"). On a CPU torch draws one floating-point number for each value, one after another; here each 64 bits
of a fast generator, seeded from torch's, decide about two values, in steps of 2^-32 of the probability (a float32
draw has steps of 2^-24).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def keep_factors(like: Tensor, probability: float) -> Tensor:
    """0 with a probability, else 1 / (1 - probability): independent, of the shape, dtype and layout of `like`.

    The randomness is torch's: the same state of its global generator gives the same factors.
    """
    factors = torch.empty_like(like)
    scale = 1.0 / (1.0 - probability)
    if like.device.type != "cpu":
        return factors.bernoulli_(1.0 - probability).mul_(scale)
    seed = int(torch.randint(2**63 - 1, ()))
    bits = np.random.Generator(np.random.SFC64(seed)).integers(0, 2**64, -(-like.numel() // 2), dtype=np.uint64)
    numbers = torch.from_numpy(bits.view(np.int32))[: like.numel()]
    threshold = round(probability * 2**32) - 2**31
    torch.mul(numbers >= threshold, scale, out=factors.as_strided((like.numel(),), (1,)))
    return factors
