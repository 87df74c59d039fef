"""First and last layers of networks, which compute in the dtype of their weights also where other layers use bfloat16.

They are where pixels, latents and logits are: 8 bits of a pixel are what an image has, and a G that rounds them draws
fewer shades than there are. What they compute costs little, since images have few channels. Outside `torch.autocast`
they are the layers that they were made of.
"""

from __future__ import annotations

from typing import Any, TypeVar

from torch import Tensor, nn

from twoplayer.ops.convolution import SameConv2d, SameConvTranspose2d
from twoplayer.ops.logits import outside_autocast
from twoplayer.ops.maxout import Maxout
from twoplayer.ops.weight_norm import WeightNormLinear

L = TypeVar("L", bound=nn.Module)


class Edge(nn.Module):
    """Mixed into a layer: inside `torch.autocast` it takes values to its parameters' dtype, and keeps it."""

    def forward(self, values: Tensor, *_: Any) -> Tensor:
        return outside_autocast(super().forward, values, next(self.parameters()).dtype)


class EdgeLinear(Edge, nn.Linear):
    """A dense layer at an edge."""


class EdgeConv2d(Edge, nn.Conv2d):
    """A convolution at an edge."""


class EdgeSameConv2d(Edge, SameConv2d):
    """A "same" convolution at an edge."""


class EdgeSameConvTranspose2d(Edge, SameConvTranspose2d):
    """A "same" transposed convolution at an edge."""


class EdgeWeightNormLinear(Edge, WeightNormLinear):
    """A weight-normalized layer at an edge."""


class EdgeMaxout(Edge, Maxout):
    """A maxout layer at an edge."""


EDGES: dict[type[nn.Module], type[nn.Module]] = {kind.__bases__[1]: kind for kind in Edge.__subclasses__()}


def edge(layer: L) -> L:
    """The layer itself, now one at an edge; its parameters and their names stay."""
    layer.__class__ = EDGES[type(layer)]  # type: ignore[assignment]
    return layer
