"""Laws of "Improved Techniques for Training GANs" and neighbors: smoothing, flipping, features, history, weights."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from twoplayer.core.batch import Batch
from twoplayer.core.protocols import NeedsPreparation
from twoplayer.core.rng import Stream
from twoplayer.core.verdict import Verdict
from twoplayer.networks.semi_supervised import SemiSupervisedDiscriminator
from twoplayer.objectives.feature_matching import FeatureMatching
from twoplayer.objectives.hinge import Hinge
from twoplayer.objectives.least_squares import LeastSquares
from twoplayer.objectives.minimax import Minimax
from twoplayer.objectives.semi_supervised import SemiSupervised
from twoplayer.ops.maxout import Maxout
from twoplayer.ops.weight_norm import WeightNormLinear
from twoplayer.regularizers.historical_averaging import HistoricalAveraging, ParameterMean
from twoplayer.regularizers.slope import input_gradient
from twoplayer.regularizers.spectral_normalization import SpectralNormalization

N = 2000


def verdict(n: int = N, seed: int = 0, classes: int = 10) -> Verdict:
    draw = torch.Generator().manual_seed(seed)
    class_logits = torch.randn(n, classes, generator=draw, dtype=torch.float64)
    features = torch.randn(n, 7, generator=draw, dtype=torch.float64)
    return Verdict(class_logits.logsumexp(1), features, class_logits)


def test_one_sided_smoothing_leaves_the_target_of_fakes_at_zero() -> None:
    on = verdict()
    smooth, plain = Minimax(real_target=0.9), Minimax()
    assert torch.equal(smooth.fake_loss(on), plain.fake_loss(on))
    assert torch.equal(smooth.generator_loss(on, on), plain.generator_loss(on, on))
    expected = F.binary_cross_entropy_with_logits(on.logits, torch.full_like(on.logits, 0.9), reduction="none")
    torch.testing.assert_close(smooth.real_loss(on), expected)


def test_the_optimal_d_is_what_smoothing_says() -> None:
    """At p_data = p and p_model = q the loss is least where D = (real p + fake q) / (p + q)."""
    p, q = 0.3, 0.7
    game = Minimax(real_target=0.9, fake_target=0.1)
    best = (0.9 * p + 0.1 * q) / (p + q)
    logit = torch.tensor([math.log(best / (1 - best))], dtype=torch.float64, requires_grad=True)
    loss = p * game.real_loss(Verdict(logit)) + q * game.fake_loss(Verdict(logit))
    (slope,) = torch.autograd.grad(loss.sum(), logit)
    assert slope.abs().item() < 1e-12


def test_random_targets_lie_in_their_range_and_belong_to_a_place() -> None:
    on = verdict()
    game = Minimax(real_target=(0.8, 1.1))
    targets = game.at(Stream(0)).real_targets(on.logits)
    assert isinstance(targets, Tensor)
    assert 0.8 <= targets.min() < 0.81
    assert 1.09 < targets.max() < 1.1
    assert torch.equal(targets, game.at(Stream(0)).real_targets(on.logits))
    assert not torch.equal(targets, game.at(Stream(1)).real_targets(on.logits))
    with pytest.raises(ValueError, match="at\\(stream\\)"):
        game.real_loss(on)
    with pytest.raises(ValueError, match="smaller number"):
        Minimax(real_target=(1.0, 0.5))


def test_flipping_touches_only_the_loss_of_d_on_reals() -> None:
    on = verdict()
    plain, game = Minimax(), Minimax(flip_probability=0.35).at(Stream(3))
    assert torch.equal(game.fake_loss(on), plain.fake_loss(on))
    assert torch.equal(game.generator_loss(on, on), plain.generator_loss(on, on))
    assert torch.equal(game.probability(on), plain.probability(on))
    flipped = ~torch.isclose(game.real_loss(on), plain.real_loss(on))
    assert torch.equal(game.real_loss(on)[flipped], plain.fake_loss(on)[flipped]), "told that it is a fake"
    assert flipped.double().mean().item() == pytest.approx(0.35, abs=4 * math.sqrt(0.35 * 0.65 / N))
    assert torch.equal(game.real_loss(on), game.real_loss(on)), "the log sees the loss that was trained on"


def test_hinge_and_least_squares_in_numbers() -> None:
    real, fake = Verdict(torch.tensor([2.0, 0.5])), Verdict(torch.tensor([-3.0, 0.25]))
    assert Hinge().discriminator_loss(real, fake).tolist() == [0.0, 0.5 + 1.25]
    assert Hinge().generator_loss(real, fake).tolist() == [3.0, -0.25]
    assert LeastSquares().discriminator_loss(real, fake).tolist() == [0.5 + 4.5, 0.125 + 0.03125]
    assert LeastSquares().generator_loss(real, fake).tolist() == [8.0, 0.28125]


@pytest.mark.parametrize("distance", ["mean-squared", "mean-absolute"])
def test_feature_matching_is_zero_on_equal_batches_and_sees_only_means(distance: str) -> None:
    game = FeatureMatching(distance=distance)
    on = verdict()
    assert on.features is not None
    shuffled = Verdict(on.logits, on.features.flip(0))
    assert game.generator_loss(on, shuffled).abs().max() < (1e-25 if distance == "mean-squared" else 1e-12)
    shifted = Verdict(on.logits, on.features + 0.5)
    expected = 0.25 if distance == "mean-squared" else 0.5
    torch.testing.assert_close(game.generator_loss(on, shifted), torch.full((N,), expected, dtype=torch.float64))
    assert torch.equal(game.discriminator_loss(on, shifted), Minimax().discriminator_loss(on, shifted))


def test_the_semi_supervised_loss_is_the_softmax_over_k_plus_1_with_its_last_logit_at_zero() -> None:
    """Oracle: the game written with explicit probabilities of K classes and "fake"."""
    labeled, real, fake = (verdict(seed=seed) for seed in range(3))
    labels = torch.randint(0, 10, (N,), generator=torch.Generator().manual_seed(9))

    def probabilities(on: Verdict) -> Tensor:
        assert on.class_logits is not None
        return torch.cat([on.class_logits, torch.zeros(N, 1, dtype=torch.float64)], 1).softmax(1)

    game = SemiSupervised()
    real_term = -(1.0 - probabilities(real)[:, 10]).log()
    fake_term = -probabilities(fake)[:, 10].log()
    torch.testing.assert_close(game.discriminator_loss(real, fake), 0.5 * (real_term + fake_term))
    torch.testing.assert_close(game.probability(real), 1.0 - probabilities(real)[:, 10])
    known = probabilities(labeled)[torch.arange(N), labels] / (1.0 - probabilities(labeled)[:, 10])
    torch.testing.assert_close(game.labeled_loss(labeled, labels), -known.log())


def test_historical_averaging_settles_where_plain_play_orbits() -> None:
    """The toy game (f - 1)(y - 1): one player lowers it, the other raises it; the equilibrium is (1, 1)."""

    def distance_after(weight: float, steps: int = 1500) -> float:
        f, y = (nn.ParameterList([nn.Parameter(torch.tensor(value, dtype=torch.float64))]) for value in (3.0, 2.0))
        rule = HistoricalAveraging(weight=weight)
        memories = [rule.memory(player) for player in (f, y)]
        for _ in range(steps):
            value = (f[0] - 1.0) * (y[0] - 1.0)
            losses = (value, -value)
            slopes = [
                torch.autograd.grad(loss + rule.parameter_penalty(player, memory), player[0], retain_graph=True)[0]
                for loss, player, memory in zip(losses, (f, y), memories, strict=True)
            ]
            for player, slope, memory in zip((f, y), slopes, memories, strict=True):
                player[0].data -= 0.05 * slope
                rule.update(player, memory)
        return math.hypot(f[0].item() - 1.0, y[0].item() - 1.0)

    assert distance_after(0.0) > math.hypot(2.0, 1.0), "plain simultaneous play spirals outward"
    assert distance_after(0.1) < 0.01


def test_the_mean_of_the_past_is_the_mean() -> None:
    layer = nn.Linear(2, 1, bias=False).double()
    past = [layer.weight.detach().clone()]
    memory = ParameterMean(layer)
    for step in range(5):
        layer.weight.data += step
        past.append(layer.weight.detach().clone())
        memory.update(layer)
    torch.testing.assert_close(memory.means()[0], torch.stack(past).mean(0))


def test_data_dependent_initialization_gives_zero_mean_and_unit_variance() -> None:
    values = torch.randn(500, 20, dtype=torch.float64) * 3.0 + 5.0
    layer = WeightNormLinear(20, 30).double()
    returned = layer.initialize_from(values)
    outputs = layer(values)
    torch.testing.assert_close(returned, outputs)
    torch.testing.assert_close(outputs.mean(0), torch.zeros(30, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(outputs.var(0, correction=0), torch.ones(30, dtype=torch.float64))


def test_every_layer_of_the_semi_supervised_d_is_initialized_on_what_reaches_it() -> None:
    torch.manual_seed(0)
    network = SemiSupervisedDiscriminator(widths=(40, 30), input_noise=0.0, hidden_noise=0.0).build((1, 8, 8), 10)
    assert isinstance(network, NeedsPreparation)
    images = torch.rand(500, 1, 8, 8) * 2 - 1
    network.prepare(images)
    class_logits = network(images).class_logits
    torch.testing.assert_close(class_logits.mean(0), torch.zeros(10), atol=1e-5, rtol=0)
    torch.testing.assert_close(class_logits.var(0, correction=0), torch.ones(10))


def test_weight_norm_is_torch_s_own() -> None:
    """Oracle: torch.nn.utils.parametrizations.weight_norm with the same direction and scale."""
    torch.manual_seed(0)
    ours = WeightNormLinear(5, 3).double()
    theirs = torch.nn.utils.parametrizations.weight_norm(nn.Linear(5, 3).double())
    with torch.no_grad():
        ours.scale.uniform_(0.5, 2.0)
        ours.bias.normal_()
        theirs.bias.copy_(ours.bias)
        theirs.parametrizations.weight.original0.copy_(ours.scale[:, None])
        theirs.parametrizations.weight.original1.copy_(ours.direction)
    values = torch.randn(7, 5, dtype=torch.float64)
    torch.testing.assert_close(ours(values), theirs(values))
    ours(values).square().sum().backward()
    theirs(values).square().sum().backward()
    torch.testing.assert_close(ours.direction.grad, theirs.parametrizations.weight.original1.grad)
    torch.testing.assert_close(ours.scale.grad, theirs.parametrizations.weight.original0.grad.flatten())


def test_spectral_normalization_bounds_the_slope_of_d() -> None:
    """Layers of norm at most 1 with rectifiers between them: no input gradient is longer than 1."""

    class Judge(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Flatten(), nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 1))

        def forward(self, images: Tensor) -> Verdict:
            return Verdict(self.layers(images).flatten())

    torch.manual_seed(0)
    judge, images = Judge(), torch.randn(64, 1, 4, 4)
    for parameter in judge.parameters():
        nn.init.normal_(parameter, std=2.0)
    assert input_gradient(judge, images).flatten(1).norm(dim=1).max() > 10.0
    SpectralNormalization(power_iterations=5).attach(judge)
    for _ in range(20):
        judge(images)
    judge.eval()
    assert input_gradient(judge, images).flatten(1).norm(dim=1).max() <= 1.0 + 1e-4
    top = torch.linalg.matrix_norm(judge.layers[1].weight.detach(), 2)
    torch.testing.assert_close(top, torch.tensor(1.0), rtol=1e-4, atol=0)


def test_maxout_is_the_largest_of_its_pieces() -> None:
    torch.manual_seed(0)
    layer = Maxout(6, 4, 3)
    values = torch.randn(5, 6)
    pieces = F.linear(values, layer.linear.weight, layer.linear.bias).reshape(5, 4, 3)
    assert torch.equal(layer(values), pieces.max(2).values)


def test_a_batch_hands_over_what_a_player_takes() -> None:
    batch = Batch(torch.zeros(2, 1, 2, 2), torch.tensor([1, 0]), torch.ones(2, 3))
    assert set(batch.given(("labels", "condition"))) == {"labels", "condition"}
    assert batch.given(()) == {}
    with pytest.raises(AssertionError, match="no condition"):
        Batch(batch.images, batch.labels).given(("labels", "condition"))
