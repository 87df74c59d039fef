"""The games in the plane that the Learn tab plays."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from twoplayer.bench.modes import Watcher
from twoplayer.bench.points import PointBatches, Points
from twoplayer.core.errors import UserError
from twoplayer.core.rng import Stream
from twoplayer.core.stop import StopRequest
from twoplayer.core.verdict import Verdict
from twoplayer.explore import plane
from twoplayer.explore.choices import Choice, objectives, optimizers, recipe_of, regularizers, strength_of
from twoplayer.explore.plane import Plane, pushes
from twoplayer.explore.shapes import IMAGE_SHAPE, SHAPES
from twoplayer.training.loop import Schedule, train
from twoplayer.training.state import new_state, prepare

CPU = torch.device("cpu")


def weights(network: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in network.parameters()]


def same(some: list[Tensor], others: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(some, others, strict=True))


def of_both(game: Plane) -> list[Tensor]:
    return weights(game.game.generator.network) + weights(game.game.discriminator.network)


def only(regularizer: str) -> tuple[tuple[str, float | None], ...]:
    return ((regularizer, strength_of(regularizer)),)


@pytest.mark.parametrize(
    "choice",
    [
        Choice(),
        Choice("grid", "relativistic", (("r1", 0.1), ("r2", 0.1)), discriminator_steps=2, seed=3),
        Choice("parallel-lines", "wasserstein", only("spectral-normalization"), optimizer="sgd"),
    ],
)
def test_full_steps_are_those_of_a_training(choice: Choice) -> None:
    """Looking in between, too, changes nothing."""
    recipe = recipe_of(choice).model_copy(update={"steps": 5})
    batches = PointBatches(SHAPES[choice.data], recipe.batch_size, Stream(choice.seed).child("data"), CPU)
    with torch.random.fork_rng(devices=[]):
        state = new_state(recipe, IMAGE_SHAPE, 0, CPU)
        prepare(state, recipe, batches)
        train(state, recipe, batches, Schedule.of(recipe, batches), Watcher(lambda: None), StopRequest())
    game = Plane(choice)
    for steps in (2, 1, 2):
        assert game.play(steps) == steps
        game.look()
    assert same(of_both(game), weights(state.game.generator.network) + weights(state.game.discriminator.network))
    assert game.look().step == 5


def test_a_seed_repeats_a_game_and_another_one_does_not() -> None:
    def played(seed: int) -> list[Tensor]:
        game = Plane(Choice(seed=seed))
        game.play(2)
        game.move_discriminator()
        game.move_generator()
        game.play(1)
        return of_both(game)

    before = torch.random.get_rng_state()
    assert same(played(1), played(1))
    assert not same(played(1), played(2))
    assert torch.equal(torch.random.get_rng_state(), before), "the caller's generator is left alone"


@pytest.mark.parametrize("objective", ["minimax", "relativistic", "feature-matching"])
def test_one_player_moves_and_the_other_stays(objective: str) -> None:
    game = Plane(Choice(objective=objective))
    players = game.game.generator.network, game.game.discriminator.network
    before = [weights(player) for player in players]
    game.move_discriminator()
    assert same(weights(players[0]), before[0])
    assert not same(weights(players[1]), before[1])
    before = [weights(player) for player in players]
    game.move_generator()
    assert not same(weights(players[0]), before[0])
    assert same(weights(players[1]), before[1])
    view = game.look()
    assert (view.step, view.moves) == (0, 2)
    assert len(view.losses) == 2
    assert math.isnan(view.losses[0][1]), "G has none before it moved"


@pytest.mark.parametrize("regularizer", [None, *regularizers()])
@pytest.mark.parametrize("objective", objectives())
def test_everything_offered_can_be_played(objective: str, regularizer: str | None) -> None:
    game = Plane(Choice(objective=objective, regularizers=only(regularizer) if regularizer else ()))
    assert game.play(3) == 3
    view = game.look()
    assert view.diverged is None
    numbers = [view.real, view.fake, view.push, view.field, torch.tensor(view.losses)]
    assert all(each.isfinite().all() for each in numbers)
    assert view.fake.shape == view.real.shape == view.push.shape == (plane.SHOWN, 2)
    assert view.field.shape == (plane.GRID_SIDE, plane.GRID_SIDE)
    if view.is_probability:
        assert 0.0 <= float(view.field.min()) <= float(view.field.max()) <= 1.0


@pytest.mark.parametrize("data", SHAPES)
@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "sgd"])
def test_all_data_with_all_optimizers(data: str, optimizer: str) -> None:
    assert optimizer in optimizers()
    game = Plane(Choice(data=data, optimizer=optimizer))
    game.play(3)
    view = game.look()
    assert view.diverged is None
    assert float(view.real.abs().max()) < 1.0
    centers = isinstance(SHAPES[data], Points)
    assert (view.found is not None) == centers


def test_what_is_offered_comes_from_the_catalogue() -> None:
    assert "semi-supervised" not in objectives(), "there are no labels in the plane"
    assert objectives()["minimax, saturating"] == {"name": "minimax", "generator_objective": "saturating"}
    assert regularizers()["r1"] == "gamma"
    assert regularizers()["weight-clipping"] == "bound"
    assert strength_of("spectral-normalization") is None
    assert Choice().objective in objectives()


@pytest.mark.parametrize("objective", objectives())
def test_the_push_is_the_slope_of_the_generators_loss(objective: str) -> None:
    """Central differences of N times G's loss, in float64."""
    game = Plane(Choice(objective=objective)).game
    network = game.discriminator.network.double()
    real, fake = (SHAPES["ring"].draw(6, Stream(seed)).double() for seed in (1, 2))
    fake = fake + 0.1
    pushed, _, _ = pushes(game, real, fake)

    @torch.no_grad()
    def loss(at: Tensor) -> float:
        return float(game.objective.generator_loss(network(real), network(at)).sum())

    for place in ((0, 0), (3, 1), (5, 0)):
        step = torch.zeros_like(fake)
        step[place[0], place[1]] = 1e-6
        slope = (loss(fake + step) - loss(fake - step)) / 2e-6
        assert float(pushed[place[0], place[1], 0, 0]) == pytest.approx(-slope, rel=1e-4, abs=1e-9)


