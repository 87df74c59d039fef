"""What the Learn tab makes of a visitor's choices, how fast it plays, and what it tells the page."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("gradio")

from twoplayer.core.errors import UserError
from twoplayer.explore import learn, tables
from twoplayer.explore.choices import EXPERIMENTS, Choice, recipe_of
from twoplayer.explore.learn import choice_of, said_by
from twoplayer.explore.plane import Plane
from twoplayer.explore.tables import Table, Tables
from twoplayer.explore.told import told
from twoplayer.explore.words import LANGUAGES, say, translations


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_controls_say_every_experiment(name: str) -> None:
    choice = EXPERIMENTS[name]
    assert choice_of(*said_by(choice)) == choice
    assert recipe_of(choice).seed == choice.seed
    assert f"try-{name}" in translations()["zh"]


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (0, "circle", "unknown data"),
        (1, {"name": "minimax"}, "unknown objective"),
        (2, "r1; rm", "unknown regularizer"),
        (3, float("nan"), "strength"),
        (5, 1e300, "strength"),
        (7, None, "learning rate of G"),
        (8, "1", "learning rate of D"),
        (9, 1e9, "D steps"),
        (9, 1.5, "whole number"),
        (10, True, "seed"),
    ],
)
def test_what_the_controls_cannot_say_is_refused_in_words(place: int, value: Any, words: str) -> None:
    said = said_by(replace(Choice(), regularizers=(("r1", 0.1), ("r2", 0.1))))
    said[place] = value
    with pytest.raises(UserError, match=words):
        recipe_of(choice_of(*said))


def test_no_strength_is_the_usual_one() -> None:
    said = said_by(Choice())
    said[3] = None
    assert recipe_of(choice_of(*said)) == recipe_of(Choice())


def test_slow_motion_keeps_its_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    at, now = Table(Plane(Choice())), [100.0]
    at.rest()
    monkeypatch.setattr(tables, "SECONDS_OF_PLAY", 60.0)
    monkeypatch.setattr(tables.time, "monotonic", lambda: now[0])
    at.rest()
    played = []
    for _ in range(20):
        now[0] += 0.25
        played.append(at.tick(2.0))
    assert sum(played) == 10
    assert max(played) == 1
    now[0] += 3600.0
    assert at.tick(2.0) <= 3, "nobody looked for an hour: it is not made up for"


def test_full_speed_is_bounded_by_time() -> None:
    at = Table(Plane(Choice()))
    at.rest()
    at.tick(1.0)
    began = time.monotonic()
    assert at.tick(learn.SPEEDS[-1]) >= 1
    assert time.monotonic() - began < 5.0


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("choice", [Choice(), Choice("two-moons", "wasserstein", ())])
def test_what_is_told_is_json(choice: Choice, language: str) -> None:
    game = Plane(choice)
    game.move_discriminator()
    game.play(1)
    value = told(game.look(), lambda key, **values: say(language, key, **values))
    back = json.loads(json.dumps(value, allow_nan=False))
    assert back == value
    assert (back["step"], back["moves"]) == (1, 1)
    assert len(back["field"]) == back["side"] ** 2
    assert all(-1000 <= each <= 1000 for each in back["field"] + back["real"] + back["fake"])
    assert back["losses"][0][0] is None, "G had no loss yet"


def test_divergence_is_told_in_words() -> None:
    view = replace(Plane(Choice()).look(), diverged=7)
    for language, words in (("en", "diverged in step 7"), ("zh", "第 7 步发散")):
        assert words in told(view, lambda key, language=language, **values: say(language, key, **values))["said"]


def test_the_game_that_nobody_touched_for_longest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MOST_TABLES", 2)
    kept = Tables()
    first, second = (kept.open(Choice()).number for _ in range(2))
    assert kept.at(first) is not None
    third = kept.open(Choice()).number
    assert kept.at(second) is None
    assert kept.at(None) is None
    assert {kept.at(number).number for number in (first, third)} == {first, third}  # type: ignore[union-attr]
