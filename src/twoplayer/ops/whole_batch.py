"""The whole batch, where this process has a share of it: for layers that look at their batch.

What is made here has a graph that can be differentiated twice, so that slopes can be penalized through it: each
exchange is a mean over ranks, whose derivative is a mean over ranks.

Every rank has as many images as every other.
"""

from __future__ import annotations

import torch
from torch import Tensor

from twoplayer.core.ranks import Ranks, synchronized


def of_each(values: Tensor, ranks: Ranks) -> Tensor:
    """What each rank has in this place: [...] to [R, ...], the same on all."""
    own = torch.zeros(ranks.count, *[1] * values.ndim, dtype=values.dtype, device=values.device)
    own[ranks.index] = ranks.count
    return ranks.mean(own * values)


def whole_batch(values: Tensor) -> tuple[Tensor, int]:
    """The rows [R * N, ...] of all ranks that are synchronized, and where this one's begin."""
    ranks = synchronized()
    return (values, 0) if ranks is None else (of_each(values, ranks).flatten(0, 1), ranks.index * len(values))


def moments(values: Tensor, ranks: Ranks) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel of [N, C, ...] over the batches of all ranks: [C] each.

    Source: Chan, Golub and LeVeque 1983, https://doi.org/10.1080/00031305.1983.10483115, for parts of one
    size: the ranks exchange means and variances, never sums of squares, whose difference would lose its digits.
    """
    variance, mean = torch.var_mean(values, [0, *range(2, values.ndim)], correction=0)
    means, variances = of_each(torch.stack([mean, variance]), ranks).unbind(1)
    mean = means.mean(0)
    return mean, (variances + (means - mean).square()).mean(0)
