"""Metrics against closed forms, slow and obvious programs, other libraries, and what they are there to notice."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from tests.metric_inputs import grid, halved_digits, normal, of
from twoplayer.core.metric import Metric
from twoplayer.metrics.density_coverage import DensityCoverage
from twoplayer.metrics.different_bins import DifferentBins
from twoplayer.metrics.frechet import FrechetDistance
from twoplayer.metrics.kernel_distance import KernelDistance
from twoplayer.metrics.nearest_neighbor_test import NearestNeighborTest
from twoplayer.metrics.precision_recall import PrecisionRecall
from twoplayer.ops import neighbors

EVERYTHING = KernelDistance(subset_size=10**6)
ON_FEATURES = (
    FrechetDistance(),
    EVERYTHING,
    PrecisionRecall(),
    DensityCoverage(),
    NearestNeighborTest(),
    DifferentBins(bins=20),
)


def test_of_a_set_and_itself() -> None:
    x = normal(60, 100, 0)  # fewer than dimensions: the covariance is singular
    assert of(FrechetDistance(), x, x.flip(0))["fid"] == pytest.approx(0.0, abs=1e-9)
    assert of(EVERYTHING, x, x.flip(0))["kid"] < 0.0, "unbiased, and the fakes are too near"
    assert of(PrecisionRecall(), x, x.flip(0)) == {"precision": 1.0, "recall": 1.0}
    assert of(DensityCoverage(k=5), x, x.flip(0)) == {"density": pytest.approx(6 / 5), "coverage": 1.0}
    assert set(of(NearestNeighborTest(), x, x.flip(0)).values()) == {0.0}, "each one's nearest is its copy"
    assert set(of(DifferentBins(bins=20), x, x.flip(0)).values()) == {0.0}


def test_both_sets_may_change_places() -> None:
    x, y = normal(80, 6, 0), normal(80, 6, 1, mean=0.4, scale=0.8)
    for metric in (FrechetDistance(), EVERYTHING):
        assert of(metric, x, y) == pytest.approx(of(metric, y, x), rel=1e-9)
    there, back = of(PrecisionRecall(), x, y), of(PrecisionRecall(), y, x)
    assert (there["precision"], there["recall"]) == (back["recall"], back["precision"])
    there, back = of(NearestNeighborTest(), x, y), of(NearestNeighborTest(), y, x)
    assert there["nearest-neighbor"] == back["nearest-neighbor"]
    assert there["nearest-neighbor-real"] == back["nearest-neighbor-fake"]


@pytest.mark.parametrize("metric", ON_FEATURES, ids=lambda metric: metric.name)
def test_rotations_change_nothing(metric: Metric) -> None:
    x, y = normal(150, 8, 0), normal(150, 8, 1, mean=0.3)
    turn = torch.linalg.qr(normal(8, 8, 2)).Q
    assert of(metric, x @ turn, y @ turn) == pytest.approx(of(metric, x, y), rel=1e-8)


@pytest.mark.parametrize("metric", ON_FEATURES, ids=lambda metric: metric.name)
def test_constant_features_are_equal_features(metric: Metric) -> None:
    x = torch.full((40, 7), 0.1)
    figures = of(metric, x, x[:30])
    ideal = {"precision": 1.0, "recall": 1.0, "density": 40 / 5, "coverage": 1.0}
    half = dict.fromkeys(("nearest-neighbor", "nearest-neighbor-real", "nearest-neighbor-fake"), 0.5)
    assert figures == pytest.approx({name: (ideal | half).get(name, 0.0) for name in figures}, abs=1e-12)


# --- neighbors, against programs that do it one by one


def slowly(real: Tensor, fake: Tensor, k: int) -> dict[str, float]:
    """Precision, recall, density, coverage and the neighbor test by their definitions, in exact integers."""

    def apart(x: Tensor, y: Tensor) -> Tensor:
        return (x[:, None] - y[None]).long().square().sum(-1)

    def radii(x: Tensor, k: int) -> Tensor:
        return torch.stack([row[torch.arange(len(x)) != i].sort().values[k - 1] for i, row in enumerate(apart(x, x))])

    def told(own: Tensor, other: Tensor) -> float:
        home, away = radii(own, 1), apart(own, other).min(1).values
        return float(((home < away) + 0.5 * (home == away)).double().mean())

    cross = apart(fake, real)
    in_real, in_fake = cross <= radii(real, k), cross <= radii(fake, k)[:, None]
    return {
        "precision": float(in_real.any(1).double().mean()),
        "recall": float(in_fake.any(0).double().mean()),
        "density": float(in_real.double().sum() / (k * len(fake))),
        "coverage": float(in_real.any(0).double().mean()),
        "nearest-neighbor": (told(real, fake) + told(fake, real)) / 2,
        "nearest-neighbor-real": told(real, fake),
        "nearest-neighbor-fake": told(fake, real),
    }


@pytest.mark.parametrize("block", [1, 1000, neighbors.BLOCK])
@pytest.mark.parametrize("offset", [0.0, 1000.1])
def test_neighbors_with_many_ties(block: int, offset: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the block that distances come in nor the rounding of a far origin tips what is exactly equal."""
    monkeypatch.setattr(neighbors, "BLOCK", block)
    real, fake = grid(70, 0), grid(70, 1) + 1.0
    expected = slowly(real, fake, 3)
    for metric in (PrecisionRecall(k=3), DensityCoverage(k=3), NearestNeighborTest()):
        for name, value in of(metric, (real + offset) / 3.0, (fake + offset) / 3.0).items():
            assert value == pytest.approx(expected[name], abs=1e-12), name


