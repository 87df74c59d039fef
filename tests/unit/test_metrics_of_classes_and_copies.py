"""Metrics on class probabilities, labels, bins, pixels and copies, and what all metrics ask of their input."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from scipy.stats import chi2_contingency, mannwhitneyu, norm, wasserstein_distance
from torch import Tensor
from torch.nn.functional import one_hot

from tests.metric_inputs import grid, halved_digits, normal, of
from twoplayer.core.errors import UserError
from twoplayer.core.metric import Metric, badness
from twoplayer.core.observed import Observed, drawn, joined
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
from twoplayer.metrics.precision_recall import PrecisionRecall
from twoplayer.metrics.sliced_wasserstein import SlicedWasserstein


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


def test_modes_of_stacked_digits() -> None:
    """1,000 classes of triples; classes by the nearest mean image, so that all are near 1/1,000 and none is exact."""
    real, labels, _, _ = halved_digits()
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
