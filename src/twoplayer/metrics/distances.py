"""Exact distances between small distributions: total variation, Kullback-Leibler, Jensen-Shannon, earth mover's.

A GAN's objective is a distance between real images and fakes, and which distance it is decides what the generator can
learn from. `docs/distances.md` is the tutorial. Discrete distributions are masses [K] over a common support of K
points; samples become such masses with `common_support` or `shared_histogram`. Divergences are in nats (natural
logarithm), the earth mover's distance is in the units of the points.

Source: Arjovsky, Chintala and Bottou 2017, https://arxiv.org/abs/1701.07875, section 2; Villani 2009, Optimal
Transport, definition 6.1 and remark 6.5 (duality).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twoplayer.core.errors import UserError

Array = NDArray[np.float64]

SUM_TOLERANCE = 1e-6
"""Masses whose sum is this close to 1 are taken as rounded ones and divided by it."""

SOLVER_TOLERANCE = 1e-10
"""Of the linear programs, in units of the largest distance between two points."""


def total_variation(p: ArrayLike, q: ArrayLike) -> float:
    """Half the sum of |p - q|: the largest difference in probability that any event has. In [0, 1].

    Args:
        p: masses [K], at least 0, sum 1.
        q: masses [K] over the same support.

    Raises:
        UserError: when p or q is no distribution, or their lengths differ.
    """
    p, q = _masses(p, q)
    return _between(0.0, np.abs(p - q).sum() / 2.0, 1.0)


def kullback_leibler(p: ArrayLike, q: ArrayLike) -> float:
    """Sum of p log(p / q), in nats; infinite where p has mass and q has none. Not symmetric.

    Args:
        p: masses [K], at least 0, sum 1.
        q: masses [K] over the same support.

    Raises:
        UserError: when p or q is no distribution, or their lengths differ.
    """
    p, q = _masses(p, q)
    return _relative_entropy(p, q)


def jensen_shannon(p: ArrayLike, q: ArrayLike) -> float:
    """KL(p, m) / 2 + KL(q, m) / 2 with m = (p + q) / 2, in nats: the divergence, not its root. In [0, log 2].

    The minimax game with the best discriminator has the value 2 JS - 2 log 2 (Goodfellow et al. 2014,
    https://arxiv.org/abs/1406.2661, theorem 1).

    Args:
        p: masses [K], at least 0, sum 1.
        q: masses [K] over the same support.

    Raises:
        UserError: when p or q is no distribution, or their lengths differ.
    """
    p, q = _masses(p, q)
    middle = (p + q) / 2.0
    return _between(0.0, (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2.0, math.log(2.0))


def earth_mover(p: ArrayLike, q: ArrayLike, points: ArrayLike) -> float:
    """The least work that turns p into q, mass times Euclidean distance (1-Wasserstein), in units of the points.

    Args:
        p: masses [K], at least 0, sum 1.
        q: masses [K] over the same support.
        points: where the masses lie, [K] or [K, D].

    Raises:
        UserError: when p or q is no distribution, or the lengths differ.
    """
    from scipy.stats import wasserstein_distance  # type: ignore[import-untyped,unused-ignore]

    p, q = _masses(p, q)
    points = _support(points, len(p))
    if points.shape[1] == 1:
        return float(wasserstein_distance(points[:, 0], points[:, 0], p, q))
    return _cheapest_plan(p[p > 0], q[q > 0], _distances(points[p > 0], points[q > 0]))


def kantorovich_rubinstein(p: ArrayLike, q: ArrayLike, points: ArrayLike) -> tuple[float, Array]:
    """The dual of `earth_mover`: the largest E_p f - E_q f over all f with slope at most 1, and an f that reaches it.

    f is what a Wasserstein discriminator is trained to be. It is 0 at the first point: a constant changes nothing.

    Args:
        p: masses [K], at least 0, sum 1.
        q: masses [K] over the same support.
        points: where the masses lie, [K] or [K, D]; the program has K (K - 1) constraints.

    Returns:
        The value, equal to the earth mover's distance, and f at the points, [K].

    Raises:
        UserError: when p or q is no distribution, or the lengths differ.
    """
    from scipy.sparse import coo_array  # type: ignore[import-untyped,unused-ignore]

    p, q = _masses(p, q)
    points = _support(points, len(p))
    apart = _distances(points, points)
    unit = apart.max() or 1.0
    high, low = np.nonzero(~np.eye(len(p), dtype=bool))
    rows = np.arange(len(high))
    signs = np.repeat([1.0, -1.0], len(high))
    rises = coo_array((signs, (np.tile(rows, 2), np.concatenate([high, low]))), shape=(len(high), len(p)))
    free = [(0.0, 0.0)] + [(None, None)] * (len(p) - 1)
    f = unit * _solve(q - p, A_ub=rises.tocsr(), b_ub=apart[high, low] / unit, bounds=free)
    return float(f @ (p - q)), f


def earth_mover_of_samples(x: ArrayLike, y: ArrayLike) -> float:
    """The earth mover's distance between two sets of points, each point with equal mass; exact.

    Sorting for D = 1, an assignment for N = M (2,000 points take about a second), otherwise a linear program with
    N M unknowns (500 by 400 points take about a second).

    Args:
        x: points [N] or [N, D].
        y: points [M] or [M, D].

    Raises:
        UserError: when a set is empty or not finite, or the dimensions differ.
    """
    from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped,unused-ignore]
    from scipy.stats import wasserstein_distance

    x, y = _sets(x, y)
    if x.shape[1] == 1:
        return float(wasserstein_distance(x[:, 0], y[:, 0]))
    cost = _distances(x, y)
    if len(x) == len(y):
        return float(cost[linear_sum_assignment(cost)].mean())
    return _cheapest_plan(np.full(len(x), 1.0 / len(x)), np.full(len(y), 1.0 / len(y)), cost)


def common_support(x: ArrayLike, y: ArrayLike) -> tuple[Array, Array, Array]:
    """The empirical distributions of two sets of points, over all their distinct points.

    Args:
        x: points [N] or [N, D]; a point that occurs twice has twice the mass.
        y: points [M] or [M, D].

    Returns:
        Masses p of x and q of y, [K] each, and the K distinct points [K, D], as `earth_mover` takes them.

    Raises:
        UserError: when a set is empty or not finite, or the dimensions differ.
    """
    x, y = _sets(x, y)
    points, where = np.unique(np.concatenate([x, y]), axis=0, return_inverse=True)
    of_x, of_y = np.split(where.ravel(), [len(x)])
    p, q = (np.bincount(of_one, minlength=len(points)) / len(of_one) for of_one in (of_x, of_y))
    return p, q, points


def shared_histogram(x: ArrayLike, y: ArrayLike, bins: int = 32) -> tuple[Array, Array, Array]:
    """The histograms of two sets of numbers over the same bins of equal width, from the least to the greatest number.

    Distances between histograms depend on `bins`: with very many, any two samples of a continuous distribution have
    total variation near 1.

    Args:
        x: numbers [N].
        y: numbers [M].
        bins: how many.

    Returns:
        Masses p of x and q of y, and the centers of the bins, [bins] each, as `earth_mover` takes them.

    Raises:
        UserError: when a set is empty, not finite or not a line of numbers, or the bins cannot be made.
    """
    x, y = _sets(x, y)
    if x.shape[1] != 1:
        raise UserError(f"a histogram needs numbers [N], not points in {x.shape[1]} dimensions")
    if bins < 1:
        raise UserError(f"bins must be at least 1, not {bins}")
    try:
        edges = np.histogram_bin_edges(np.concatenate([x, y]), bins)
    except ValueError as error:
        raise UserError(f"the numbers cannot be put into {bins} bins: {error}") from error
    p, q = (np.histogram(one, edges)[0] / len(one) for one in (x, y))
    return p, q, (edges[:-1] + edges[1:]) / 2.0


def _between(least: float, value: float, greatest: float) -> float:
    """Rounding may carry a value past its bounds by a few ulps."""
    return float(min(max(value, least), greatest))


def _relative_entropy(p: Array, q: Array) -> float:
    from scipy.special import rel_entr  # type: ignore[import-untyped,unused-ignore]

    return _between(0.0, rel_entr(p, q).sum(), math.inf)


def _distances(x: Array, y: Array) -> Array:
    """Euclidean, [N, M]."""
    from scipy.spatial.distance import cdist  # type: ignore[import-untyped,unused-ignore]

    distances: Array = cdist(x, y)
    return distances


# Kantorovich's program: the cheapest plan [N, M] >= 0 whose rows sum to p and whose columns sum to q. The last column's
# sum follows from the others.
def _cheapest_plan(p: Array, q: Array, cost: Array) -> float:
    from scipy.sparse import eye_array, kron, vstack

    leaves = kron(eye_array(len(p)), np.ones((1, len(q))))
    arrives = kron(np.ones((1, len(p))), eye_array(len(q)))
    sums = vstack([leaves, arrives]).tocsr()[:-1]
    plan = _solve(cost.ravel() / (cost.max() or 1.0), A_eq=sums, b_eq=np.concatenate([p, q])[:-1], bounds=(0.0, None))
    return float(cost.ravel() @ plan)


def _solve(cost: Array, **constraints: Any) -> Array:
    from scipy.optimize import linprog

    tolerances = {f"{side}_feasibility_tolerance": SOLVER_TOLERANCE for side in ("primal", "dual")}
    solution = linprog(cost, **constraints, method="highs", options=tolerances)
    assert solution.success, solution.message
    unknowns: Array = solution.x
    return unknowns


def _masses(p: ArrayLike, q: ArrayLike) -> tuple[Array, Array]:
    p, q = _mass("p", p), _mass("q", q)
    if len(p) != len(q):
        raise UserError(f"p has {len(p)} masses and q has {len(q)}: both must be over the same support")
    return p, q


def _mass(name: str, values: ArrayLike) -> Array:
    mass = _numbers(name, values)
    if mass.ndim != 1:
        raise UserError(f"{name} must be masses [K], not {list(mass.shape)}")
    if mass.min() < 0.0:
        raise UserError(f"{name} has negative mass: {mass.min():.9g}")
    total = float(mass.sum())
    if abs(total - 1.0) > SUM_TOLERANCE:
        raise UserError(f"{name} sums to {total:.9g}, not to 1: divide it by its sum")
    return mass / total


def _support(points: ArrayLike, count: int) -> Array:
    points = _points("points", points)
    if len(points) != count:
        raise UserError(f"there are {len(points)} points for {count} masses")
    return points


def _sets(x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    x, y = _points("x", x), _points("y", y)
    if x.shape[1] != y.shape[1]:
        raise UserError(f"x has points in {x.shape[1]} dimensions and y in {y.shape[1]}")
    return x, y


def _points(name: str, values: ArrayLike) -> Array:
    points = _numbers(name, values)
    if points.ndim not in (1, 2):
        raise UserError(f"{name} must be points [N] or [N, D], not {list(points.shape)}")
    return points.reshape(len(points), -1)


def _numbers(name: str, values: ArrayLike) -> Array:
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{name} is not an array of numbers: {error}") from error
    if numbers.size == 0:
        raise UserError(f"{name} is empty")
    if not np.isfinite(numbers).all():
        raise UserError(f"{name} has numbers that are NaN or infinite")
    return numbers
