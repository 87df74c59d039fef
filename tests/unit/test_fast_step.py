"""The step through chains of layers against the plain step, in float64, over every recipe and penalty."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn

from tests.contract.test_recipes import IMAGE_SHAPES, SMALLER
from twoplayer.core.batch import Batch
from twoplayer.core.rng import Stream
from twoplayer.ops.batch_norm import BatchNorm
from twoplayer.ops.chains import pointwise
from twoplayer.ops.chains.chain import Chain, chain_of, chain_through
from twoplayer.ops.chains.link import Part, Rows, Setting
from twoplayer.ops.convolution import SameConv2d
from twoplayer.ops.gaussian_noise import GaussianNoise
from twoplayer.ops.residual import Residual
from twoplayer.recipes.load import load_recipe, parse_overrides, recipe_names
from twoplayer.regularizers import slope
from twoplayer.training.fast import fast_moves
from twoplayer.training.play import moves_of, play_step
from twoplayer.training.state import TrainingState, new_state

CHAINS = (
    "digits",
    "mnist-auto",
    "mnist-wgan-gp",
    "mnist-wgan",
    "mnist-dcgan",
    "dcgan-64",
    "flowers-dcgan",
    "mnist-tanh-gan",
)
"""Recipes whose D is a chain, and a few more are; the test below says which."""


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(autouse=True)
def same_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both steps draw from one distribution, in another order: compared with draws that hang on the place alone."""
    monkeypatch.setattr(
        nn.Dropout, "forward", lambda layer, values: values * factors(values, layer.p) if layer.training else values
    )
    monkeypatch.setattr(
        GaussianNoise, "forward", lambda layer, values: values + 0.2 * layer.std if layer.training else values
    )
    monkeypatch.setattr(pointwise, "normal_like", lambda like: torch.full_like(like, 0.2))
    monkeypatch.setattr(pointwise, "keep_factors", factors)


def factors(like: Tensor, probability: float) -> Tensor:
    """Dropout's, the same for every image: zeros and 1 / (1 - p)."""
    kept = torch.rand(like.shape[1:], generator=torch.Generator().manual_seed(5)) >= probability
    return (kept / (1.0 - probability)).to(like).expand_as(like).contiguous()


@pytest.fixture
def torch_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain step by torch's own layers."""
    monkeypatch.setattr(slope, "ClosedDerivatives", nullcontext)


def state_of(name: str, *words: str) -> tuple[TrainingState, tuple[int, int, int]]:
    recipe = load_recipe(name, parse_overrides([*SMALLER.get(name, ()), *words]))
    shape = IMAGE_SHAPES[recipe.data.source]
    if recipe.data.image_size:
        shape = (shape[0], recipe.data.image_size, recipe.data.image_size)
    return new_state(recipe, shape, 10, torch.device("cpu")), shape


