"""What the players learn of changed images, looks at overfitting, and runs with an augmentation."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import twoplayer as tp
from tests.cli.test_resume import ALTERNATING, WORDS, assert_same, state_of
from tests.conftest import TINY
from tests.unit.test_training import SGD, SHAPE, real_batch, tiny_state, weights
from twoplayer.bench.steps import description
from twoplayer.core.batch import Batch
from twoplayer.core.errors import UserError
from twoplayer.core.rng import Stream
from twoplayer.core.verdict import Verdict
from twoplayer.data.batches import IndexedBatches
from twoplayer.data.images import ImageData
from twoplayer.recipes.load import load_recipe, parse_overrides, to_yaml
from twoplayer.recipes.schema import Alternating, Play, Simultaneous
from twoplayer.training.captured import can_be_captured
from twoplayer.training.fast import fast_moves
from twoplayer.training.overfitting import follow_overfitting, overfitting
from twoplayer.training.play import play_step
from twoplayer.training.program import Programs
from twoplayer.training.state import TrainingState

CPU = torch.device("cpu")
R1 = "regularizers=[{name: r1, gamma: 3.0}]"
ADAPTIVE = "augmentation={name: adaptive, start: 0.5, every: 2, kimg: 5.0}"


def players(state: TrainingState) -> tuple[nn.Module, nn.Module]:
    """Copies of both."""
    game = state.game
    return copy.deepcopy(game.generator.network), copy.deepcopy(game.discriminator.network)


def moved(module: nn.Module, loss: Tensor) -> list[Tensor]:
    """Weights after a step down by a tenth of the gradient."""
    gradients = torch.autograd.grad(loss, list(module.parameters()), retain_graph=True)
    return [p - 0.1 * g for p, g in zip(module.parameters(), gradients, strict=True)]


@pytest.mark.parametrize("augmentation", ["augmentation=diffaugment", ADAPTIVE])
def test_d_and_the_augmentation_together_are_what_judges(augmentation: str) -> None:
    """A simultaneous step by hand: both losses of changed images, the penalty with respect to unchanged ones."""
    state = tiny_state(*SGD, R1, augmentation)
    generator, discriminator = players(state)
    change, real, stream = state.game.augmentation, real_batch(), Stream(0)
    assert change is not None

    def judged(images: Tensor, *place: str) -> Tensor:
        logits: Tensor = discriminator(change(images, stream.child(*place, "augmentation"))).logits
        return logits

    fake = generator(state.game.latents.draw(8, stream.child("latents"), real.images))
    on_real, on_fake = judged(real.images, "real"), judged(fake, "fake")
    unchanged = real.images.clone().requires_grad_()
    (slope,) = torch.autograd.grad(judged(unchanged, "penalty", "r1").sum(), unchanged, create_graph=True)
    penalty = 1.5 * slope.square().sum((1, 2, 3)).mean()
    loss_d = -on_real.sigmoid().log().mean() - (1 - on_fake.sigmoid()).log().mean() + penalty
    by_hand = moved(generator, -on_fake.sigmoid().log().mean()) + moved(discriminator, loss_d)
    report = play_step(Simultaneous(), state.game, lambda: real, stream)
    played = weights(state.game.generator.network) + weights(state.game.discriminator.network)
    for mine, theirs in zip(by_hand, played, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(report["penalty/r1"], penalty)
    bare = tiny_state(*SGD, R1)
    play_step(Simultaneous(), bare.game, lambda: real, stream)
    assert not torch.equal(weights(bare.game.generator.network)[0], played[0])


def test_g_alone_learns_through_the_changes() -> None:
    real, stream = real_batch(), Stream(0)
    state = tiny_state(*SGD, "regularizers=[]", "objective={name: relativistic}", "augmentation=diffaugment")
    generator, change = players(state)[0], state.game.augmentation
    assert change is not None
    play_step(Alternating(), state.game, lambda: real, stream)
    place, discriminator = stream.child("generator"), state.game.discriminator.network
    fake = generator(state.game.latents.draw(8, place.child("latents"), real.images))
    on_real, on_fake = (
        discriminator(change(images, place.child(name, "augmentation"))).logits
        for images, name in ((real.images, "real"), (fake, "fake"))
    )
    by_hand = moved(generator, torch.nn.functional.softplus(on_real - on_fake).mean())
    for mine, theirs in zip(by_hand, weights(state.game.generator.network), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("play", [Simultaneous(), Alternating()])
def test_probability_zero_changes_nothing(play: Play) -> None:
    with_it = tiny_state(R1, "augmentation={name: diffaugment, probability: 0.0}", "fast=false")
    without = tiny_state(R1, "fast=false")
    for state in (with_it, without):
        play_step(play, state.game, real_batch, Stream(0))
    for mine, theirs in zip(with_it.named_tensors(), without.named_tensors(), strict=True):
        assert torch.equal(mine[1], theirs[1])


def test_the_fast_moves_are_played_and_not_recorded() -> None:
    state = tiny_state("augmentation=diffaugment", "optimizers.generator.name=adam")
    assert fast_moves(state.game)
    recipe = load_recipe("digits", parse_overrides([*TINY, "augmentation=diffaugment"]))
    data = ImageData(torch.zeros(32, *SHAPE, dtype=torch.uint8), "none")
    assert not can_be_captured(state, recipe, IndexedBatches(data, 16, Stream(0), CPU))


@pytest.fixture
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("augmentation", ["augmentation=diffaugment", ADAPTIVE])
def test_a_program_follows_the_draws_and_the_probability(augmentation: str) -> None:
    """Steps of a traced program are those of the moves, while the probability moves."""
    found, programs = [], Programs(None)
    for each in (programs, None):
        state = tiny_state(R1, augmentation)
        object.__setattr__(state.game, "programs", each)
        changes, reports = state.game.augmentation, []
        assert changes is not None
        for step in range(4):
            reports.append(play_step(Simultaneous(), state.game, real_batch, Stream(1).child(step)))
            for value in changes.buffers():
                value.fill_(0.8 if step % 2 else 0.0)
        found.append((state.named_tensors(), reports))
    assert programs.found["both players"]
    for (name, mine), (_, theirs) in zip(found[0][0], found[1][0], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-7, atol=1e-9, msg=name)
    for mine, theirs in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(mine["loss/discriminator"], theirs["loss/discriminator"], rtol=1e-9, atol=1e-9)


class Brightness(nn.Module):
    """D that says how bright an image is."""

    def forward(self, images: Tensor) -> Verdict:
        return Verdict(images.mean((1, 2, 3)))


class Gray(nn.Module):
    """G that draws gray images."""

    def forward(self, latents: Tensor) -> Tensor:
        return torch.zeros(len(latents), *SHAPE, dtype=latents.dtype)


def judged_by_brightness(*words: str) -> TrainingState:
    state = tiny_state("augmentation={name: adaptive, policy: [blit], start: 0.4, every: 2, kimg: 0.16}", *words)
    object.__setattr__(state.game.discriminator, "network", Brightness())
    object.__setattr__(state.game.generator, "network", Gray())
    return state


def bright(value: float) -> Batch:
    return Batch(torch.full((8, *SHAPE), value, dtype=torch.float64))


@pytest.mark.parametrize(
    ("held_out", "probability", "found"),
    [(-0.5, 0.5, 1.0), (0.1, 0.5, 0.8), (0.3, 0.3, 0.4), (0.5, 0.3, 0.0), (0.9, 0.3, -0.8)],
)
def test_the_probability_rises_when_d_tells_training_images_from_others(
    held_out: float, probability: float, found: float
) -> None:
    """D says 0.5 of training images and 0 of fakes; 16 of 160 images are a tenth of the way from 0 to 1."""
    game = judged_by_brightness().game
    for step in (1, 2, 3):
        report = follow_overfitting(game, bright(0.5), lambda *_: bright(held_out), Stream(0), step, 8)
    torch.testing.assert_close(report["augmentation/probability"], torch.tensor(probability))
    torch.testing.assert_close(report["augmentation/overfitting"], torch.tensor(found))


def test_without_held_out_images_signs_are_followed() -> None:
    half = Batch(torch.cat([bright(0.5).images[:6], bright(-0.5).images[:2]]))
    part, whole = overfitting(judged_by_brightness().game, half, None, Stream(0))
    assert (float(part), float(whole)) == (0.5, 1.0)
    game = judged_by_brightness("objective={name: wasserstein}").game
    object.__setattr__(game.generator, "network", nn.Sequential(Gray(), Plus(-1.0)))
    part, whole = overfitting(game, half, None, Stream(0))
    assert (float(part), float(whole)) == (1.0, 1.0), "a Wasserstein D has no zero: pairs are compared"


class Plus(nn.Module):
    """What is given and a number."""

    def __init__(self, number: float) -> None:
        super().__init__()
        self.number = number

    def forward(self, images: Tensor) -> Tensor:
        return images + self.number


def test_a_fixed_augmentation_is_not_looked_after() -> None:
    state = tiny_state("augmentation=diffaugment")
    assert follow_overfitting(state.game, real_batch(), None, Stream(0), 4, 8) == {}


def test_digits_with_diffaugment(tmp_path: Path) -> None:
    words = [word for word in TINY if not word.startswith(("generator", "discriminator"))]
    run = tp.train(
        "digits", *words, "steps=30", augmentation="diffaugment", out=tmp_path / "run", device="cpu", quiet=True
    )
    assert run.recipe.augmentation is not None
    assert run.recipe.augmentation.name == "diffaugment"
    assert run.sample(4).shape == (4, *SHAPE)


@pytest.mark.parametrize(
    "words",
    [(), pytest.param(("data.split=train",), marks=pytest.mark.slow), ("data.split=train", *ALTERNATING)],
)
def test_an_adaptive_run_goes_on_bit_for_bit(tmp_path: Path, words: tuple[str, ...]) -> None:
    """All digits, so that signs are followed; and one split, so that the other is held out."""
    asked: Any = {"device": "cpu", "quiet": True}
    out = tmp_path / "run"
    tp.train("digits", *WORDS, ADAPTIVE, *words, "steps=7", out=out, **asked)
    half = state_of(out)["augmentation"]
    tp.train(None, "steps=14", out=out, resume=True, **asked)
    whole = tp.train("digits", *WORDS, ADAPTIVE, *words, out=tmp_path / "whole", **asked)
    assert_same(state_of(out), state_of(tmp_path / "whole"))
    assert half["probability"] != state_of(out)["augmentation"]["probability"]
    assert half["sums"].abs().sum() > 0
    logged = [row["augmentation/probability"] for row in whole.metrics]
    assert all(value is not None and 0.0 <= value <= 0.8 for value in logged)
    assert tp.load(out).metrics[-1]["augmentation/overfitting"] == whole.metrics[-1]["augmentation/overfitting"]


def test_a_run_may_end_by_its_probability(tmp_path: Path) -> None:
    goal = "stop={metric: augmentation/probability, below: 0.499}"
    run = tp.train("digits", *TINY, "log_every=1", ADAPTIVE, goal, out=tmp_path / "run", device="cpu", quiet=True)
    assert run.metrics[-1]["step"] < 6
    with pytest.raises(UserError, match="is in no log"):
        tp.train("digits", *TINY, goal, out=tmp_path / "other", device="cpu", quiet=True)


def test_what_is_refused(tmp_path: Path) -> None:
    held_out = "augmentation={name: adaptive, follows: held-out}"
    with pytest.raises(UserError, match="has no test split that is not trained on"):
        tp.train("digits", *TINY, held_out, out=tmp_path / "run", device="cpu", quiet=True)
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match="shown a condition"):
        load_recipe("digits-lapgan", parse_overrides(["augmentation=diffaugment"]))
    with pytest.raises(UserError, match=r"augmentation.name=diffaugmnt \(did you mean 'diffaugment'\?\)|diffaugment"):
        load_recipe("digits", parse_overrides(["augmentation=diffaugmnt"]))
    with pytest.raises(UserError, match="augmentation=null"):
        description(load_recipe("digits", parse_overrides(["augmentation=diffaugment"])), CPU)


def test_a_recipe_without_one_says_nothing_of_it() -> None:
    assert "augmentation" not in to_yaml(load_recipe("digits"))
    assert tiny_state().tree()["augmentation"] == {}
    assert (
        load_recipe("digits", parse_overrides(["augmentation=diffaugment", "augmentation=null"])).augmentation is None
    )
