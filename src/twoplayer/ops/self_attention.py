"""Self-attention over the places of a map: each takes up what the places that are like it have.

Source: Zhang et al. 2018, https://arxiv.org/abs/1805.08318, section 3. With f, g and h the 1x1 convolutions to C / 8
channels, place j takes the mean of h(x_i) over all places i with the weights softmax_i <f(x_i), g(x_j)>; a 1x1
convolution brings it back to C channels, and gamma, learned from 0, times it is added to the map.

Deviations: none from the paper; the authors' code pools f and h and gives h C / 2 channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SelfAttention(nn.Module):
    """[N, C, H, W] to the same shape; at first it changes nothing. Needs N (H W)^2 numbers of memory.

    Args:
        channels: C.
        reduction: the attention works on C / reduction channels.
    """

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        inner = max(channels // reduction, 1)
        self.key, self.query, self.value = (nn.Conv2d(channels, inner, 1, bias=False) for _ in range(3))
        self.output = nn.Conv2d(inner, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> Tensor:
        key, query, value = (layer(images).flatten(2) for layer in (self.key, self.query, self.value))
        shares = (query.transpose(1, 2) @ key).softmax(-1)  # [N, taking, given]
        taken: Tensor = value @ shares.transpose(1, 2)
        brought_back: Tensor = self.output(taken.unflatten(2, images.shape[2:]))
        return images + self.gamma * brought_back