def play(name: str, *words: str, fast: bool, steps: int = 3) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Weights, statistics and optimizers after a few steps, and what was reported."""
    recipe = load_recipe(name, parse_overrides([*SMALLER.get(name, ()), *words]))
    state, shape = state_of(name, *words)
    game = state.game
    object.__setattr__(game, "fast", fast)
    assert fast_moves(game)
    reports = []
    for step in range(steps):
        numbers = iter(range(10))

        def batch(step: int = step, numbers: Iterator[int] = numbers) -> Batch:
            place = Stream(7).child(step, next(numbers))
            return Batch(place.uniform((6, *shape), -1.0, 1.0))

        reports.append(play_step(recipe.play, game, batch, Stream(1).child(step)))
    return tensors_of(state), reports


def tensors_of(state: TrainingState) -> list[Tensor]:
    players = (state.game.generator, state.game.discriminator)
    return [value.detach().clone() for player in players for value in player.network.state_dict().values()]


def assert_same(name: str, *words: str) -> None:
    (fast, told), (plain, expected) = play(name, *words, fast=True), play(name, *words, fast=False)
    before = tensors_of(state_of(name, *words)[0])
    for ours, theirs, old in zip(fast, plain, before, strict=True):  # Adam divides noise by noise: relative to the move
        assert (ours - theirs).abs().max() <= 1e-7 * max(float((theirs - old).abs().max()), 1e-2)
    assert [each.keys() for each in told] == [each.keys() for each in expected]
    for ours, theirs in zip(told, expected, strict=True):
        for key in theirs:
            torch.testing.assert_close(ours[key], theirs[key], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", CHAINS)
def test_the_fast_step_is_the_plain_step(name: str) -> None:
    assert_same(name)


@pytest.mark.usefixtures("torch_alone")
@pytest.mark.parametrize("name", CHAINS)
def test_gradients_are_those_of_autograd(name: str) -> None:
    """To 1e-12 of the longest, in one step."""
    expected = gradients_after_a_step(name, fast=False)
    longest = max(float(each.norm()) for each in expected)
    for ours, theirs in zip(gradients_after_a_step(name, fast=True), expected, strict=True):
        assert float((ours - theirs).norm()) <= 1e-12 * longest


def gradients_after_a_step(name: str, *words: str, fast: bool) -> list[Tensor]:
    """Of D's first update, and of G's where it is taken at the same parameters."""
    state, shape = state_of(name, *FEWER.get(name, ()), *words)
    object.__setattr__(state.game, "fast", fast)
    real, moves = Batch(Stream(7).uniform((6, *shape), -1.0, 1.0)), moves_of(state.game)
    moves.discriminator(real, Stream(1))
    found = [parameter.grad for parameter in state.game.discriminator.parameters()]
    moves.simultaneous(real, Stream(2))
    players = (state.game.generator, state.game.discriminator)
    found += [parameter.grad for player in players for parameter in player.parameters()]
    return [each.clone() for each in found if each is not None]


PENALTIES = {
    "two-sided": "{name: gradient-penalty, weight: 10.0}",
    "one-sided": "{name: gradient-penalty, weight: 10.0, one_sided: true, target: 0.1}",
    "r1": "{name: r1, gamma: 3.0}",
    "r2": "{name: r2, gamma: 3.0}",
    "dragan": "{name: dragan, weight: 10.0}",
    "all": "{name: gradient-penalty}, {name: r1}, {name: r2}, {name: dragan}",
    "beside others": "{name: r1}, {name: historical-averaging, weight: 0.1}",
    "clipped": "{name: weight-clipping, bound: 0.05}",
    "none": "",
}


@pytest.mark.parametrize("penalties", PENALTIES)
@pytest.mark.parametrize("name", ["mnist-wgan-gp", "mnist-tanh-gan", "digits"])
def test_every_penalty(name: str, penalties: str) -> None:
    assert_same(name, f"regularizers=[{PENALTIES[penalties]}]", *FEWER.get(name, ()))


FEWER = {"mnist-wgan-gp": ("generator.n_filters=8", "discriminator.n_filters=4", "data.image_size=12")}


@pytest.mark.parametrize(
    "objective", ["hinge", "least-squares", "relativistic", "wasserstein", "feature-matching", "minimax"]
)
@pytest.mark.parametrize("play", ["simultaneous", "alternating"])
@pytest.mark.parametrize("name", ["mnist-wgan-gp", "digits"])
def test_every_objective_and_order(name: str, play: str, objective: str) -> None:
    assert_same(name, f"objective={{name: {objective}}}", f"play={{name: {play}}}", *FEWER.get(name, ()))


RESNET = (
    "generator={name: resnet, n_filters: 4}",
    "discriminator={name: resnet, n_filters: 4}",
    "latents={name: normal, dim: 8}",
)


@pytest.mark.parametrize("penalty", ["r1", "gradient-penalty"])
def test_residual_players(penalty: str) -> None:
    assert_same("mnist-wgan-gp", *RESNET, f"regularizers=[{{name: {penalty}}}]", "data.image_size=13")
    assert_same("digits", *RESNET, f"regularizers=[{{name: {penalty}}}]", "objective={name: relativistic}")


@pytest.mark.parametrize("play", ["simultaneous", "alternating"])
def test_residual_players_without_a_penalty(play: str) -> None:
    assert_same("digits", *RESNET, "regularizers=[]", f"play={{name: {play}}}")


R3GAN = (
    "generator={name: r3gan, widths: [8], blocks: [1], group_size: 4}",
    "discriminator={name: r3gan, widths: [8, 4], blocks: [1], group_size: 4}",
    "latents={name: normal, dim: 8}",
    "objective={name: relativistic}",
)


@pytest.mark.parametrize("play", ["simultaneous", "alternating"])
def test_players_without_normalization(play: str) -> None:
    words = (*R3GAN, f"play={{name: {play}}}", "regularizers=[{name: r1}, {name: r2}]")
    assert fast_moves(state_of("digits", *words)[0].game)
    assert_same("digits", *words)


@pytest.mark.parametrize(
    "words",
    [
        ("discriminator={name: r3gan, conditional: true}", "generator={name: r3gan, conditional: true}"),
        ("discriminator={name: resnet, n_filters: 4, conditional: true}",),
        ("discriminator={name: resnet, n_filters: 4, attention_side: 4}",),
    ],
)
def test_a_d_that_is_told_labels_or_attends_is_played_plainly(words: tuple[str, ...]) -> None:
    assert not fast_moves(state_of("digits", *words)[0].game)


AUGMENTATIONS = {
    "adaptive": "augmentation={name: adaptive, start: 0.6, follows: signs}",
    "diffaugment": "augmentation={name: diffaugment}",
}


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
@pytest.mark.parametrize("play", ["simultaneous", "alternating"])
@pytest.mark.parametrize("objective", ["relativistic", "wasserstein", "minimax, generator_objective: saturating"])
def test_changed_images(augmentation: str, play: str, objective: str) -> None:
    """Losses, penalties of every kind and G see through the changes, of the same draws."""
    penalties = "regularizers=[{name: r1}, {name: r2}, {name: gradient-penalty}]"
    words = (AUGMENTATIONS[augmentation], f"objective={{name: {objective}}}", f"play={{name: {play}}}", penalties)
    assert_same("digits", *words)


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_changed_colors_features_and_a_generator_that_is_no_chain(augmentation: str) -> None:
    words = (AUGMENTATIONS[augmentation], "regularizers=[{name: dragan}]", "play={name: simultaneous}")
    assert_same("stacked-mnist-rpgan", *words, "data.image_size=12", "precision=fp32")
    assert_same("digits", *words, "objective={name: feature-matching}")
    attentive = (*words, "generator={name: resnet, n_filters: 4, attention_side: 4}")
    assert chain_through(state_of("digits", *attentive)[0].game.generator.network, Setting()) is None
    assert_same("digits", *attentive)


def test_changed_images_and_gradients_of_autograd() -> None:
    """Through batch statistics, to 1e-12."""
    for words in ((), ("objective.name=relativistic", "regularizers=[{name: r1}]")):
        words = (AUGMENTATIONS["adaptive"], *words)
        expected = gradients_after_a_step("mnist-wgan-gp", *words, fast=False)
        longest = max(float(each.norm()) for each in expected)
        for ours, theirs in zip(gradients_after_a_step("mnist-wgan-gp", *words, fast=True), expected, strict=True):
            assert float((ours - theirs).norm()) <= 1e-12 * longest


def test_the_saturating_game_needs_one_way_down() -> None:
    words = ("objective={name: minimax, generator_objective: saturating}", *FEWER["mnist-wgan-gp"])
    assert load_recipe("mnist-wgan-gp", parse_overrides(words)).objective.zero_sum
    assert_same("mnist-wgan-gp", *words)


def test_a_slope_in_training_mode_is_fast_where_nothing_couples_images() -> None:
    assert_same("digits", "regularizers=[{name: r1, inference_mode: false}]")
    state, _ = state_of("mnist-wgan-gp", "regularizers.0.inference_mode=false")
    assert not fast_moves(state.game)


def test_which_recipes_are_fast() -> None:
    """What is left out is conditional, couples images, or learns from labels."""
    fast = set()
    for name in recipe_names():
        recipe = load_recipe(name, parse_overrides(SMALLER.get(name, ())))
        if not recipe.levels and fast_moves(state_of(name)[0].game):
            fast.add(name)
    assert fast == {*CHAINS, "mnist-mlp-gan", "simple-gan", "stacked-mnist-rpgan"}


def test_a_hook_makes_the_step_plain() -> None:
    """Somebody looks at what a layer makes of a batch: it has to be that layer, called with that batch."""
    state, _ = state_of("digits")
    layer = next(each for each in state.game.discriminator.network.modules() if isinstance(each, nn.Linear))
    handle = layer.register_forward_hook(lambda *_: None)
    assert not fast_moves(state.game)
    handle.remove()
    assert fast_moves(state.game)


ACTIVATIONS = [nn.LeakyReLU(0.3), nn.ReLU(), nn.Tanh(), nn.Sigmoid(), nn.Softplus(), nn.SiLU()]


def discriminator(act: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        GaussianNoise(0.0),
        SameConv2d(1, 6, 5),
        BatchNorm(6),
        act,
        nn.MaxPool2d(2),
        nn.Upsample((9, 8)),
        nn.Upsample((8, 8), mode="bilinear"),
        nn.AvgPool2d(2),
        nn.Upsample(scale_factor=2),
        SameConv2d(6, 8, 5, stride=2),
        BatchNorm(8, scale=False),
        act,
        nn.Conv2d(8, 6, 3, padding=1, groups=2),
        act,
        nn.AvgPool2d(2),
        SameConv2d(6, 6, 3),
        Residual(nn.Sequential(BatchNorm(6), act, SameConv2d(6, 5, 3), BatchNorm(5), act, SameConv2d(5, 6, 3))),
        Residual(nn.Sequential(act, SameConv2d(6, 6, 3)), nn.Conv2d(6, 6, 1)),
        Residual(nn.Sequential(nn.Dropout(0.3), SameConv2d(6, 6, 3), act, nn.Dropout(0.3))),
        Residual(nn.Sequential(SameConv2d(6, 6, 3), act, nn.Dropout(0.3), nn.Identity())),
        act,
        nn.Dropout(0.3),
        GaussianNoise(0.5),
        nn.ConvTranspose2d(6, 4, 3, stride=2, output_padding=1),
        nn.Identity(),
        act,
        nn.Flatten(),
        nn.Linear(4 * 36, 7),
        act,
        nn.Unflatten(1, (7, 1, 1)),
        nn.Conv2d(7, 1, 1),
    )


def plain_gradients(network: nn.Module, images: Tensor, seeds: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The slopes at the last third of the images, judged in inference mode, and the gradients of everything."""
    n = len(images) // 3
    answers = torch.cat([network(images[:n]).flatten(), network(images[n : 2 * n]).flatten()])
    network.eval()
    last = images[2 * n :].clone().requires_grad_()
    (slope,) = torch.autograd.grad(network(last).sum(), last, create_graph=True)
    network.train()
    penalty = (slope.flatten(1).norm(dim=1) - 1.0).square().mean()
    return slope.detach(), list(torch.autograd.grad((answers * seeds).sum() + penalty, list(network.parameters())))


