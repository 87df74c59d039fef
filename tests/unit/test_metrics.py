"""Metrics against closed forms, slow and obvious programs, other libraries, and what they are there to notice."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import chi2_contingency, mannwhitneyu, norm, wasserstein_distance
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn.functional import one_hot

from twoplayer.core.errors import UserError
from twoplayer.core.observed import Observed, drawn, joined
from twoplayer.core.protocols import Metric, badness
from twoplayer.core.rng import Stream
from twoplayer.metrics.class_agreement import ClassAgreement
from twoplayer.metrics.density_coverage import DensityCoverage
from twoplayer.metrics.different_bins import DifferentBins, different
from twoplayer.metrics.distances import jensen_shannon, kullback_leibler
from twoplayer.metrics.frechet import FrechetDistance
from twoplayer.metrics.inception_score import InceptionScore
from twoplayer.metrics.kernel_distance import KernelDistance
from twoplayer.metrics.memorization import Memorization, mann_whitney_z, memorization
from twoplayer.metrics.modes import Modes, class_shares
from twoplayer.metrics.nearest_neighbor_test import NearestNeighborTest
from twoplayer.metrics.precision_recall import PrecisionRecall
from twoplayer.metrics.sliced_wasserstein import SlicedWasserstein
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


def of(metric: Metric, real: Tensor, fake: Tensor, seed: int = 0) -> dict[str, float]:
    return metric.measure(Observed(features=real), Observed(features=fake), Stream(seed))


def normal(n: int, d: int, seed: int, mean: float = 0.0, scale: float = 1.0) -> Tensor:
    return Stream(seed).normal((n, d), like=torch.empty(0, dtype=torch.float64)) * scale + mean


def grid(n: int, seed: int) -> Tensor:
    """Points of a small grid: many equal ones, and many equal distances."""
    return Stream(seed).uniform((n, 3), 0, 4).floor().double()


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pixels of scikit-learn's digits as features [N, 64], 0 to 1, in two halves, each with its labels."""
    data, order = load_digits(), Stream(0).permutation(1797)
    pixels, labels = torch.from_numpy(data.data)[order] / 16.0, torch.from_numpy(data.target)[order]
    return pixels[:898], labels[:898], pixels[898:1796], labels[898:1796]


# --- laws of all metrics on features


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
def test_worse_digits_are_farther(
    metric: Metric, kept: Sequence[int], digits: tuple[Tensor, Tensor, Tensor, Tensor]
) -> None:
    real, _, fake, labels = digits
    images = fake.reshape(-1, 8, 8).numpy()
    blurred = [torch.from_numpy(gaussian_filter(images, (0, s, s))).flatten(1) for s in (0.0, 0.4, 0.6, 0.8, 1.2, 2.0)]
    noisy = [fake + s * normal(*fake.shape, seed=5) for s in (0.0, 0.05, 0.1, 0.2, 0.4, 0.8)]
    fewer = [fake[labels < classes] for classes in kept]
    for name, sets in (("blur", blurred), ("noise", noisy), ("dropped classes", fewer)):
        values = [of(metric, real, worse)[next(iter(metric.better))] for worse in sets]
        assert values == sorted(set(values)), name


# --- class probabilities


def probabilities(metric: Metric, fake: Tensor, real: Tensor | None = None) -> dict[str, float]:
    return metric.measure(Observed(probabilities=real), Observed(probabilities=fake), Stream(0))


def test_inception_score_between_its_bounds() -> None:
    one_hot_rows = one_hot(torch.arange(200) % 8, 8).double()
    for rows, score in ((torch.full((200, 8), 1 / 8), 1.0), (one_hot_rows, 8.0), (one_hot_rows[:1].expand(50, 8), 1.0)):
        figures = probabilities(InceptionScore(splits=5), rows)
        assert figures["inception-score"] == pytest.approx(score)
        assert figures["inception-score-deviation"] == pytest.approx(0.0, abs=1e-9)


