"""Gaussian noise added to activations in training mode. Source: Salimans et al. 2016, https://arxiv.org/abs/1606.03498."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GaussianNoise(nn.Module):
    """Adds independent normal noise to every value in training mode, nothing in evaluation mode.

    Args:
        std: standard deviation of the noise, in the units of the input.
    """

    def __init__(self, std: float) -> None:
        super().__init__()
        self.std = std

    def forward(self, values: Tensor) -> Tensor:
        return torch.add(values, torch.randn_like(values), alpha=self.std) if self.training and self.std else values

    def extra_repr(self) -> str:
        return f"std={self.std}"
