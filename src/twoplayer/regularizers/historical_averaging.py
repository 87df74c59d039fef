"""Historical averaging: each player pays for the distance of its parameters to the mean of their past.

Source: Salimans et al. 2016, https://arxiv.org/abs/1606.03498, section 3.3: |theta - mean of theta_i over the past|^2
is added to both players' costs. Its coefficient is not published. The mean is kept online, so it costs one copy of the
parameters.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from twoplayer.core.protocols import Regularizer
from twoplayer.core.schedule import Scheduled, fixed


class ParameterMean(nn.Module):
    """The mean of a network's parameters over its past, as buffers.

    Args:
        network: whose parameters; its present ones are the first of the past.
    """

    updates: Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        for place, parameter in enumerate(network.parameters()):
            self.register_buffer(f"mean_{place}", parameter.detach().clone())
        device = next(network.parameters()).device
        self.register_buffer("updates", torch.ones((), dtype=torch.int64, device=device))

    def means(self) -> list[Tensor]:
        """One mean per parameter, in the network's order."""
        return [buffer for name, buffer in self.named_buffers() if name.startswith("mean_")]

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take the network's present parameters into the mean."""
        self.updates += 1
        share = 1.0 / self.updates.to(self.means()[0])
        for mean, parameter in zip(self.means(), network.parameters(), strict=True):
            mean.lerp_(parameter.detach(), share)


class HistoricalAveraging(Regularizer):
    """Squared distance of a player's parameters to the mean of their past.

    Attributes:
        weight: factor of the squared distance. On the toy game (f - 1)(y - 1) 0.1 settles fast, 1 slowly.
    """

    name: Literal["historical-averaging"] = "historical-averaging"
    weight: Scheduled = Field(0.1, ge=0.0)

    def memory(self, network: nn.Module) -> ParameterMean:
        """The past of a player that begins now."""
        return ParameterMean(network)

    def parameter_penalty(self, network: nn.Module, memory: nn.Module) -> Tensor:
        """The weighted penalty of a player, a scalar with a graph to its parameters."""
        assert isinstance(memory, ParameterMean)
        gaps = zip(network.parameters(), memory.means(), strict=True)
        return fixed(self.weight) * torch.stack([(parameter - mean).square().sum() for parameter, mean in gaps]).sum()

    def update(self, network: nn.Module, memory: nn.Module) -> None:
        """What a player remembers of its present parameters, after each of its updates."""
        assert isinstance(memory, ParameterMean)
        memory.update(network)
