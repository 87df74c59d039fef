"""The same features give the same figures as in torchmetrics."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore as TheirInceptionScore
from torchmetrics.image.kid import KernelInceptionDistance, poly_mmd

from twoplayer.core.observed import Observed
from twoplayer.core.rng import Stream
from twoplayer.metrics.frechet import FrechetDistance
from twoplayer.metrics.inception_score import InceptionScore
from twoplayer.metrics.kernel_distance import KernelDistance, discrepancy

D, CLOSE = 24, 1e-4


class Given(nn.Module):
    """An extractor to whom the features are given."""

    num_features = D

    def forward(self, features: Tensor) -> Tensor:
        return features


def features(seed: int, n: int = 300, shift: float = 0.0) -> Tensor:
    mix = Stream(9).normal((D, D)) / math.sqrt(D)
    return (Stream(seed).normal((n, D)) + shift) @ mix


def observed(rows: Tensor) -> Observed:
    return Observed(features=rows)


@pytest.mark.parametrize(("seed", "n", "shift"), [(1, 300, 0.0), (2, 500, 0.3), (3, 200, -1.0)])
def test_frechet_distance(seed: int, n: int, shift: float) -> None:
    real, fake = features(0), features(seed, n, shift)
    theirs = FrechetInceptionDistance(feature=Given()).set_dtype(torch.float64)
    theirs.update(real.double(), real=True)
    for part in fake.double().split(70):
        theirs.update(part, real=False)
    ours = FrechetDistance().measure(observed(real), observed(fake), Stream(0))
    assert ours["fid"] == pytest.approx(float(theirs.compute()), rel=CLOSE)


@pytest.mark.filterwarnings("ignore:Metric .* will save all extracted features")
def test_kernel_distance() -> None:
    real, fake = features(0), features(1, shift=0.3)
    theirs = KernelInceptionDistance(feature=Given(), subsets=4, subset_size=300).set_dtype(torch.float64)
    theirs.update(real.double(), real=True)
    theirs.update(fake.double(), real=False)
    ours = KernelDistance(subset_size=300).measure(observed(real), observed(fake), Stream(0))
    mean, deviation = theirs.compute()
    assert ours["kid"] == pytest.approx(float(mean), rel=CLOSE)
    assert ours["kid-deviation"] == pytest.approx(float(deviation), abs=1e-9)


@pytest.mark.filterwarnings("ignore:Metric .* will save all extracted features")
def test_kernel_distance_of_subsets() -> None:
    """The same formula on each subset, and means over subsets whose difference is chance."""
    real, fake = features(0).double(), features(1, 400, shift=0.3).double()
    assert discrepancy(real[:50], fake[:50]) == pytest.approx(float(poly_mmd(real[:50], fake[:50])), rel=CLOSE)
    theirs = KernelInceptionDistance(feature=Given(), subsets=100, subset_size=50).set_dtype(torch.float64)
    theirs.update(real, real=True)
    theirs.update(fake, real=False)
    torch.manual_seed(0)
    mean, deviation = map(float, theirs.compute())
    ours = KernelDistance(subsets=100, subset_size=50).measure(observed(real), observed(fake), Stream(0))
    assert ours["kid"] == pytest.approx(mean, abs=4 * deviation / math.sqrt(50))
    assert ours["kid-deviation"] == pytest.approx(deviation, rel=0.3)


@pytest.mark.filterwarnings("ignore:Metric .* will save all extracted features", "ignore:std")
@pytest.mark.parametrize("splits", [1, 10])
def test_inception_score(splits: int) -> None:
    """Theirs shuffles first, and its deviation is that of a sample of splits."""
    logits = features(4).double()
    theirs = TheirInceptionScore(feature=Given(), splits=splits).set_dtype(torch.float64)
    theirs.update(logits)
    torch.manual_seed(0)
    mean, deviation = map(float, theirs.compute())
    torch.manual_seed(0)
    shuffled = logits[torch.randperm(len(logits))]
    ours = InceptionScore(splits=splits).measure(Observed(), Observed(probabilities=shuffled.softmax(1)), Stream(0))
    assert ours["inception-score"] == pytest.approx(mean, rel=CLOSE)
    if splits > 1:
        expected = deviation * math.sqrt((splits - 1) / splits)
        assert ours["inception-score-deviation"] == pytest.approx(expected, rel=CLOSE)
