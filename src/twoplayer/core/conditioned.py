"""A conditional network with its labels or conditions filled in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


class Conditioned(nn.Module):
    """Looks like a network that takes nothing but latents or images; shares the network's weights and mode.

    Args:
        network: the conditional network.
        given: its keywords, each [N, ...]; the inputs have to be the N that belong to them.
    """

    def __init__(self, network: nn.Module, given: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.network = network
        self.given = dict(given)
        self.training = network.training

    def forward(self, inputs: Tensor) -> Any:
        return self.network(inputs, **self.given)


def conditioned(network: nn.Module, given: Mapping[str, Tensor]) -> nn.Module:
    """The network itself where nothing is given."""
    return Conditioned(network, given) if given else network
