"""Virtual batch normalization: each example is normalized by a fixed reference batch and itself, by nothing else.

Source: Salimans et al. 2016, https://arxiv.org/abs/1606.03498, section 3.5, with the authors' arithmetic: an example
counts as one more member of the reference batch of R, so its own mean has weight 1 / (R + 1); the variance is
E[x^2] - E[x]^2 with both expectations mixed in this way; gains start as Normal(1, 0.02), shifts at zero.

The reference batch has to pass through the network together with the examples, which is why it stands in the first R
rows. It costs what R further examples cost.

Deviations: the variance is not allowed below zero, where rounding may carry it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from twoplayer.ops.logits import in_float32_at_least


class VirtualBatchNorm(nn.Module):
    """Normalizes [R + N, C] or [R + N, C, ...] per channel; the first R rows are the reference batch at this layer.

    There are no running statistics: training and evaluation are the same.

    Args:
        num_channels: C.
        reference_size: R.
        epsilon: added to the variance.
        affine: learn a factor and a summand per channel.
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(self, num_channels: int, reference_size: int, epsilon: float = 1e-5, *, affine: bool = True) -> None:
        super().__init__()
        self.reference_size = reference_size
        self.epsilon = epsilon
        self.register_parameter("weight", nn.Parameter(1.0 + 0.02 * torch.randn(num_channels)) if affine else None)
        self.register_parameter("bias", nn.Parameter(torch.zeros(num_channels)) if affine else None)

    def forward(self, images: Tensor) -> Tensor:
        assert len(images) >= self.reference_size, f"{len(images)} rows cannot start with {self.reference_size}"
        values = in_float32_at_least(images).reshape(*images.shape[:2], -1)
        mean, square = self._mixed(values.mean(-1)), self._mixed(values.square().mean(-1))
        variance = (square - mean.square()).clamp(min=0.0)
        output = (values - mean[..., None]) * (variance + self.epsilon).rsqrt()[..., None]
        if self.weight is not None and self.bias is not None:
            output = output * self.weight[:, None] + self.bias[:, None]
        return output.reshape(images.shape).to(images.dtype)

    def _mixed(self, per_example: Tensor) -> Tensor:
        """Expectations [R + N, C]: the reference's own for its rows, 1 / (R + 1) of an example's own for the others."""
        reference, examples = per_example.tensor_split([self.reference_size])
        whole = reference.mean(0)
        share = 1.0 / (self.reference_size + 1)
        return torch.cat([whole.expand_as(reference), share * examples + (1.0 - share) * whole])
