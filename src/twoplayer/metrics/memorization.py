"""Memorization: are fakes nearer to the images that were trained on than fresh images can be?

Source: Meehan, Chaudhuri and Dasgupta 2020, A non-parametric test to detect data-copying in generative models,
https://arxiv.org/abs/2004.05675: held-out images say how near to the training images fresh ones are, and the
Mann-Whitney test compares with that how near the fakes are. Deviation: one test over the whole space instead of one in
each cell of a partition.

The two sets of real images may differ in size, and all images are used: a training set that is cut to the held-out
set's size would hide most copies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from twoplayer.core.errors import UserError
from twoplayer.ops.neighbors import centered, nearest

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Memorization:
    """What tells copies from fresh images.

    Attributes:
        nearer_to_train: share of fakes nearer to a training image than to any held-out one, corrected for the sizes
            of the two sets: 1/2 for fresh fakes, 1 when every fake is a copy.
        distance_ratio: median distance from a fake to the nearest training image, in units of the same for held-out
            images: 1 for fresh fakes, 0 for copies, above 1 for fakes unlike any real image.
        copying_z: standard normal for fresh fakes; below -3 or so they are copies, above 3 unlike real images.
    """

    nearer_to_train: float
    distance_ratio: float
    copying_z: float


def memorization(train: Tensor, held_out: Tensor, fake: Tensor) -> Memorization:
    """Compare how near fakes and held-out real images are to the training images.

    Args:
        train: features [N, F] of images that the generator learned from.
        held_out: features [H, F] of real images of the same distribution that it did not see.
        fake: features [M, F].

    Raises:
        UserError: a set is empty.
    """
    for name, rows in (("training", train), ("held-out", held_out), ("fake", fake)):
        if not len(rows):
            raise UserError(f"memorization compares training, held-out and fake images; there are no {name} ones")
    train, held_out, fake = centered(train, held_out, fake)
    to_train, to_held_out = nearest(fake, train), nearest(fake, held_out)
    usual = nearest(held_out, train)
    return Memorization(
        nearer_to_train=corrected_share(to_train, to_held_out, len(train), len(held_out)),
        distance_ratio=_ratio(_median(to_train.sqrt()), _median(usual.sqrt())),
        copying_z=mann_whitney_z(to_train.cpu().numpy(), usual.cpu().numpy()),
    )


# The nearest of N + H real images from one distribution is a training image with chance N / (N + H). A nearest
# neighbor therefore counts 1 / N from the one set and 1 / H from the other.
def corrected_share(to_train: Tensor, to_held_out: Tensor, n_train: int, n_held_out: int) -> float:
    """Share of fakes nearer to the training set, at sizes that were equal, from distances [M] and [M].

    A fake equally near to both counts as chance would have it.
    """
    chance = n_train / (n_train + n_held_out)
    tied = torch.isclose(to_train, to_held_out, rtol=1e-9, atol=0.0)
    share = float(torch.where(tied, chance, (to_train < to_held_out).double()).mean())
    return share / n_train / (share / n_train + (1.0 - share) / n_held_out)


# Mann and Whitney 1947; equal distances have their mean rank, and the variance is less for them.
def mann_whitney_z(one: Array, other: Array) -> float:
    """How much larger one [M] tends to be than other [N]: the standardized number of pairs in which it is."""
    from scipy.stats import rankdata  # type: ignore[import-untyped,unused-ignore]

    m, n = len(one), len(other)
    together = np.concatenate([one, other])
    pairs = rankdata(together)[:m].sum() - m * (m + 1) / 2.0
    ties = np.unique(together, return_counts=True)[1].astype(np.float64)
    spread = (m + n + 1) - (ties**3 - ties).sum() / ((m + n) * (m + n - 1))
    return float((pairs - m * n / 2.0) / math.sqrt(m * n / 12.0 * spread)) if spread > 0 else 0.0


def _median(values: Tensor) -> float:
    return float(values.quantile(0.5))


def _ratio(one: float, other: float) -> float:
    """1 where both are 0, infinite where only the second is."""
    if other == 0.0:
        return 1.0 if one == 0.0 else math.inf
    return one / other
