"""Batch normalization whose factor and summand per channel depend on the label.

Source: de Vries et al. 2017, https://arxiv.org/abs/1707.00683; in generators: Dumoulin et al. 2017,
https://arxiv.org/abs/1610.07629, and Miyato and Koyama 2018, https://arxiv.org/abs/1802.05637: one pair of vectors for
each class, while all classes share the statistics.

Deviation: de Vries et al. predict changes of one shared pair from a text; here labels choose from a table.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from twoplayer.ops.batch_norm import BatchNorm
from twoplayer.ops.told_labels import ToldLabels


class ConditionalBatchNorm(ToldLabels):
    """Normalizes [N, C] or [N, C, ...] per channel, then scales and shifts by class.

    Args:
        num_channels: C.
        num_classes: labels are from 0 to this.
        epsilon: added to the variance.
        momentum: share of the new batch in the running statistics.
    """

    def __init__(self, num_channels: int, num_classes: int, epsilon: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.normalize = BatchNorm(num_channels, epsilon, momentum, scale=False, shift=False)
        self.weight = nn.Parameter(torch.ones(num_classes, num_channels))
        self.bias = nn.Parameter(torch.zeros(num_classes, num_channels))

    def forward(self, images: Tensor, *, labels: Tensor) -> Tensor:
        shape = (*images.shape[:2], *[1] * (images.ndim - 2))
        scale, shift = (F.embedding(labels, table).view(shape) for table in (self.weight, self.bias))
        normalized: Tensor = self.normalize(images)
        return normalized * scale + shift
