"""A linear layer with normalized weights, and its initialization from data.

Source: Salimans and Kingma 2016, https://arxiv.org/abs/1602.07868: weight = scale * direction / |direction| per output
(equation 2); scale and bias are first set so that on given examples every output has mean 0 and variance 1
(section 3).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class WeightNormLinear(nn.Module):
    """Linear layer [N, in_features] -> [N, out_features].

    Args:
        in_features: numbers per example.
        out_features: outputs per example.
        learn_scale: whether the scale is trained; otherwise it stays what the initialization made it.
        direction_std: standard deviation of the first directions.
    """

    scale: Tensor

    def __init__(
        self, in_features: int, out_features: int, *, learn_scale: bool = True, direction_std: float = 0.1
    ) -> None:
        super().__init__()
        self.direction = nn.Parameter(torch.randn(out_features, in_features) * direction_std)
        self.bias = nn.Parameter(torch.zeros(out_features))
        if learn_scale:
            self.scale = nn.Parameter(torch.ones(out_features))
        else:
            self.register_buffer("scale", torch.ones(out_features))

    def gain(self) -> Tensor:
        """What each direction is multiplied by to have the length of its scale, [out_features]."""
        length: Tensor = torch.linalg.vecdot(self.direction, self.direction)
        return self.scale * length.rsqrt()

    def forward(self, values: Tensor) -> Tensor:
        """Outputs are multiplied by the gain rather than weights: the same numbers, far fewer products."""
        return torch.addcmul(self.bias, F.linear(values, self.direction), self.gain())

    @torch.no_grad()
    def initialize_from(self, values: Tensor) -> Tensor:
        """Set scale and bias from examples [M, in_features]; their outputs, of mean 0 and variance 1 each."""
        self.scale.fill_(1.0)
        outputs = F.linear(values, self.direction) * self.gain()
        deviation, mean = torch.std_mean(outputs, dim=0, correction=0)
        deviation = torch.where(deviation > 0, deviation, 1.0)  # an output that never changes
        self.scale.copy_(1.0 / deviation)
        self.bias.copy_(-mean / deviation)
        return (outputs - mean) / deviation
