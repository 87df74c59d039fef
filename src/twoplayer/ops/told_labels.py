"""Layers in a row, or side by side, some of which are told labels."""

from __future__ import annotations

from torch import Tensor, nn

from twoplayer.ops.residual import Residual


class ToldLabels(nn.Module):
    """A layer that is called with `labels`, int64 [N], beside its values."""


class LabeledSequential(ToldLabels):
    """Layers one after another; the labels go to those that are told them.

    Args:
        layers: in their order.
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, values: Tensor, *, labels: Tensor) -> Tensor:
        for layer in self.layers:
            values = tell(layer, values, labels)
        return values


class LabeledResidual(ToldLabels, Residual):
    """branch(x, labels) + skip(x, labels), see `Residual`."""

    def forward(self, values: Tensor, *, labels: Tensor) -> Tensor:  # type: ignore[override]
        return tell(self.branch, values, labels) + tell(self.skip, values, labels)


def tell(layer: nn.Module, values: Tensor, labels: Tensor) -> Tensor:
    """What a layer makes of values, with the labels where it is told them."""
    told: Tensor = layer(values, labels=labels) if isinstance(layer, ToldLabels) else layer(values)
    return told
