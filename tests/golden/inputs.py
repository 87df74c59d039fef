"""Weights and inputs that the Keras script and the PyTorch test both draw for themselves, so that neither is stored.

numpy's RandomState is frozen: the same seed gives the same numbers in every version. Needs numpy only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

BATCH = 4
STEPS = 3
LATENT_DIM = 20
SAMPLED = 24
"""Entries of each tensor that the golden file holds."""

Array = np.ndarray


def keras_weights(shapes: Sequence[tuple[str, tuple[int, ...]]], seed: int) -> list[Array]:
    """One float64 array per (kind, shape), in order.

    Kinds: kernel (Glorot-sized), bias, beta, mean (around 0), gamma, variance (around 1).
    """
    draw = np.random.RandomState(seed)
    arrays = []
    for kind, shape in shapes:
        values = draw.uniform(-1.0, 1.0, shape)
        if kind == "kernel":
            field = int(np.prod(shape[:-2]))
            values *= np.sqrt(6.0 / (field * (shape[-1] + shape[-2])))
        elif kind in ("gamma", "variance"):
            values = 1.0 + 0.2 * values
        else:
            values *= 0.1
        arrays.append(values)
    return arrays


def latents(step: int) -> Array:
    """[BATCH, LATENT_DIM] in [-1, 1]."""
    return np.random.RandomState(100 + step).uniform(-1.0, 1.0, (BATCH, LATENT_DIM))


def real_images(step: int) -> Array:
    """[BATCH, 28, 28, 1] in [-1, 1]."""
    return np.random.RandomState(200 + step).uniform(-1.0, 1.0, (BATCH, 28, 28, 1))


def interpolation(step: int) -> Array:
    """[BATCH, 1, 1, 1] in [0, 1]."""
    return np.random.RandomState(300 + step).uniform(0.0, 1.0, (BATCH, 1, 1, 1))


def sampled_places(size: int) -> Array:
    """Flat indices into a tensor of that size at which it is compared."""
    return np.random.RandomState(size % 2**31).randint(0, size, min(SAMPLED, size))
