"""How many threads a training uses."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from twoplayer.recipes.load import load_recipe
from twoplayer.training.state import new_state
from twoplayer.training.step import Game
from twoplayer.training.threads import are_small, fitting_threads

SEVERAL = 3


@pytest.fixture(autouse=True)
def several(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    torch.set_num_threads(SEVERAL)
    yield
    torch.set_num_threads(before)


def game_of(recipe: str) -> tuple[Game, int]:
    found = load_recipe(recipe)
    return new_state(found, (1, 8, 8) if recipe == "digits" else (1, 28, 28), 10, torch.device("cpu")).game, 64


def test_small_players_play_on_one_thread_and_leave_the_others_as_they_were() -> None:
    seen = []

    def plays_and_fails() -> None:
        with fitting_threads(*game_of("digits")):
            seen.append(torch.get_num_threads())
            raise RuntimeError("within")

    with pytest.raises(RuntimeError, match="within"):
        plays_and_fails()
    assert [*seen, torch.get_num_threads()] == [1, SEVERAL]


@pytest.mark.parametrize("recipe", ["mnist-tanh-gan", "mnist-dcgan"])
def test_large_and_convolutional_players_use_what_there_is(recipe: str) -> None:
    with fitting_threads(*game_of(recipe)):
        assert torch.get_num_threads() == SEVERAL


def test_who_chose_a_number_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", str(SEVERAL))
    with fitting_threads(*game_of("digits")):
        assert torch.get_num_threads() == SEVERAL


def test_a_large_batch_makes_small_players_large() -> None:
    game, batch_size = game_of("digits")
    assert are_small(game, batch_size)
    assert not are_small(game, 100 * batch_size)
