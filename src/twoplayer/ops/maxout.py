"""Maxout: each unit is the largest of several linear pieces.

Source: Goodfellow et al. 2013, https://arxiv.org/abs/1302.4389, equation 1.
"""

from __future__ import annotations

from torch import Tensor, nn


class Maxout(nn.Module):
    """Linear layer [N, in_features] -> [N, units], the maximum over `pieces` for each unit.

    Args:
        in_features: numbers per example.
        units: outputs per example.
        pieces: linear functions behind each unit.
    """

    def __init__(self, in_features: int, units: int, pieces: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, units * pieces)
        self.pieces = pieces

    def forward(self, values: Tensor) -> Tensor:
        largest: Tensor = self.linear(values).unflatten(1, (-1, self.pieces)).amax(2)
        return largest
