"""Full precision where `torch.autocast` would round: the last layer of a discriminator above all."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, autocast, is_autocast_enabled, nn


def full_precision(layer: nn.Module, values: Tensor) -> Tensor:
    """`layer(values)` in the dtype of the layer's parameters, also inside `torch.autocast`.

    Logits are differences of large sums: in bfloat16, which has 8 bits, one of 100 is known to a half.
    """
    return outside_autocast(layer, values, next(layer.parameters()).dtype)


def outside_autocast(function: Callable[[Tensor], Tensor], values: Tensor, dtype: torch.dtype) -> Tensor:
    """`function(values)`; inside `torch.autocast` of values in a dtype, and with nothing cast on the way."""
    if not is_autocast_enabled(values.device.type):
        return function(values)
    with autocast(values.device.type, enabled=False):
        return function(values.to(dtype))


def in_float32_at_least(values: Tensor) -> Tensor:
    """What statistics are taken of: values in float32 where they are in less."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
