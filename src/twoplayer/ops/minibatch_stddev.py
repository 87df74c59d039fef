"""Minibatch standard deviation: one more feature map that says how much the images of a batch differ.

Source: Karras et al. 2018, https://arxiv.org/abs/1710.10196, section 3: the standard deviation of each feature at each
place over the batch, averaged to one number, which fills the new map. 1e-8 is added to the variance, as in the authors'
code. Nothing is learned.

Deviations: the authors' later code cuts a batch into groups and wants the group size to divide it. Here the groups are
as equal as can be and none is smaller than `group_size`.

Images of a group may be on other processes (see `whole_batch.py`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from twoplayer.ops.logits import in_float32_at_least
from twoplayer.ops.whole_batch import whole_batch


def mean_deviation(features: Tensor) -> Tensor:
    """The biased standard deviation over N, averaged over the rest: [N, C, H, W] to a scalar, in float32 at least."""
    return (in_float32_at_least(features).var(0, correction=0) + 1e-8).sqrt().mean()


class MinibatchStddev(nn.Module):
    """Appends a constant map: [N, C, H, W] to [N, C + 1, H, W].

    Args:
        group_size: images that are compared with one another, at least; neighbors in the batch form a group. Left out,
            the whole batch is one group, as it is when it has fewer images.
    """

    def __init__(self, group_size: int | None = None) -> None:
        super().__init__()
        assert group_size is None or group_size >= 1, group_size
        self.group_size = group_size

    @property
    def coupled_images(self) -> int | None:
        """How many neighbors are compared; None for the whole batch."""
        return self.group_size

    def forward(self, features: Tensor) -> Tensor:
        n = len(features)
        are_whole = self.group_size is not None and n % self.group_size == 0
        whole, first = (features, 0) if are_whole else whole_batch(features)
        num_groups = 1 if self.group_size is None else max(len(whole) // self.group_size, 1)
        maps = [
            mean_deviation(group).expand(len(group), 1, *features.shape[2:]) for group in whole.tensor_split(num_groups)
        ]
        return torch.cat([features, torch.cat(maps)[first : first + n]], dim=1)
