"""Minibatch discrimination: each example is told how close the others of its batch are.

Source: Salimans et al. 2016, https://arxiv.org/abs/1606.03498, section 3.2. With M_i = f(x_i) T, a matrix of B rows
and C columns, c_b(x_i, x_j) = exp(-|M_i,b - M_j,b|_1) and o(x_i)_b = the sum of c_b(x_i, x_j) over the others j. Real
and fake images go through in separate batches. Not to be confused with minibatch standard deviation.

Deviations: T is the paper's plain tensor; the authors' code divides it by the length of its columns and learns their
scale. A sum over j includes j = i in the paper's formula; as in the authors' code an example never counts itself.
From that code: T starts as Normal(0, 0.05) and a learned bias, starting at -1, is added to o.

The others may be on other processes (see `whole_batch.py`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from twoplayer.ops.logits import outside_autocast
from twoplayer.ops.whole_batch import whole_batch


def closeness(rows: Tensor) -> Tensor:
    """For each example and kernel the sum of exp(-L1 distance) to the other examples.

    Broadcast in one piece, because torch.cdist has no second derivative: N * N * B * C numbers.

    Args:
        rows: [N, B, C].

    Returns:
        [N, B], in [0, N - 1].
    """
    whole, first = whole_batch(rows)
    columns, others = (each.permute(2, 1, 0).contiguous() for each in (rows, whole))
    distances = (columns[..., :, None] - others[..., None, :]).abs().sum(0)
    itself = torch.eye(len(rows), len(whole), dtype=torch.bool, device=rows.device).roll(first, 1)
    return (-distances).exp().masked_fill(itself, 0.0).sum(-1).T


class MinibatchDiscrimination(nn.Module):
    """Appends B numbers to each of N feature vectors: [N, A] to [N, A + B].

    Args:
        in_features: A.
        num_kernels: B, how many closenesses are learned.
        kernel_dim: C, in how many dimensions each is measured.
        initial_deviation: standard deviation of T's first values.
    """

    coupled_images = None

    def __init__(
        self, in_features: int, num_kernels: int = 100, kernel_dim: int = 5, *, initial_deviation: float = 0.05
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(in_features, num_kernels, kernel_dim) * initial_deviation)
        self.bias = nn.Parameter(torch.full((num_kernels,), -1.0))

    def forward(self, features: Tensor) -> Tensor:
        rows = outside_autocast(self._rows, features, self.weight.dtype)
        return torch.cat([features, closeness(rows) + self.bias], dim=1)

    def _rows(self, features: Tensor) -> Tensor:
        """What is compared: [N, B, C]."""
        rows: Tensor = (features @ self.weight.flatten(1)).unflatten(1, self.weight.shape[1:])
        return rows
