"""The step against algorithms written out by hand, the loop's schedule, averages, and what stops a run."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import twoplayer as tp
from tests.conftest import TINY
from twoplayer.core.batch import Batch
from twoplayer.core.errors import Diverged
from twoplayer.core.rng import Stream
from twoplayer.objectives.minimax import Minimax
from twoplayer.recipes.load import load_recipe, parse_overrides
from twoplayer.recipes.schema import Alternating, Simultaneous
from twoplayer.runs.folder import RunFolder
from twoplayer.training.checkpoint import read_newest
from twoplayer.training.ema import averaged, decay_per_step
from twoplayer.training.loop import Schedule
from twoplayer.training.play import play_step
from twoplayer.training.state import TrainingState, new_state
from twoplayer.training.step import first_not_finite

SHAPE = (1, 8, 8)


def tiny_state(*words: str) -> TrainingState:
    recipe = load_recipe("digits", parse_overrides([*TINY, "discriminator.dropout=0.0", *words]))
    state = new_state(recipe, SHAPE, 10, torch.device("cpu"))
    state.game.generator.network.double()
    state.game.discriminator.network.double()
    return state


def real_batch() -> Batch:
    return Batch(Stream(7).normal((8, *SHAPE), like=torch.empty(0, dtype=torch.float64)).tanh())


def weights(module: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


SGD = (
    "optimizers.generator={name: sgd, learning_rate: 0.1}",
    "optimizers.discriminator={name: sgd, learning_rate: 0.1}",
)


def test_simultaneous_play_is_two_gradients_at_the_same_parameters() -> None:
    state = tiny_state(*SGD, "regularizers=[]")
    generator, discriminator = (copy.deepcopy(p.network) for p in (state.game.generator, state.game.discriminator))
    real = real_batch()
    stream = Stream(0)
    z = state.game.latents.draw(8, stream.child("latents"), real.images)
    real_logits, fake_logits = discriminator(real.images).logits, discriminator(generator(z)).logits
    loss_d = -real_logits.sigmoid().log().mean() - (1 - fake_logits.sigmoid()).log().mean()
    loss_g = -fake_logits.sigmoid().log().mean()
    by_hand = []
    for module, loss in ((generator, loss_g), (discriminator, loss_d)):
        gradients = torch.autograd.grad(loss, list(module.parameters()), retain_graph=True)
        by_hand += [p - 0.1 * g for p, g in zip(module.parameters(), gradients, strict=True)]
    report = play_step(Simultaneous(), state.game, lambda: real, stream)
    played = weights(state.game.generator.network) + weights(state.game.discriminator.network)
    for mine, theirs in zip(by_hand, played, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(report["loss/discriminator"], loss_d)
    torch.testing.assert_close(report["loss/generator"], loss_g)
    believed = fake_logits.sigmoid().mean()
    torch.testing.assert_close(report["score/generator"], believed)
    torch.testing.assert_close(report["score/discriminator"], (real_logits.sigmoid().mean() + 1 - believed) / 2)


def test_alternating_play_judges_g_by_the_new_d() -> None:
    state = tiny_state(*SGD, "regularizers=[]")
    generator, discriminator = (copy.deepcopy(p.network) for p in (state.game.generator, state.game.discriminator))
    real, stream, objective = real_batch(), Stream(0), Minimax()

    def fakes(place: Stream) -> Tensor:
        images: Tensor = generator(state.game.latents.draw(8, place.child("latents"), real.images))
        return images

    for turn in range(2):
        fake = fakes(stream.child("discriminator", turn)).detach()
        loss = objective.discriminator_loss(discriminator(real.images), discriminator(fake)).mean()
        step_by_hand(discriminator, loss)
    on_fake = discriminator(fakes(stream.child("generator")))
    step_by_hand(generator, objective.generator_loss(on_fake, on_fake).mean())

    drawn: list[int] = []

    def next_batch() -> Batch:
        drawn.append(1)
        return real

    play_step(Alternating(discriminator_steps=2), state.game, next_batch, stream)
    assert len(drawn) == 2, "a fresh real batch for each update of D"
    for mine, played in ((generator, state.game.generator), (discriminator, state.game.discriminator)):
        for a, b in zip(mine.state_dict().values(), played.network.state_dict().values(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def step_by_hand(module: nn.Module, loss: Tensor) -> None:
    gradients = torch.autograd.grad(loss, list(module.parameters()))
    with torch.no_grad():
        for parameter, gradient in zip(module.parameters(), gradients, strict=True):
            parameter -= 0.1 * gradient


def test_the_penalty_reaches_only_d() -> None:
    """With a huge penalty weight D moves otherwise, and G moves exactly as without it."""
    moved = {}
    for weight in (0.0, 1000.0):
        state = tiny_state(*SGD, f"regularizers.0.weight={weight}")
        play_step(Simultaneous(), state.game, real_batch, Stream(0))
        moved[weight] = (weights(state.game.generator.network), weights(state.game.discriminator.network))
    assert all(torch.equal(a, b) for a, b in zip(moved[0.0][0], moved[1000.0][0], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(moved[0.0][1], moved[1000.0][1], strict=True))


def test_weight_clipping_holds_after_every_step() -> None:
    state = tiny_state("objective.name=wasserstein", "regularizers=[{name: weight-clipping, bound: 0.01}]")
    play_step(Simultaneous(), state.game, real_batch, Stream(0))
    assert max(p.abs().max() for p in state.game.discriminator.network.parameters()) <= 0.01


def test_players_are_initialized_from_streams_of_their_own() -> None:
    first, other = tiny_state(), tiny_state("discriminator.n_filters=8")
    same = zip(weights(first.game.generator.network), weights(other.game.generator.network), strict=True)
    assert all(torch.equal(a, b) for a, b in same)
    assert not torch.equal(
        weights(first.game.generator.network)[0], weights(tiny_state("seed=1").game.generator.network)[0]
    )


def test_the_average_has_its_half_life() -> None:
    assert decay_per_step(half_life_kimg=1.0, images_per_step=1000) == 0.5
    assert decay_per_step(half_life_kimg=2.0, images_per_step=1000) ** 2 == pytest.approx(0.5)
    layer = nn.Linear(1, 1)
    layer.register_buffer("statistic", torch.zeros(1))
    average = averaged(layer, half_life_kimg=1.0, images_per_step=500)
    average.update_parameters(layer)
    with torch.no_grad():
        start = layer.weight.clone()
        layer.weight += 4.0
        layer.statistic += 4.0
    for _ in range(2):
        average.update_parameters(layer)
    torch.testing.assert_close(average.module.weight, start + 2.0)
    torch.testing.assert_close(average.module.statistic, torch.tensor([2.0]))


def test_the_schedule() -> None:
    schedule = Schedule(
        steps=10, batches_per_step=2, batches_per_epoch=5, log_every=4, sample_every=3, checkpoint_every=20
    )
    assert [step for step in range(1, 11) if schedule.due(step, 4)] == [4, 8, 10]
    assert {step: schedule.epoch_ended(step) for step in range(1, 11) if schedule.epoch_ended(step)} == {
        3: 1,
        5: 2,
        8: 3,
        10: 4,
    }
    assert schedule.epoch(5) == 2.0


def test_first_not_finite_names_the_tensor() -> None:
    fine = ("a", torch.tensor([1.0, -3e38]))
    assert first_not_finite([fine]) is None
    for bad in (float("nan"), float("inf"), -float("inf")):
        assert first_not_finite([fine, ("b", torch.tensor([0.0, bad])), ("c", torch.tensor(bad))]) == "b"


@pytest.mark.parametrize(
    ("where", "named"),
    [
        ("loss", "loss/generator"),
        ("gradient", "generator.to_image.weight (gradient)"),
        ("weight", "discriminator.to_logit.weight (weight)"),
        ("average", "average.to_image.weight"),
    ],
)
def test_what_is_not_finite_stops_training_and_is_named(
    where: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NaN is put in at step 6; the checkpoint of step 4 stays the newest and is whole."""
    import twoplayer.training.loop as loop

    play = loop.play_step
    count = 0

    def poisoned(play_config, game, next_batch, stream):
        nonlocal count
        count += 1
        report = play(play_config, game, next_batch, stream)
        if count == 6:
            poison(where, game, report)
        return report

    monkeypatch.setattr(loop, "play_step", poisoned)
    if where == "average":
        monkeypatch.setattr(loop.TrainingState, "named_tensors", only_averages)
    with pytest.raises(Diverged) as caught:
        tp.train("digits", *TINY, "steps=8", out=tmp_path / "run", device="cpu", quiet=True)
    assert caught.value.step == 6
    assert caught.value.tensor == named
    found = read_newest(RunFolder(tmp_path / "run"))
    assert found is not None
    assert found[0]["step"] == 4


@torch.no_grad()
def poison(where: str, game, report) -> None:
    if where == "loss":
        report["loss/generator"] = torch.tensor(float("nan"))
    elif where == "gradient":
        game.generator.network.to_image.weight.grad.view(-1)[0] = float("inf")
    elif where == "weight":
        game.discriminator.network.to_logit.weight.view(-1)[0] = float("nan")
    else:
        game.generator.network.to_image.weight.view(-1)[0] = float("nan")


def only_averages(state: TrainingState) -> list[tuple[str, Tensor]]:
    assert state.average is not None
    return [(f"average.{name}", value) for name, value in state.average.module.state_dict().items()]