def test_precision_and_recall_tell_quality_from_variety() -> None:
    broad, narrow = normal(400, 4, 0), normal(400, 4, 1, scale=0.1)
    collapsed, scattered = of(PrecisionRecall(), broad, narrow), of(PrecisionRecall(), narrow, broad)
    assert collapsed["precision"] > 0.95 > 0.05 > collapsed["recall"]
    assert scattered["recall"] > 0.95 > 0.05 > scattered["precision"]
    collapsed = of(DensityCoverage(), broad, narrow)
    assert collapsed["density"] > 1.0 > 0.2 > collapsed["coverage"]


def test_an_outlier_spoils_precision_and_leaves_density_alone() -> None:
    """Naeem et al. 2020, figure 1: wide balls around real outliers overestimate the manifold."""
    outliers, fakes = normal(5, 4, 2, scale=8.0), normal(200, 4, 1, mean=4.0)
    clean, spoilt = normal(200, 4, 0), torch.cat([normal(195, 4, 0), outliers])
    assert of(PrecisionRecall(), spoilt, fakes)["precision"] > of(PrecisionRecall(), clean, fakes)["precision"] + 0.5
    assert of(DensityCoverage(), spoilt, fakes)["density"] < 0.5


def test_density_coverage_and_the_neighbor_test_of_equal_distributions() -> None:
    results = [
        of(metric, normal(300, 3, seed), normal(300, 3, seed + 100))
        for seed in range(8)
        for metric in (DensityCoverage(), NearestNeighborTest())
    ]
    mean = {name: np.mean([r[name] for r in results if name in r]) for r in results[:2] for name in r}
    assert mean["density"] == pytest.approx(1.0, abs=0.04)
    assert mean["coverage"] == pytest.approx(1 - 2.0**-5, abs=0.01)
    assert mean["nearest-neighbor"] == pytest.approx(0.5, abs=0.03)


def test_the_neighbor_test_cuts_the_larger_set() -> None:
    """Else most neighbors would be of the larger set, whatever it is."""
    unequal = of(NearestNeighborTest(), normal(300, 3, 0), normal(2000, 3, 1))
    assert list(unequal.values()) == pytest.approx([0.5] * 3, abs=0.1)