def gradients_of(chain: Chain) -> dict[Tensor, Tensor]:
    found: dict[Tensor, Tensor] = {}
    for parameter, gradient in chain.gradients():
        found[parameter] = found[parameter] + gradient if parameter in found else gradient
    return found


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("act", ACTIVATIONS, ids=lambda act: type(act).__name__)
def test_a_chain_of_every_kind_of_layer(act: nn.Module, last: bool) -> None:
    torch.manual_seed(0)
    network, images, seeds, n = discriminator(act), torch.randn(9, 1, 8, 8), torch.randn(6), 3
    images = images.contiguous(memory_format=torch.channels_last) if last else images
    again = copy.deepcopy(network)
    slope, expected = plain_gradients(network, images, seeds)
    chain = chain_of([again], Setting())
    assert chain is not None
    chain.forward(images.clone(), Rows((Part(n), Part(n), Part(n, training=False, sloped=True))))
    deltas = chain.transpose(torch.cat([seeds, torch.ones(n)]), n)
    torch.testing.assert_close(deltas[n:], slope, rtol=1e-12, atol=1e-14)
    leaf = deltas[n:].clone().requires_grad_()
    (direction,) = torch.autograd.grad((leaf.flatten(1).norm(dim=1) - 1.0).square().mean(), leaf)
    chain.tangent(direction)
    found = gradients_of(chain)
    for parameter, gradient in zip(again.parameters(), expected, strict=True):
        assert (found[parameter] - gradient).abs().max() <= 1e-12
    for ours, theirs in zip(again.buffers(), network.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


def test_a_layer_that_computes_something_else_is_no_link() -> None:
    class Doubled(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return 2.0 * super().forward(input)

    assert chain_of([nn.Linear(3, 2)], Setting()) is not None
    assert chain_of([Doubled(3, 2)], Setting()) is None
    assert chain_of([nn.utils.parametrizations.spectral_norm(nn.Linear(3, 2))], Setting()) is None
    assert chain_of([nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect")], Setting()) is None
