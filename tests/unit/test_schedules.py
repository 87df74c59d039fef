"""Schedules against formulas written out by hand, and runs whose numbers change on the way."""

from __future__ import annotations

import copy
import logging
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import twoplayer as tp
import twoplayer.training.loop as loop
from tests.cli.test_resume import assert_same, assert_same_runs, state_of
from tests.conftest import TINY
from tests.contract.test_recipes import StopAfter
from tests.unit.test_captured import begun
from tests.unit.test_training import real_batch
from twoplayer.core.errors import TrainingStopped, UserError
from twoplayer.core.rng import Stream
from twoplayer.core.schedule import Moment, ValueSchedule, fixed_at
from twoplayer.evaluation.remedies import prescribed
from twoplayer.optimizers.adam import Adam
from twoplayer.recipes.load import flatten, load_recipe, merge, parse_overrides, read_recipe, to_yaml
from twoplayer.recipes.schema import Recipe
from twoplayer.schedules.cosine import Cosine
from twoplayer.schedules.linear import Linear
from twoplayer.schedules.step import Step
from twoplayer.training.annealing import Annealing
from twoplayer.training.captured import Block, Function
from twoplayer.training.loop import one_step
from twoplayer.training.play import play_step
from twoplayer.training.program import Programs
from twoplayer.training.state import TrainingState, new_state

RATE = "optimizers.generator.learning_rate"
HERE: dict[str, Any] = {"device": "cpu", "quiet": True}


def way(name: str, start: float, end: float, **length: float) -> dict[str, Any]:
    return {"name": name, "start": start, "end": end, **length}


def changing(warm_up: float = 0.5, **length: float) -> dict[str, Any]:
    """Every number that can change, changing."""
    adam = {"learning_rate": way("cosine", 2e-3, 5e-4, **length), "beta1": way("step", 0.0, 0.5, **length)}
    adam["beta2"] = way("linear", 0.9, 0.99, **length)
    return {
        "optimizers": {"generator": adam, "discriminator": adam},
        "regularizers": [{"name": "r1", "gamma": way("cosine", 1.0, 0.1, **length)}],
        "average": {"half_life_kimg": way("linear", 0.0, 0.2, **length), "warm_up": warm_up},
    }


def recipe_of(*words: str, **settings: Any) -> Recipe:
    said = [*parse_overrides([*TINY, *words]), *flatten(settings)]
    return load_recipe("digits", said)


@pytest.mark.parametrize("length", [{"kimg": 40.0}, {"share": 0.4}])
@pytest.mark.parametrize("t", [0.0, 0.25, 0.5, 0.9, 1.0, 1.5, 2.5])
def test_values_on_the_way(t: float, length: dict[str, float]) -> None:
    """Of a run of 100 thousand images, whose first 40 are the way."""
    moment, inside = Moment(40.0 * t, 100.0), np.clip(t, 0.0, 1.0)
    for start, end in ((2e-4, 5e-5), (0.9, 0.99), (0.0, 500.0), (0.3, 0.3)):
        expected = {
            Cosine: end + (start - end) * (1.0 + np.cos(np.pi * inside)) / 2.0,
            Linear: np.interp(t, [0.0, 1.0], [start, end]),
            Step: start if t < 1.0 else end,
        }
        for piece, value in expected.items():
            schedule: ValueSchedule = piece(start=start, end=end, **length)
            assert schedule.at(moment) == pytest.approx(value, rel=1e-12, abs=1e-15)
            assert schedule.is_over(moment) == (t >= 1.0)
            if t == 0.0 or t >= 1.0 or start == end:
                assert schedule.at(moment) == (start if t == 0.0 else end), "ends are met exactly"