def test_the_neighbor_test_tells_apart_what_is_apart() -> None:
    x = normal(200, 5, 0)
    assert min(of(NearestNeighborTest(), x, normal(500, 5, 1, mean=5.0)).values()) > 0.98
    little_variety = of(NearestNeighborTest(), normal(200, 50, 0), normal(200, 50, 1, scale=0.4))
    assert little_variety["nearest-neighbor-real"] < 0.02 < 0.98 < little_variety["nearest-neighbor-fake"]


# --- Frechet and kernel distance


@pytest.mark.parametrize(("mean", "scale"), [(0.0, 1.0), (0.5, 1.0), (0.0, 1.5), (-0.3, 0.7)])
def test_frechet_distance_of_normal_distributions(mean: float, scale: float) -> None:
    """|m|^2 + d (s - 1)^2 and the bias d (d + 5) / (2 N), whose covariance part grows with both variances."""
    d, n = 10, 4000
    values = [of(FrechetDistance(), normal(n, d, i), normal(n, d, i + 50, mean, scale))["fid"] for i in range(5)]
    bias = d * (1 + scale**2) / n + d * (d + 1) * scale / (2 * n)
    if scale == 1.0:
        assert bias == pytest.approx(d * (d + 5) / (2 * n))
    assert np.mean(values) == pytest.approx(d * mean**2 + d * (scale - 1) ** 2 + bias, rel=0.1, abs=2e-3)


def test_kernel_distance_has_no_bias_and_frechet_has() -> None:
    pairs = [(normal(100, 8, i), normal(100, 8, i + 1000)) for i in range(60)]
    values = np.array([of(EVERYTHING, *pair)["kid"] for pair in pairs])
    assert abs(values.mean()) < 3 * values.std(ddof=1) / math.sqrt(len(pairs))
    assert min(of(FrechetDistance(), *pair)["fid"] for pair in pairs[:5]) > 0.3


def test_kernel_distance_by_its_definition() -> None:
    x, y = normal(7, 3, 0), normal(9, 3, 1)

    def k(a: Tensor, b: Tensor) -> float:
        return float((a @ b / 3 + 1) ** 3)

    def mean_of_pairs(z: Tensor) -> float:
        return float(np.mean([k(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if i != j]))

    across = float(np.mean([k(a, b) for a in x for b in y]))
    one = KernelDistance(subsets=3, subset_size=7)
    expected = mean_of_pairs(x) + mean_of_pairs(y) - 2 * across
    assert of(KernelDistance(subsets=500, subset_size=7), x, y)["kid"] == pytest.approx(expected, abs=0.15)
    small = of(one, x, y[:7])
    assert small["kid-deviation"] == 0.0, "everything, once"
    assert small["kid"] == pytest.approx(
        mean_of_pairs(x) + mean_of_pairs(y[:7]) - 2 * np.mean([[k(a, b) for b in y[:7]] for a in x])
    )
    assert of(one, x, y)["kid-deviation"] > 0.0
    assert of(one, x, y, seed=1) != of(one, x, y)


@pytest.mark.parametrize(
    ("metric", "kept"),
    [
        (FrechetDistance(), range(10, 0, -1)),
        (EVERYTHING, (10, 8, 6, 4, 2, 1)),  # one class more can bring the means a little nearer again
    ],
    ids=("frechet", "kernel-distance"),
)
def test_worse_digits_are_farther(metric: Metric, kept: Sequence[int]) -> None:
    real, _, fake, labels = halved_digits()
    images = fake.reshape(-1, 8, 8).numpy()
    blurred = [torch.from_numpy(gaussian_filter(images, (0, s, s))).flatten(1) for s in (0.0, 0.4, 0.6, 0.8, 1.2, 2.0)]
    noisy = [fake + s * normal(*fake.shape, seed=5) for s in (0.0, 0.05, 0.1, 0.2, 0.4, 0.8)]
    fewer = [fake[labels < classes] for classes in kept]
    for name, sets in (("blur", blurred), ("noise", noisy), ("dropped classes", fewer)):
        values = [of(metric, real, worse)[next(iter(metric.better))] for worse in sets]
        assert values == sorted(set(values)), name


# --- class probabilities
