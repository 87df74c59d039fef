"""First weights, to be given to `nn.Module.apply`."""

from __future__ import annotations

from torch import nn


def glorot_uniform(module: nn.Module) -> None:
    """Glorot-uniform kernels and zero biases, the Keras defaults. Source: Glorot and Bengio 2010."""
    if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def uniform_weights(module: nn.Module, bound: float) -> None:
    """Weights uniform in [-bound, bound] and zero biases."""
    if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        nn.init.uniform_(module.weight, -bound, bound)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