def test_the_field_is_what_the_discriminator_says() -> None:
    for objective in ("minimax", "hinge"):
        game = Plane(Choice(objective=objective))
        view = game.look()
        x, y = 7, 30
        along = torch.linspace(-1.0, 1.0, plane.GRID_SIDE)
        verdict: Verdict = game.game.discriminator.network(torch.stack([along[x], along[y]]).view(1, 2, 1, 1))
        said = (verdict.logits.sigmoid() if objective == "minimax" else verdict.logits).detach()
        assert view.is_probability == (objective == "minimax")
        assert float(view.field[y, x]) == pytest.approx(float(said), rel=1e-4)


def test_divergence_is_said_and_the_last_view_stays() -> None:
    game = Plane(Choice(objective="wasserstein", regularizers=(), optimizer="sgd"))
    game.play(1)
    before = game.look()
    with torch.no_grad():
        next(game.game.discriminator.network.parameters()).fill_(float("nan"))
    assert game.play(5) == 1
    view = game.look()
    assert view.diverged == 2
    assert torch.equal(view.fake, before.fake)
    assert game.play(5) == 0
    game.move_discriminator()
    game.move_generator()
    assert game.look().diverged == 2


def test_a_turn_is_bounded_in_time() -> None:
    game = Plane(Choice())
    assert game.play(1000, seconds=0.0) == 1


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"data": "rign"}, "did you mean 'ring'"),
        ({"objective": "semi-supervised"}, "unknown objective"),
        ({"regularizers": (("r3", 1.0),)}, "unknown regularizer"),
        ({"regularizers": (("r1", 1.0), ("r1", 2.0))}, "one name"),
        ({"regularizers": (("r1", float("nan")),)}, "strength of r1"),
        ({"regularizers": (("weight-clipping", 0.0),)}, "bound"),
        ({"optimizer": ["adam"]}, "unknown optimizer"),
        ({"generator_rate": float("inf")}, "learning rate of the generator"),
        ({"discriminator_rate": "fast"}, "learning rate of the discriminator"),
        ({"discriminator_steps": 10_000}, "D steps"),
        ({"seed": -1}, "seed"),
    ],
)
def test_what_nobody_can_play_is_refused_in_words(changed: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        recipe_of(replace(Choice(), **changed))  # type: ignore[arg-type]


def test_shapes() -> None:
    moons = SHAPES["two-moons"].draw(4000, Stream(0)).flatten(1)
    lines = SHAPES["parallel-lines"].draw(4000, Stream(0)).flatten(1)
    assert torch.equal(lines[:, 0], torch.zeros(4000))
    assert float(lines[:, 1].min()) == pytest.approx(-0.8, abs=0.01)
    assert float(moons.mean(0).abs().max()) < 0.02, "the moons are each other turned around"
    upper = moons[moons[:, 1] > 0.3]
    radius = (upper + torch.tensor([0.5, 0.25]) * 0.8 / 1.5) / (0.8 / 1.5)
    assert float((radius.norm(dim=1) - 1.0).abs().max()) < 0.25, "half a circle around (0, 0)"
    game = Plane(Choice("parallel-lines")).look()
    assert float(game.fake[:, 0].std()) == pytest.approx(0.0, abs=1e-6)
    assert float(game.fake[0, 0]) == pytest.approx(0.6)
