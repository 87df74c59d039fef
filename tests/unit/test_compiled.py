"""Compiled moves against the moves themselves."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.contract.test_recipes import IMAGE_SHAPES, SMALLER
from tests.unit.test_fast_step import FEWER
from twoplayer.core.batch import Batch
from twoplayer.core.rng import Stream
from twoplayer.recipes.load import load_recipe, parse_overrides
from twoplayer.recipes.schema import Recipe
from twoplayer.training.compiled import compiling_pays, has_compiler, is_compiled
from twoplayer.training.play import Plain, play_step
from twoplayer.training.program import Programs
from twoplayer.training.state import TrainingState, new_state

CPU = torch.device("cpu")
AS_IT_IS = None
"""The program as it was traced, of torch's own kernels; inductor writes new ones."""

PROGRAMS = {
    "digits": ["both players"],
    "digits-cgan": ["both players"],
    "mnist-wgan-gp": ["both players"],
    "mnist-dcgan": ["the discriminator", "the generator"],
    "mnist-improved": ["the discriminator", "the generator"],
}


def state_of(name: str, programs: Programs | None, *words: str) -> tuple[TrainingState, Recipe]:
    recipe = load_recipe(name, parse_overrides([*SMALLER.get(name, ()), *FEWER.get(name, ()), *words]))
    state = new_state(recipe, shape_of(recipe), 10, CPU)
    state.game = replace(state.game, programs=programs)
    return state, recipe


def shape_of(recipe: Recipe) -> tuple[int, int, int]:
    channels, height, width = IMAGE_SHAPES[recipe.data.source]
    side = recipe.data.image_size
    return (channels, side, side) if side else (channels, height, width)


def played(
    name: str, programs: Programs | None, *words: str, steps: int = 2, size: Callable[[int], int] = lambda _: 6
) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """After some steps: gradients, weights and statistics; what was reported of each step."""
    state, recipe = state_of(name, programs, *words)
    reports = []
    for step in range(steps):
        n, place = size(step), Stream(1).child(step)
        real = Batch(Stream(7).child(step).uniform((n, *shape_of(recipe)), -1.0, 1.0), torch.arange(n) % 10)
        place.child("layers").seed_torch()
        reports.append(play_step(recipe.play, state.game, lambda real=real: real, place))  # type: ignore[misc]
    found = [value.clone() for _, value in (*state.gradients(), *state.named_tensors())]
    return found, reports


def assert_same(
    ours: tuple[list[Tensor], list[dict[str, Tensor]]], theirs: tuple[list[Tensor], list[dict[str, Tensor]]]
) -> None:
    for one, other in zip(ours[0], theirs[0], strict=True):
        assert float((one - other).norm()) <= 1e-3 * max(float(other.norm()), 1e-3)
    for found, expected in zip(ours[1], theirs[1], strict=True):
        assert found.keys() == expected.keys()
        for key in expected:
            torch.testing.assert_close(found[key], expected[key], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_gradient_of_a_program_is_that_of_the_move(name: str) -> None:
    """And what an update makes of it, and what is reported; with the same dropout, on weights that have moved."""
    programs = Programs(AS_IT_IS)
    assert_same(played(name, programs), played(name, None))
    assert sorted(programs.found) == PROGRAMS[name]
    assert None not in programs.found.values()


@pytest.mark.slow
@pytest.mark.skipif(not has_compiler(), reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler's own
def test_compiled_kernels_find_the_same_gradients(caplog: pytest.LogCaptureFixture) -> None:
    programs = Programs()
    words = ("generator.widths=[8]", "discriminator.widths=[8]")
    with caplog.at_level(logging.INFO, "twoplayer"):
        ours = played("digits", programs, *words)
    assert_same(ours, played("digits", None, *words))
    assert programs.found["both players"]
    assert programs.seconds > 0.0
    said = [each.message for each in caplog.records if each.name == "twoplayer"]
    assert [each.split(" in ")[0].split(",")[0] for each in said] == 2 * ["compile: both players"], "before and after"


def test_the_plain_way_compiles_with_its_second_derivatives() -> None:
    programs = Programs(AS_IT_IS)
    words = ("fast=false", "discriminator.dropout=0.0")
    assert_same(played("mnist-wgan-gp", programs, *words), played("mnist-wgan-gp", None, *words))
    assert programs.found["both players"]


def test_a_number_of_python_does_not_become_a_constant(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It would be another one in each step; the move is then played as it is."""
    plain = Plain.discriminator
    factors: list[float] = []

    def factor_of(step: Stream) -> float:
        return 0.5 + step.child("factor").derived_seed() % 1000 / 1000

    def restless(self: Plain, real: Batch, stream: Stream) -> object:
        base = getattr(stream, "draws", None)
        factors.append(factor_of(base.base if base else stream))
        return plain(self, replace(real, images=real.images * factors[-1]), stream)

    monkeypatch.setattr(Plain, "discriminator", restless)
    programs = Programs(AS_IT_IS)
    ours = played("mnist-improved", programs)
    assert programs.found["the discriminator"] is None
    assert programs.found["the generator"]
    assert "the discriminator is not compiled: its results are" in caplog.text
    assert_same(ours, played("mnist-improved", None))
    assert len(set(factors)) >= 3


def test_batches_of_another_size_are_played_as_they_are() -> None:
    def size(step: int) -> int:
        return 4 if step == 1 else 6

    programs = Programs(AS_IT_IS)
    assert_same(played("digits", programs, size=size), played("digits", None, size=size))


def test_what_auto_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long runs of small dense players, where there is a compiler."""
    dense, convolutional = state_of("digits", None)[0].game, state_of("mnist-wgan-gp", None)[0].game
    assert compiling_pays(dense, 20_000) == has_compiler()
    assert not compiling_pays(dense, 3_000)
    assert not compiling_pays(convolutional, 1_000_000)
    assert is_compiled(convolutional, True, 1)
    assert not is_compiled(dense, False, 1_000_000)
    wide = load_recipe("digits", parse_overrides(["discriminator.widths=[1024, 1024]"]))
    assert not compiling_pays(new_state(wide, (1, 8, 8), 10, CPU).game, 1_000_000)
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert not compiling_pays(dense, 1_000_000)