COSINE = "{name: cosine, start: 2e-4, end: 5e-5, kimg: 1000}"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (f"{RATE}={{name: cosine, start: -1e-4, end: 1e-4, kimg: 1}}", f"{RATE}=.* should be greater than 0"),
        (f"{RATE}={{name: cosine, start: 0, end: 0, kimg: 1}}", f"{RATE}=.* should be greater than 0"),
        (f"{RATE}={{name: step, start: 1e-4, end: 1e9, kimg: 1}}", f"{RATE}=.* should be less than or equal to 1"),
        (f"{RATE}={{name: cosine, start: 1e-4, end: 1e-5}}", f"{RATE}: a schedule says either kimg or share"),
        (f"{RATE}={{name: cosine, start: 1e-4, end: 1e-5, kimg: 1, share: 0.5}}", "says either kimg or share"),
        (f"{RATE}={{name: cosine, start: 1e-4, end: 1e-5, kimg: -1}}", f"{RATE}.kimg=-1 should be greater than 0"),
        (f"{RATE}={{name: cosine, start: 1e-4, end: 1e-5, share: 1.5}}", f"{RATE}.share=1.5 should be less than or eq"),
        (f"{RATE}={{name: cosine, start: 1e-4, kimg: 1}}", f"{RATE}.end is missing"),
        (f"{RATE}={{name: cosine, start: .nan, end: 1e-4, kimg: 1}}", f"{RATE}.start=nan should be a finite number"),
        (f"{RATE}={{name: cosin, start: 1e-4, end: 1e-5, kimg: 1}}", r"'cosin' \(there are: cosine, linear, step\)"),
        (f"{RATE}={{start: 1e-4, end: 1e-5, kimg: 1}}", f"{RATE} needs a name"),
        (f"{RATE}={{name: cosine, start: 1e-4, ende: 1e-5, kimg: 1}}", "end is missing"),
        (f"{RATE}={{name: linear, start: 1e-4, end: 1e-5, kimgs: 1, share: 1}}", f"unknown key '{RATE}.kimgs'.*'kimg'"),
        (f"{RATE}=cosine", f"{RATE}='cosine' should be a valid number"),
        (f"{RATE}.start=1", "has no keys in it"),
        ("optimizers.discriminator.beta2={name: linear, start: 0.9, end: 1.0, kimg: 1}", "beta2=.* less than 1"),
        ("regularizers=[{name: r1, gamma: {name: linear, start: -1, end: 1, kimg: 1}}]", "gamma=.* or equal to 0"),
        ("average.warm_up=0", "average.warm_up=0 should be greater than 0"),
        (f"optimizers.generator={{name: sgd, decay: 0.9, learning_rate: {COSINE}}}", "leave decay"),
        (f"batch_size={COSINE}", "batch_size=.* should be a valid integer"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(word: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_recipe("digits", parse_overrides([word]))
    assert "\n" not in str(caught.value)


def test_a_recipe_with_schedules_reads_back_equal(tmp_path: Path) -> None:
    recipe = recipe_of(**changing(kimg=1.5))
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(recipe), encoding="utf-8")
    assert load_recipe(str(path)) == recipe
    assert recipe.optimizers.generator.learning_rate == Cosine(start=2e-3, end=5e-4, kimg=1.5)  # type: ignore[attr-defined]
    assert "share" not in to_yaml(recipe)


def test_words_and_settings_reach_schedules() -> None:
    whole = load_recipe("digits", parse_overrides([f"{RATE}={COSINE}"]))
    one_by_one = [f"{RATE}.{word}" for word in ("start=2e-4", "end=5e-5", "kimg=1000", "name=cosine")]
    assert load_recipe("digits", parse_overrides(one_by_one)) == whole
    settings = {"optimizers": {"generator": {"learning_rate": way("cosine", 2e-4, 5e-5, kimg=1000)}}}
    assert load_recipe("digits", flatten(settings)) == whole
    tree = merge(read_recipe("digits"), parse_overrides([f"{RATE}={COSINE}"]))
    longer = merge(tree, parse_overrides([f"{RATE}.kimg=2000"]))
    assert longer["optimizers"]["generator"]["learning_rate"]["kimg"] == 2000
    assert merge(tree, parse_overrides([f"{RATE}=1e-3"]))["optimizers"]["generator"]["learning_rate"] == 1e-3


def test_a_constant_schedule_is_the_number_bit_for_bit(tmp_path: Path) -> None:
    """Of an optimizer's numbers, a penalty's weight and an average's half-life."""
    adam = {"learning_rate": 1e-3, "beta1": 0.3, "beta2": 0.97}
    same = {key: way("cosine", value, value, kimg=0.05) for key, value in adam.items()}
    numbers = {"optimizers": {"generator": adam, "discriminator": adam}, "average": {"half_life_kimg": 0.1}}
    ways = {
        "optimizers": {"generator": same, "discriminator": same},
        "average": {"half_life_kimg": way("linear", 0.1, 0.1, share=0.5)},
    }
    penalty = {"name": "gradient-penalty", "weight": 2.0}
    scheduled = penalty | {"weight": way("step", 2.0, 2.0, share=0.5)}
    tp.train("digits", *TINY, out=tmp_path / "plain", regularizers=[penalty], **numbers, **HERE)
    tp.train("digits", *TINY, out=tmp_path / "scheduled", regularizers=[scheduled], **ways, **HERE)
    assert_same(state_of(tmp_path / "scheduled"), state_of(tmp_path / "plain"))


@pytest.mark.parametrize("play", ["simultaneous", "{name: alternating, discriminator_steps: 2}"])
@pytest.mark.parametrize("length", [{"kimg": 0.08}, {"share": 0.8}])
def test_stopped_in_the_middle_of_a_schedule_and_resumed_is_never_stopped(
    length: dict[str, float], play: str, tmp_path: Path
) -> None:
    words = (*TINY, f"play={play}" if "{" in play else f"play.name={play}", "log_every=1")
    with pytest.raises(TrainingStopped, match="stopped after step 3"):
        tp.train("digits", *words, out=tmp_path / "resumed", stop=StopAfter(1 + 3), **changing(**length), **HERE)
    tp.train(out=tmp_path / "resumed", resume=True, **HERE)
    whole = tp.train("digits", *words, out=tmp_path / "whole", **changing(**length), **HERE)
    assert_same_runs(tmp_path / "resumed", tmp_path / "whole")
    rates = [row["schedule/learning_rate/generator"] for row in whole.metrics]
    assert rates[0] == 2e-3
    assert all(before > after for before, after in pairwise(rates[:4])), "it was in the middle"


def test_a_run_goes_on_longer_by_kimg_but_not_by_share(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    tp.train("digits", *TINY, "steps=8", out=whole, **changing(kimg=0.1), **HERE)
    for name, length in (("kimg", {"kimg": 0.1}), ("share", {"share": 0.5})):
        tp.train("digits", *TINY, "steps=4", out=tmp_path / name, **changing(**length), **HERE)
    tp.train(out=tmp_path / "kimg", resume=True, steps=8, **HERE)
    weights = [state_of(run)["generator"]["network"] for run in (whole, tmp_path / "kimg")]
    assert_same(*weights)
    with pytest.raises(UserError, match="was to have 4 steps, asked for 8: its schedules are shares of its length"):
        tp.train(out=tmp_path / "share", resume=True, steps=8, **HERE)


def test_the_log_says_what_a_step_had(tmp_path: Path) -> None:
    """Of 16 images a step, the last one of each line; kimg is counted before the step."""
    run = tp.train("digits", *TINY, out=tmp_path / "run", **changing(kimg=0.064), **HERE)
    assert [row["step"] for row in run.metrics] == [2, 4, 6]
    for row, seen in zip(run.metrics, (16, 48, 80), strict=True):
        t = min(seen / 64, 1.0)
        for player in ("generator", "discriminator"):
            found = [row[f"schedule/{key}/{player}"] for key in ("learning_rate", "beta1", "beta2")]
            cosine = 5e-4 + 1.5e-3 * (1.0 + math.cos(math.pi * t)) / 2.0
            assert found == pytest.approx([cosine, 0.5 if t == 1.0 else 0.0, 0.9 + 0.09 * t])
        assert row["schedule/gamma/r1"] == pytest.approx(0.1 + 0.9 * (1.0 + math.cos(math.pi * t)) / 2.0)
        assert row["schedule/half_life_kimg/generator"] == pytest.approx(min(0.2 * t, 0.5 * seen / 1000))
    plain = tp.train("digits", *TINY, "steps=2", out=tmp_path / "plain", **HERE)
    assert not [key for key in plain.metrics[0] if key.startswith("schedule/")]


@pytest.mark.parametrize("epsilon_hat", [False, True])
def test_adam_with_changing_betas_corrects_by_the_present_ones(epsilon_hat: bool) -> None:
    """Against Adam in numpy: the present beta to the power of the update corrects the bias."""
    rule = Adam(
        learning_rate=Linear(start=0.1, end=0.02, kimg=5),
        beta1=Step(start=0.0, end=0.6, kimg=3),
        beta2=Cosine(start=0.9, end=0.99, kimg=4),
        epsilon=1e-3,
        epsilon_hat=epsilon_hat,
    )
    random = np.random.default_rng(0)
    value, mean, square = random.normal(size=7), np.zeros(7), np.zeros(7)
    learned = nn.Parameter(torch.tensor(value))
    optimizer = fixed_at(rule, Moment(0.0, 8.0)).build([learned])
    for update in range(8):
        rate = 0.1 - 0.08 * min(update / 5, 1.0)
        beta1 = 0.6 if update >= 3 else 0.0
        beta2 = 0.99 - 0.09 * (1.0 + np.cos(np.pi * min(update / 4, 1.0))) / 2.0
        gradient = random.normal(size=7)
        mean = beta1 * mean + (1.0 - beta1) * gradient
        square = beta2 * square + (1.0 - beta2) * gradient**2
        unbiased, root = mean / (1.0 - beta1 ** (update + 1)), np.sqrt(1.0 - beta2 ** (update + 1))
        size = (np.sqrt(square) + 1e-3) / root if epsilon_hat else np.sqrt(square) / root + 1e-3
        value = value - rate * unbiased / size
        fixed_at(rule, Moment(float(update), 8.0)).tune(optimizer)
        learned.grad = torch.tensor(gradient)
        optimizer.step()
        np.testing.assert_allclose(learned.detach().numpy(), value, rtol=1e-10)


@pytest.mark.parametrize("name", ["sgd", "rmsprop"])
def test_other_rules_follow_their_rate(name: str) -> None:
    """The very first update of each goes by its rate alone."""
    words = [f"optimizers.generator={{name: {name}, learning_rate: {{name: linear, start: 0.4, end: 0, kimg: 1}}}}"]
    rule = recipe_of(*words).optimizers.generator
    moved = []
    for kimg in (0.0, 0.5, 1.0):
        learned = nn.Parameter(torch.zeros(1))
        optimizer = fixed_at(rule, Moment(0.0, 1.0)).build([learned])
        fixed_at(rule, Moment(kimg, 1.0)).tune(optimizer)
        learned.grad = torch.ones(1)
        optimizer.step()
        moved.append(learned.item())
    assert moved == pytest.approx([moved[0], moved[0] / 2.0, 0.0])
    assert moved[0] < -0.3


def game_at(step: int, *words: str, fast: bool) -> tuple[TrainingState, Recipe]:
    recipe = recipe_of("discriminator.dropout=0.0", f"fast={str(fast).lower()}", *words)
    state = new_state(recipe, (1, 8, 8), 10, torch.device("cpu"))
    for player in (state.game.generator, state.game.discriminator):
        player.network.double()
        for memory in player.memories.values():
            memory.double()
    state.step = step
    Annealing(recipe, 10).bring(state)
    return state, recipe


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize(("step", "gamma"), [(0, 4.0), (5, 2.5), (10, 1.0), (12, 1.0)])
def test_a_penalty_pays_its_present_weight(step: int, gamma: float, fast: bool) -> None:
    """Loss and gradients against autograd by hand: R1, on its way from 4 to 1 over ten steps of 16 images."""
    words = ("regularizers=[{name: r1, gamma: {name: linear, start: 4, end: 1, kimg: 0.16}}]",)
    state, recipe = game_at(step, *words, fast=fast)
    network, real = copy.deepcopy(state.game.discriminator.network), real_batch()
    generator = copy.deepcopy(state.game.generator.network)
    images = real.images.clone().requires_grad_()
    fake = generator(state.game.latents.draw(8, Stream(0).child("latents"), real.images)).detach()
    (slope,) = torch.autograd.grad(network(images).logits.sum(), images, create_graph=True)
    penalty = gamma / 2.0 * slope.square().sum(dim=(1, 2, 3)).mean()
    real_loss, fake_loss = -network(real.images).logits.sigmoid().log(), -(-network(fake).logits).sigmoid().log()
    loss = real_loss.mean() + fake_loss.mean() + penalty
    expected = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)

    report = play_step(recipe.play, state.game, lambda: real, Stream(0))
    torch.testing.assert_close(report["penalty/r1"], penalty.detach())
    torch.testing.assert_close(report["loss/discriminator"], loss.detach())
    for parameter, gradient in zip(state.game.discriminator.network.parameters(), expected, strict=True):
        wanted = torch.zeros_like(parameter) if gradient is None else gradient
        torch.testing.assert_close(parameter.grad, wanted, rtol=1e-8, atol=1e-12)


def test_a_parameter_penalty_pays_its_present_weight() -> None:
    words = "regularizers=[{name: historical-averaging, weight: {name: linear, start: 4, end: 1, kimg: 0.16}}]"
    owed = []
    for step in (0, 5):
        state, recipe = game_at(step, words, fast=True)
        with torch.no_grad():
            for parameter in state.game.generator.network.parameters():
                parameter += 0.5
        learned = sum(parameter.numel() for parameter in state.game.generator.network.parameters())
        report = play_step(recipe.play, state.game, real_batch, Stream(0))
        owed.append(float(report["penalty/historical-averaging/generator"]))
    assert owed == pytest.approx([4.0 * 0.25 * learned, 2.5 * 0.25 * learned])


def test_an_average_that_warms_up() -> None:
    """Against the recursion in numpy, with half-life min(0.012, 0.5 kimg), counted before the step."""
    recipe, state, batches = begun("digits", "average={half_life_kimg: 0.012, warm_up: 0.5}")
    annealing = Annealing(recipe, 6)
    weight = next(state.game.generator.network.parameters())
    assert state.average is not None
    expected, decays = weight.detach().numpy().copy(), []
    for step in range(6):
        annealing.bring(state)
        one_step(state, recipe, batches, Stream(3))
        half_life = min(0.012, 0.5 * step * 8 / 1000.0)
        decays.append(0.5 ** (8 / 1000.0 / half_life) if step else 0.0)
        expected = decays[-1] * expected + (1.0 - decays[-1]) * weight.detach().numpy()
        found = next(state.average.module.parameters()).detach().numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    assert decays[:3] == pytest.approx([0.0, 0.25, 0.5])
    assert [annealing.is_settled(step) for step in range(6)] == [False] * 4 + [True] * 2


def test_compiled_with_a_changing_penalty_is_right(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A program would keep the weight as a constant: the moves are played as they are, and that is said."""
    words = (*TINY, "regularizers=[{name: r1, gamma: {name: step, start: 10, end: 0, kimg: 0.04}}]")
    with caplog.at_level(logging.WARNING, "twoplayer"):
        tp.train("digits", *words, "compile=true", out=tmp_path / "compiled", **HERE)
    assert "a penalty's weight follows a schedule: moves are not compiled" in caplog.text
    plain = tp.train("digits", *words, "compile=false", out=tmp_path / "plain", **HERE)
    assert_same(state_of(tmp_path / "compiled"), state_of(tmp_path / "plain"))
    assert [row["schedule/gamma/r1"] for row in plain.metrics] == [10.0, 0.0, 0.0]
    assert plain.metrics[-1]["penalty/r1"] == 0.0


def test_a_program_is_used_with_a_changing_rate() -> None:
    """The program as it was traced, with the rates and betas of each step, against the moves themselves."""
    words = (f"{RATE}={{name: linear, start: 0.01, end: 0, kimg: 0.032}}", "optimizers.discriminator.beta2.name=step")
    words += tuple(f"optimizers.discriminator.beta2.{word}" for word in ("start=0.5", "end=0.99", "kimg=0.016"))
    found = []
    for programs in (Programs(None), None):
        recipe, state, batches = begun("digits", *words)
        state.game = replace(state.game, programs=programs)
        annealing, weights = Annealing(recipe, 6), []
        for _ in range(6):
            annealing.bring(state)
            one_step(state, recipe, batches, Stream(3))
            weights.append([value.detach().clone() for value in state.game.generator.network.parameters()])
        assert programs is None or None not in programs.found.values()
        assert all(torch.equal(a, b) for a, b in zip(weights[-1], weights[-2], strict=True)), "its rate is 0 by then"
        found.append([*weights[3], *(value.detach() for value in state.game.discriminator.network.parameters())])
    for ours, theirs in zip(*found, strict=True):
        assert float((ours - theirs).norm()) <= 1e-3 * float(theirs.norm())


def test_blocks_are_played_when_every_value_has_arrived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph repeats what it met. Here it is the Python function; the run is the one without blocks, bit for bit."""
    words = (*TINY, "steps=12")
    settings = changing(warm_up=2.0, kimg=0.064) | HERE  # its half-life is 0.2 when 100 images are seen
    tp.train("digits", *words, out=tmp_path / "plain", **settings)
    begun_at: list[int] = []

    class Watched(Block):
        def play(self) -> None:
            begun_at.append(self.state.step)
            super().play()

    def blocks(state: TrainingState, recipe: Recipe, batches: Any, stream: Stream) -> list[Block]:
        return [Watched(state, recipe, batches, stream, steps, Function()) for steps in (2, 1)]

    monkeypatch.setattr(loop, "blocks_for", blocks)
    tp.train("digits", *words, out=tmp_path / "blocks", **settings)
    assert begun_at == [7, 8, 9, 10]
    assert_same(state_of(tmp_path / "blocks"), state_of(tmp_path / "plain"))


def test_the_doctor_slows_a_schedule_down() -> None:
    recipe = recipe_of(f"{RATE}={COSINE}", "regularizers.0.weight={name: linear, start: 1, end: 2, kimg: 1}")
    slower, stronger = prescribed(("slower generator", "smooth discriminator"), recipe)
    assert '"start": 5e-05, "end": 1.25e-05, "kimg": 1000.0' in slower
    assert '"start": 5.0, "end": 10.0' in stronger
