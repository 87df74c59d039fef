"""The auxiliary classifier: gradients against the closed form of a linear D, who can play with it, what it teaches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn import functional as F

import twoplayer as tp
from tests.contract.test_catalogue import assert_every_parameter_learns_soon, each
from twoplayer.core.batch import Batch, to_float
from twoplayer.core.errors import UserError
from twoplayer.core.protocols import DiscriminatorNetwork, Regularizer
from twoplayer.core.rng import Stream
from twoplayer.core.verdict import Verdict
from twoplayer.data.digits import DigitsSource
from twoplayer.data.form import Form
from twoplayer.latents.normal import NormalLatents
from twoplayer.objectives.wasserstein import Wasserstein
from twoplayer.recipes.load import load_recipe, parse_overrides
from twoplayer.recipes.schema import Recipe
from twoplayer.regularizers.auxiliary_classifier import AuxiliaryClassifier
from twoplayer.regularizers.r1 import R1
from twoplayer.training.fast import fast_moves
from twoplayer.training.play import moves_of, play_step
from twoplayer.training.state import TrainingState, new_state
from twoplayer.training.step import Game, Player

N, DIM, CLASSES = 5, 3, 4
WEIGHTS = AuxiliaryClassifier(discriminator_weight=0.7, generator_weight=0.3)


class LinearDiscriminator(nn.Module):
    """logit = <u, x>, class logits = W x + b."""

    def __init__(self) -> None:
        super().__init__()
        self.to_logit = nn.Linear(DIM, 1, bias=False)
        self.to_classes = nn.Linear(DIM, CLASSES)

    def forward(self, images: Tensor) -> Verdict:
        values = images.flatten(1)
        return Verdict(self.to_logit(values).flatten(), values, self.to_classes(values))


class LinearGenerator(nn.Module):
    """x = A z; what it is told it has no use for."""

    def __init__(self) -> None:
        super().__init__()
        self.to_image = nn.Linear(2, DIM, bias=False)

    def forward(self, latents: Tensor, *, labels: Tensor) -> Tensor:
        images: Tensor = self.to_image(latents)
        return images.view(-1, DIM, 1, 1)


def game_of(*rules: Regularizer) -> Game:
    torch.manual_seed(0)
    generator, discriminator = LinearGenerator().double(), LinearDiscriminator().double()
    players = [
        Player(generator, torch.optim.SGD(generator.parameters(), 1.0), ("labels",)),
        Player(discriminator, torch.optim.SGD(discriminator.parameters(), 1.0), judges_alone=True),
    ]
    return Game(players[0], players[1], Wasserstein(), rules, NormalLatents(dim=2))


def batch() -> Batch:
    images = Stream(1).normal((N, DIM, 1, 1), like=torch.empty(0, dtype=torch.float64))
    return Batch(images, torch.tensor([3, 0, 1, 1, 2]))


def errors(network: LinearDiscriminator, images: Tensor, labels: Tensor) -> Tensor:
    """softmax(W x + b) - one-hot label, [N, K]: the derivative of a cross entropy in the class logits."""
    with torch.no_grad():
        return network.to_classes(images.flatten(1)).softmax(1) - torch.eye(CLASSES).double()[labels]


@pytest.mark.parametrize("learn_from_fakes", [True, False])
@pytest.mark.parametrize("other", [None, R1(gamma=2.0)])
def test_gradients_are_the_closed_form(*, learn_from_fakes: bool, other: R1 | None) -> None:
    """dW = w mean_i (p_i - y_i) x_i^T over reals and fakes; dA = mean_i (w_G W^T (p_i - y_i) - u) z_i^T."""
    rule = WEIGHTS.model_copy(update={"learn_from_fakes": learn_from_fakes})
    game, real, place = game_of(rule, *([other] if other else [])), batch(), Stream(2)
    labels = real.labels
    assert labels is not None
    generator, discriminator = game.generator.network, game.discriminator.network
    assert isinstance(generator, LinearGenerator)
    assert isinstance(discriminator, LinearDiscriminator)
    z = game.latents.draw(N, place.child("latents"), real.images)
    fake = generator(z, labels=labels).detach()
    report = moves_of(game).simultaneous(real, place)

    parts = [real.images, fake] if learn_from_fakes else [real.images]
    of_weight = sum(errors(discriminator, x, labels).T @ x.flatten(1) for x in parts) * 0.7 / N
    of_bias = sum(errors(discriminator, x, labels).sum(0) for x in parts) * 0.7 / N
    torch.testing.assert_close(discriminator.to_classes.weight.grad, of_weight)
    torch.testing.assert_close(discriminator.to_classes.bias.grad, of_bias)
    u = discriminator.to_logit.weight.detach()
    of_logit = (fake - real.images).mean(0).view(1, -1) + (2.0 * u if other else 0.0)
    torch.testing.assert_close(discriminator.to_logit.weight.grad, of_logit)
    of_fakes = 0.3 * errors(discriminator, fake, labels) @ discriminator.to_classes.weight.detach() - u
    torch.testing.assert_close(generator.to_image.weight.grad, of_fakes.T @ z / N)

    costs = [F.cross_entropy(discriminator(x).class_logits, labels) for x in (real.images, fake)]
    name = "penalty/auxiliary-classifier"
    torch.testing.assert_close(report[f"{name}/discriminator"], 0.7 * sum(costs[: len(parts)]).detach())
    torch.testing.assert_close(report[f"{name}/generator"], 0.3 * costs[1].detach())


@pytest.mark.parametrize(
    "piece", [piece for piece in each(DiscriminatorNetwork) if "class_logits" in piece.model_fields]
)
def test_discriminators_name_classes(piece: type[DiscriminatorNetwork]) -> None:
    torch.manual_seed(0)
    config = piece(class_logits=True)
    module = config.build((1, 8, 8), CLASSES)
    images = torch.rand(N, 1, 8, 8) * 2 - 1
    verdict = module(images)
    assert verdict.class_logits is not None
    assert verdict.class_logits.shape == (N, CLASSES)
    weights, signs = torch.randn(N, CLASSES), torch.randn(N)

    def both() -> Tensor:
        verdict = module(images)
        return (verdict.class_logits * weights).sum() + (verdict.logits * signs).sum()

    assert_every_parameter_learns_soon(module, both)
    with pytest.raises(UserError, match=r"class_logits: the data has no classes"):
        config.build((1, 8, 8), 0)


CLASSED = ("discriminator.conditional=false", "discriminator.class_logits=true")
RULE = "regularizers=[{name: auxiliary-classifier}, {name: r1, gamma: 0.1}]"


def recipe_with(*words: str) -> Recipe:
    return load_recipe("digits-cgan", parse_overrides([*CLASSED, RULE, *words]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["discriminator.class_logits=false"], "names no classes: say discriminator.class_logits=true"),
        (["generator.conditional=false"], "generator.name=mlp is told no labels"),
        (["discriminator.conditional=true"], "nothing to name"),
        (["discriminator={name: packed, network: {name: mlp, class_logits: true}}"], "=packed names no classes"),
    ],
)
def test_players_that_cannot_take_part_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        recipe_with(*words)


def test_a_discriminator_with_projection_may_name_classes_too() -> None:
    words = ["discriminator={name: resnet, n_filters: 4, conditional: true, class_logits: true}"]
    state = new_state(recipe_with(*words), (1, 8, 8), 10, torch.device("cpu"))
    real = Batch(torch.rand(8, 1, 8, 8), torch.arange(8))
    report = play_step(recipe_with(*words).play, state.game, lambda: real, Stream(0))
    assert report["penalty/auxiliary-classifier/discriminator"] > 0


def test_it_is_played_by_plain_moves() -> None:
    with_it, without = (new_state(each, (1, 8, 8), 10, torch.device("cpu")) for each in (recipe_with(), _without()))
    assert fast_moves(with_it.game) is None
    assert fast_moves(without.game) is not None


def _without() -> Recipe:
    return recipe_with("discriminator.class_logits=false", "regularizers=[]")


def test_unlabeled_data_is_refused_with_words(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", images=np.zeros((24, 8, 8, 1), dtype=np.uint8))
    words = [*CLASSED, RULE, "batch_size=8"]
    with pytest.raises(UserError, match="the data has no"):
        tp.train("digits-cgan", *words, data=str(tmp_path / "data.npz"), out=tmp_path / "run", quiet=True)


STEPS = 150


def digits_drawn(*words: str) -> float:
    """The share of fakes that a classifier of the real digits takes for what G was told, after a short game."""
    data = DigitsSource().load("all", Form())
    assert data.labels is not None
    images, labels = to_float(data.images), data.labels
    recipe = recipe_with("generator.widths=[64]", "discriminator.widths=[64]", *words)
    state: TrainingState = new_state(recipe, (1, 8, 8), 10, torch.device("cpu"))
    for step in range(STEPS):
        rows = torch.randint(len(images), (64,), generator=Stream(3).child(step).generator())
        real = Batch(images[rows], labels[rows])
        play_step(recipe.play, state.game, lambda real=real: real, Stream(4).child(step))
    told = torch.arange(500) % 10
    with torch.no_grad():
        fakes = state.game.generator.network.eval()(recipe.latents.draw(500, Stream(5)), labels=told)
    judge = LogisticRegression(max_iter=200).fit(images.flatten(1).numpy(), labels.numpy())
    return float((judge.predict(fakes.flatten(1).numpy()) == told.numpy()).mean())


def test_a_short_game_learns_the_classes() -> None:
    assert digits_drawn() > 0.8


@pytest.mark.slow
def test_without_it_nobody_tells_the_generator_what_labels_mean() -> None:
    assert digits_drawn("regularizers.auxiliary-classifier.generator_weight=0.0") < 0.3
    assert digits_drawn("regularizers.auxiliary-classifier.learn_from_fakes=false") > 0.8
