"""The last layer of a discriminator."""

from __future__ import annotations

from torch import Tensor, autocast, is_autocast_enabled, nn


def full_precision(layer: nn.Module, values: Tensor) -> Tensor:
    """`layer(values)` in the dtype of the layer's parameters, also inside `torch.autocast`.

    Logits are differences of large sums: in bfloat16, which has 8 bits, one of 100 is known to a half.
    """
    if not is_autocast_enabled(values.device.type):
        return layer(values)  # type: ignore[no-any-return]
    own = next(layer.parameters()).dtype
    with autocast(values.device.type, enabled=False):
        logits: Tensor = layer(values.to(own))
    return logits
