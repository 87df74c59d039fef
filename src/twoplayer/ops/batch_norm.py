"""Batch normalization whose running variance is the biased batch variance, as in Keras.

Source: Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167; Keras `BatchNormalization`. torch.nn.BatchNorm keeps
the unbiased variance instead, which differs by N / (N - 1) and makes a faithful copy of a Keras network drift.

Statistics may be those of a batch that several processes share (see `whole_batch.py`). torch.nn.SyncBatchNorm does that
on GPUs only, and without a second derivative.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from twoplayer.core.ranks import Ranks, synchronized
from twoplayer.ops.logits import in_float32_at_least
from twoplayer.ops.whole_batch import moments


class BatchNorm(nn.Module):
    """Normalizes [N, C] or [N, C, ...] per channel.

    Args:
        num_channels: C.
        epsilon: added to the variance.
        momentum: share of the new batch in the running statistics (Keras calls 1 minus this `momentum`).
        scale: learn a factor per channel.
        shift: learn a summand per channel.
    """

    coupled_images = None

    running_mean: Tensor
    running_variance: Tensor
    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(
        self,
        num_channels: int,
        epsilon: float = 1e-3,
        momentum: float = 0.01,
        *,
        scale: bool = True,
        shift: bool = True,
    ) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.momentum = momentum
        self.register_parameter("weight", nn.Parameter(torch.ones(num_channels)) if scale else None)
        self.register_parameter("bias", nn.Parameter(torch.zeros(num_channels)) if shift else None)
        self.register_buffer("running_mean", torch.zeros(num_channels))
        self.register_buffer("running_variance", torch.ones(num_channels))

    def forward(self, images: Tensor) -> Tensor:
        if not self.training:
            return F.batch_norm(
                images, self.running_mean, self.running_variance, self.weight, self.bias, eps=self.epsilon
            )
        ranks = synchronized()
        if ranks is not None:
            return self._synchronized(images, ranks)
        if self.weight is None:  # by the weight torch knows that statistics are to be in more than the images' dtype
            output: Tensor = self._normalized(in_float32_at_least(images)).to(images.dtype)
            return output
        return self._normalized(images)

    def _normalized(self, images: Tensor) -> Tensor:
        """With the batch's own statistics, which move the running ones."""
        output, mean, inverse_deviation = torch.native_batch_norm(
            images, self.weight, self.bias, None, None, True, 0.0, self.epsilon
        )
        self.remember(mean, inverse_deviation.detach().pow(-2).sub_(self.epsilon))
        return output

    @torch.no_grad()
    def remember(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics towards those of a batch, [C] each."""
        self.running_mean.lerp_(mean, self.momentum)
        self.running_variance.lerp_(variance, self.momentum)

    def _synchronized(self, images: Tensor, ranks: Ranks) -> Tensor:
        """By the statistics of the batches of all ranks."""
        wide = images.to(self.running_mean.dtype)
        mean, variance = moments(wide, ranks)
        self.remember(mean, variance)
        scale = (variance + self.epsilon).rsqrt()
        scale = scale if self.weight is None else scale * self.weight
        output = (wide - across(mean, wide)) * across(scale, wide)
        return (output if self.bias is None else output + across(self.bias, wide)).to(images.dtype)


def across(per_channel: Tensor, like: Tensor) -> Tensor:
    """[C] so that it meets the channels of [N, C, ...]."""
    return per_channel.view(-1, *[1] * (like.ndim - 2))