def test_inception_score_of_a_number_that_is_no_multiple_of_the_splits() -> None:
    rows = (2 * normal(23, 4, 0)).softmax(1)
    parts = np.split(rows.numpy(), [23 * i // 10 for i in range(1, 10)])
    assert sorted({len(part) for part in parts}) == [2, 3]
    scores = [np.exp(np.mean([kullback_leibler(row, part.mean(0)) for row in part])) for part in parts]
    figures = probabilities(InceptionScore(), rows)
    assert figures["inception-score"] == pytest.approx(np.mean(scores))
    assert figures["inception-score-deviation"] == pytest.approx(np.std(scores))
    with pytest.raises(UserError, match="needs at least 10 fake images, there are 9"):
        probabilities(InceptionScore(), rows[:9])


def test_class_agreement_counts() -> None:
    rows, asked = one_hot(torch.tensor([0, 1, 2, 2]), 3).double(), torch.tensor([0, 1, 2, 0])
    fake = Observed(probabilities=rows, labels=asked)
    assert ClassAgreement().measure(Observed(), fake, Stream(0)) == {"class-agreement": 0.75}


def test_modes_by_hand() -> None:
    real, fake = one_hot(torch.tensor([0, 0, 1, 2]), 4).double(), one_hot(torch.tensor([0, 1, 1, 1]), 4).double()
    expected = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.25)
    assert probabilities(Modes(), fake, real) == {"modes": 2.0, "modes-kl": pytest.approx(expected)}
    assert probabilities(Modes(), real, real) == {"modes": 3.0, "modes-kl": 0.0}
    assert probabilities(Modes(), real, fake)["modes-kl"] == math.inf, "class 2 is not among the real ones"
    assert class_shares(fake).tolist() == [0.25, 0.75, 0.0, 0.0]


def test_modes_of_stacked_digits(digits: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    """1,000 classes of triples; classes by the nearest mean image, so that all are near 1/1,000 and none is exact."""
    real, labels, _, _ = digits
    means = torch.stack([real[labels == digit].mean(0) for digit in range(10)])
    alone = (-4.0 * torch.cdist(real, means)).softmax(1)

    def triples(name: str, part: int, same: bool = False) -> Observed:
        which = (Stream(0).child(name, part).uniform((1000, 1 if same else 3)) * len(alone)).long().expand(1000, 3)
        one, two, three = (alone[column] for column in which.T)
        return Observed(probabilities=torch.einsum("ni,nj,nk->nijk", one, two, three).flatten(1))

    independent, gray = Modes().start(), Modes().start()
    for part in range(15):
        for measurement in (independent, gray):
            measurement.update(triples("real", part), real=True)
        independent.update(triples("fake", part), real=False)
        gray.update(triples("gray", part, same=True), real=False)
    fresh = independent.compute(Stream(0))
    assert fresh["modes"] >= 998
    assert fresh["modes-kl"] == pytest.approx(1000 / 2 * (2 / 15000), rel=0.15), "what chance alone makes"
    named = alone.argmax(1)
    shares = np.array([count for _, count in sorted(Counter(named.tolist()).items())]) / len(named)
    all_same = gray.compute(Stream(0))
    assert all_same["modes"] == 10
    assert all_same["modes-kl"] == pytest.approx(-2 * (shares * np.log(shares)).sum(), rel=0.03)


# --- bins


def test_two_proportions_differ_when_the_chi_squared_test_says_so() -> None:
    one, other = np.array([30.0, 5.0, 100.0, 65.0, 0.0]), np.array([60.0, 16.0, 190.0, 110.0, 24.0])
    n, m = one.sum(), other.sum()
    tables = [[[a, n - a], [b, m - b]] for a, b in zip(one, other, strict=True)]
    for significance in (0.05, 0.3):
        expected = [chi2_contingency(table, correction=False).pvalue < significance for table in tables]
        assert different(one, other, significance).tolist() == expected
        assert True in expected
        assert False in expected


def test_equal_distributions_differ_in_as_many_bins_as_chance_allows() -> None:
    metric = DifferentBins(bins=50)
    figures = [of(metric, normal(1500, 2, seed), normal(1500, 2, seed + 100), seed) for seed in range(6)]
    assert 0.02 < np.mean([one["ndb"] for one in figures]) < 0.09
    shifted = of(metric, normal(1500, 2, 0), normal(1500, 2, 1, mean=1.0))
    assert shifted["ndb"] > 0.5
    assert shifted["ndb-js"] > 10 * figures[0]["ndb-js"]


def test_bins_of_separate_clusters_are_the_clusters() -> None:
    places = torch.tensor([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0], [9.0, 9.0]])
    real, fake = torch.arange(400) % 4, torch.cat([torch.zeros(200), torch.ones(200)]).long()
    x, y = (places[which] + 0.1 * normal(400, 2, 3) for which in (real, fake))
    figures = of(DifferentBins(bins=4), x, y)
    assert figures["ndb"] == 1.0
    assert figures["ndb-js"] == pytest.approx(jensen_shannon([0.25] * 4, [0.5, 0.5, 0.0, 0.0]))


def test_bins_of_pixels_are_those_of_the_same_numbers_as_features() -> None:
    pixels = [Stream(seed).uniform((120, 3, 2, 2), 0, top).to(torch.uint8) for seed, top in ((0, 255), (1, 200))]
    on_pixels = DifferentBins(bins=10, view="pixels").measure(*(Observed(p) for p in pixels), Stream(0))
    assert on_pixels == of(DifferentBins(bins=10), *(p.flatten(1) for p in pixels))


# --- memorization


def test_fresh_fakes_are_no_copies_whatever_the_sizes() -> None:
    for n_train, n_held_out in ((600, 200), (200, 200), (150, 450)):
        results = [
            memorization(normal(n_train, 3, seed), normal(n_held_out, 3, seed + 50), normal(300, 3, seed + 99))
            for seed in range(5)
        ]
        assert np.mean([result.nearer_to_train for result in results]) == pytest.approx(0.5, abs=0.05)
        assert np.mean([result.distance_ratio for result in results]) == pytest.approx(1.0, abs=0.1)
        assert abs(np.mean([result.copying_z for result in results])) < 3 / math.sqrt(5)


def test_copies_are_flagged() -> None:
    train, held_out = normal(600, 6, 0), normal(200, 6, 1)
    exact = memorization(train, held_out, train[:300].float())
    assert (exact.nearer_to_train, exact.copying_z < -15) == (1.0, True)
    assert exact.distance_ratio < 1e-6
    some = memorization(train, held_out, torch.cat([train[:100] + 0.01 * normal(100, 6, 2), normal(200, 6, 3)]))
    assert some.copying_z < -5
    assert some.nearer_to_train > 0.55
    apart = memorization(train, held_out, normal(300, 6, 2, mean=3.0))
    assert apart.copying_z > 5
    assert apart.distance_ratio > 2
    constant = torch.full((30, 4), 0.3)
    assert memorization(constant, constant[:10], constant[:20]) == Memorization(pytest.approx(0.5), 1.0, 0.0)
    with pytest.raises(UserError, match="no held-out ones"):
        memorization(train, held_out[:0], train)


def test_mann_whitney_z_is_scipy_s() -> None:
    for one, other in ((normal(40, 1, 0), normal(60, 1, 1, mean=0.5)), (grid(30, 0)[:, :1], grid(50, 1)[:, :1] + 1)):
        x, y = one.flatten().numpy(), other.flatten().numpy()
        expected = mannwhitneyu(x, y, use_continuity=False, method="asymptotic").pvalue
        assert mann_whitney_z(x, y) == pytest.approx(-norm.isf(expected / 2))
        assert mann_whitney_z(y, x) == pytest.approx(norm.isf(expected / 2))


# --- sliced Wasserstein distance


def sliced(real: Tensor, fake: Tensor, directions: int = 256) -> float:
    figures = SlicedWasserstein(directions=directions).measure(Observed(real), Observed(fake), Stream(0))
    return figures["sliced-wasserstein"]


@pytest.mark.parametrize("channels", [1, 3])
def test_sliced_wasserstein_in_gray_and_color(channels: int) -> None:
    real = Stream(0).uniform((90, channels, 8, 8), 0, 200).to(torch.uint8)
    assert sliced(real, real.flip(0)) == pytest.approx(0.0, abs=1e-12)
    for shift in (10, 50):  # along a direction u the shift is s <1, u>, and E <1, u>^2 = 1
        assert sliced(real, real + shift, 4096) == pytest.approx(shift / 127.5, rel=0.05)
    darker = [sliced(real, real // divisor) for divisor in (2, 4, 16)]
    assert 0 < darker[0] < darker[1] < darker[2]
    assert sliced(real, real[:50]) == sliced(real[:50], real[:50]), "the larger set is cut"
    if channels == 3:
        assert sliced(real, (real // 8) + torch.tensor([0, 90, 180], dtype=torch.uint8).reshape(1, 3, 1, 1)) > 0.5


def test_sliced_wasserstein_of_one_pixel_is_the_wasserstein_distance() -> None:
    real, fake = (Stream(seed).uniform((50, 1, 1, 1), 0, 256).to(torch.uint8) for seed in (0, 1))
    x, y = (pixels.flatten().double() / 127.5 for pixels in (real, fake))
    assert sliced(real, fake) == pytest.approx(float((x.sort().values - y.sort().values).square().mean().sqrt()))
    lighter = (fake // 2 + 128).clamp_min(real.max())  # all above: then the mean gap is the 1-Wasserstein distance
    assert sliced(real, lighter) >= wasserstein_distance(x, lighter.flatten().double() / 127.5)


# --- the interface


def test_figures_are_ranked() -> None:
    assert sorted([0.9, 0.2, 0.4], key=lambda value: badness("half", value)) == [0.4, 0.2, 0.9]
    assert max([1.0, 3.0], key=lambda value: badness("lower", value)) == 3.0
    assert max([1.0, 3.0], key=lambda value: badness("higher", value)) == 1.0


def test_too_few_images_are_refused_by_what_is_needed() -> None:
    x = normal(4, 2, 0)
    for metric, real, fake, message in (
        (PrecisionRecall(k=4), x, x, "at least 5 real images, there are 4"),
        (PrecisionRecall(), x, x[:3], "at least 4 fake images, there are 3"),
        (DensityCoverage(), x, x, "at least 6 real images"),
        (DifferentBins(bins=5), x, x, "at least 5 real images"),
        (FrechetDistance(), x, x[:1], "at least 2 fake images, there are 1"),
        (KernelDistance(), x[:1], x, "at least 2 real images"),
    ):
        with pytest.raises(UserError, match=message):
            of(metric, real, fake)


def test_what_is_seen_is_sound() -> None:
    with pytest.raises(AssertionError, match="different numbers"):
        Observed(features=torch.zeros(3, 2), labels=torch.zeros(2))
    with pytest.raises(AssertionError, match="needs probabilities"):
        Observed(features=torch.zeros(3, 2)).see("probabilities")
    with pytest.raises(AssertionError, match="NaN"):
        of(FrechetDistance(), torch.full((3, 2), torch.nan), torch.zeros(3, 2))
    with pytest.raises(AssertionError, match="do not sum to 1"):
        probabilities(InceptionScore(), torch.zeros(20, 3))


def test_images_are_joined_cut_and_drawn() -> None:
    whole = Observed(features=torch.arange(6.0)[:, None], labels=torch.arange(6))
    again = joined([whole[:2], whole[torch.tensor([2, 3])], whole[4:]])
    assert torch.equal(again.see("features"), whole.see("features"))
    assert torch.equal(again.see("labels"), whole.see("labels"))
    assert len(joined([])) == 0
    some = drawn(torch.arange(50), 20, Stream(0))
    assert len(set(some.tolist())) == 20
    assert not torch.equal(some, drawn(torch.arange(50), 20, Stream(1)))
    assert torch.equal(drawn(torch.arange(5), 5, Stream(0)), torch.arange(5))
