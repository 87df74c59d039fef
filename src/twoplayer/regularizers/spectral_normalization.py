"""Spectral normalization: every weight matrix of D is divided by its largest singular value.

Source: Miyato et al. 2018, https://arxiv.org/abs/1802.05957, algorithm 1. The singular value is estimated by one power
iteration per forward pass in training mode (torch's own parametrization, whose vectors are part of D's state).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from twoplayer.core.errors import UserError
from twoplayer.core.protocols import Regularizer

NORMALIZED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d)


class SpectralNormalization(Regularizer):
    """Divides the weights of D's linear and convolutional layers by their spectral norm.

    Attributes:
        power_iterations: per forward pass in training mode.
    """

    name: Literal["spectral-normalization"] = "spectral-normalization"
    power_iterations: int = Field(1, ge=1, le=100)

    def attach(self, discriminator: nn.Module) -> None:
        """Change the module in place. Its weights stay where they are; what a layer uses is computed from them.

        Raises UserError when no layer can be normalized, or one begins with zeros, which have no norm to divide by.
        """
        found = [module for module in discriminator.modules() if isinstance(module, NORMALIZED)]
        if not found:
            raise UserError(f"{self.name}: this discriminator has no layer that it could normalize")
        if any(not module.weight.any() for module in found):
            raise UserError(f"{self.name}: layers of this discriminator begin with zeros, which have no norm")
        for module in found:
            spectral_norm(module, n_power_iterations=self.power_iterations)
