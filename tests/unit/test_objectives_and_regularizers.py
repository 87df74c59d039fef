"""Objectives and regularizers against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from tests.contract.test_catalogue import linear_judge
from twoplayer.core.batch import Batch
from twoplayer.core.rng import Stream
from twoplayer.core.verdict import Verdict
from twoplayer.objectives.minimax import Minimax
from twoplayer.objectives.wasserstein import Wasserstein
from twoplayer.regularizers.gradient_penalty import GradientPenalty
from twoplayer.regularizers.weight_clipping import WeightClipping


def says(*logits: float) -> Verdict:
    values = torch.tensor(logits, dtype=torch.float64)
    return Verdict(values, values[:, None])


def test_minimax_is_cross_entropy() -> None:
    real, fake = says(0.0, 2.0), says(0.0, -1.0)
    probability = lambda logit: 1 / (1 + math.exp(-logit))  # noqa: E731
    expected_d = [-math.log(probability(r)) - math.log(1 - probability(f)) for r, f in ((0.0, 0.0), (2.0, -1.0))]
    assert Minimax().discriminator_loss(real, fake).tolist() == pytest.approx(expected_d)
    assert expected_d[0] == pytest.approx(2 * math.log(2))
    expected_g = [-math.log(probability(f)) for f in (0.0, -1.0)]
    assert Minimax().generator_loss(real, fake).tolist() == pytest.approx(expected_g)
    saturating = Minimax(generator_objective="saturating").generator_loss(real, fake)
    assert saturating.tolist() == pytest.approx([math.log(1 - probability(f)) for f in (0.0, -1.0)])


def test_saturating_loss_has_no_slope_where_d_is_sure_and_the_other_has() -> None:
    logits = torch.tensor([-20.0], requires_grad=True)
    sure = Verdict(logits, logits[:, None])
    slopes = {}
    for name in ("saturating", "non-saturating"):
        loss = Minimax.model_validate({"name": "minimax", "generator_objective": name}).generator_loss(sure, sure)
        slopes[name] = torch.autograd.grad(loss.sum(), logits)[0].item()
    assert slopes["saturating"] == pytest.approx(0.0, abs=1e-8)
    assert slopes["non-saturating"] == pytest.approx(-1.0)


def test_wasserstein_is_the_difference_of_means() -> None:
    real, fake = says(3.0, 1.0), says(-2.0, 0.5)
    assert Wasserstein().discriminator_loss(real, fake).tolist() == [-5.0, -0.5]
    assert Wasserstein().generator_loss(real, fake).tolist() == [2.0, -0.5]


@pytest.mark.parametrize("norm", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("one_sided", [False, True])
def test_gradient_penalty_of_a_linear_discriminator(norm: float, one_sided: bool) -> None:
    """D(x) = <a, x> has slope |a| everywhere: the penalty is 10 (|a| - 1)^2, one-sided only above 1."""
    slope = torch.randn(2, 3, 3, dtype=torch.float64)
    judge = linear_judge(slope / slope.norm() * norm).double()
    real, fake = Batch(torch.randn(4, 2, 3, 3, dtype=torch.float64)), torch.randn(4, 2, 3, 3, dtype=torch.float64)
    cost = GradientPenalty(one_sided=one_sided).discriminator_penalty(judge, real, fake, Stream(0))
    expected = 0.0 if one_sided and norm < 1 else 10 * (norm - 1) ** 2
    torch.testing.assert_close(cost, torch.full((4,), expected, dtype=torch.float64))


def test_gradient_penalty_is_finite_where_the_slope_is_zero() -> None:
    judge = linear_judge(torch.zeros(1, 2, 2))
    GradientPenalty().discriminator_penalty(
        judge, Batch(torch.rand(2, 1, 2, 2)), torch.rand(2, 1, 2, 2), Stream(0)
    ).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in judge.parameters())


def test_interpolates_lie_between_real_and_fake_one_weight_per_image() -> None:
    seen: list[Tensor] = []

    class Spy(nn.Module):
        def forward(self, images: Tensor) -> Verdict:
            seen.append(images.detach())
            return Verdict(images.flatten(1).sum(1), images.flatten(1))

    real, fake = torch.zeros(500, 1, 2, 2), torch.ones(500, 1, 2, 2)
    GradientPenalty().discriminator_penalty(Spy(), Batch(real), fake, Stream(0))
    weights = seen[0].flatten(1)
    assert torch.equal(weights.amin(1), weights.amax(1)), "one weight for a whole image"
    assert 0.0 <= weights.min() < 0.02
    assert 0.98 < weights.max() < 1.0
    assert weights.mean() == pytest.approx(0.5, abs=0.05)


def test_penalty_judges_in_inference_mode_and_leaves_the_mode_as_it_was() -> None:
    modes = []

    class Spy(nn.Module):
        def forward(self, images: Tensor) -> Verdict:
            modes.append(self.training)
            return Verdict(images.flatten(1).sum(1), images.flatten(1))

    spy = Spy().train()
    for inference_mode in (True, False):
        penalty = GradientPenalty(inference_mode=inference_mode)
        penalty.discriminator_penalty(spy, Batch(torch.rand(2, 1, 2, 2)), torch.rand(2, 1, 2, 2), Stream(0))
        assert spy.training
    assert modes == [False, True]


def test_weight_clipping_clamps_and_leaves_small_weights() -> None:
    layer = nn.Linear(2, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.005, -3.0]]))
        layer.bias.fill_(0.5)
    WeightClipping(bound=0.01).project(layer)
    assert layer.weight.tolist()[0] == pytest.approx([0.005, -0.01])
    assert layer.bias.item() == pytest.approx(0.01)
