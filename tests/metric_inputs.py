"""What tests of metrics look at."""

from __future__ import annotations

from functools import cache

import torch
from sklearn.datasets import load_digits
from torch import Tensor

from twoplayer.core.metric import Metric
from twoplayer.core.observed import Observed
from twoplayer.core.rng import Stream


def of(metric: Metric, real: Tensor, fake: Tensor, seed: int = 0) -> dict[str, float]:
    return metric.measure(Observed(features=real), Observed(features=fake), Stream(seed))


def normal(n: int, d: int, seed: int, mean: float = 0.0, scale: float = 1.0) -> Tensor:
    return Stream(seed).normal((n, d), like=torch.empty(0, dtype=torch.float64)) * scale + mean


def grid(n: int, seed: int) -> Tensor:
    """Points of a small grid: many equal ones, and many equal distances."""
    return Stream(seed).uniform((n, 3), 0, 4).floor().double()


@cache
def halved_digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pixels of scikit-learn's digits as features [N, 64], 0 to 1, in two halves, each with its labels."""
    data, order = load_digits(), Stream(0).permutation(1797)
    pixels, labels = torch.from_numpy(data.data)[order] / 16.0, torch.from_numpy(data.target)[order]
    return pixels[:898], labels[:898], pixels[898:1796], labels[898:1796]


# --- laws of all metrics on features
