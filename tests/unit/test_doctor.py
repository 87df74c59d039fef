"""The doctor names what was put into a log, and says nothing about a healthy one."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.conftest import random_images
from twoplayer.core.batch import to_float
from twoplayer.core.rng import Stream
from twoplayer.core.verdict import Verdict
from twoplayer.data.batches import IndexedBatches
from twoplayer.data.images import ImageData
from twoplayer.evaluation import vitals
from twoplayer.evaluation.doctor import diagnose, remarks
from twoplayer.evaluation.findings import LEAST_ROWS, Finding
from twoplayer.evaluation.pair_scores import with_pair_scores
from twoplayer.evaluation.remedies import REMEDIES, prescribed
from twoplayer.latents.normal import NormalLatents
from twoplayer.recipes.load import check, load_recipe, merge, parse_overrides, recipe_names

RECIPE = load_recipe("digits")

Course = float | None | Callable[[float], float]
"""A figure over a training: always the same, or from a place in [0, 1] to the value there."""


def at(course: Course, place: float) -> float | None:
    """The figure at a place of the training."""
    return course(place) if callable(course) else course


HEALTHY: dict[str, Course] = {
    "loss/generator": 0.9,
    "loss/discriminator": 1.2,
    "loss/real": 0.6,
    "loss/fake": 0.6,
    "score/generator": lambda t: 0.45 + 0.03 * math.sin(50 * t),
    "score/discriminator": 0.55,
    "gradient/generator": lambda t: 1.0 + 0.2 * math.sin(70 * t),
    vitals.DIVERSITY: 0.9,
    vitals.DIVERSITY_IN_CLASSES: 0.8,
    vitals.COVERAGE: 0.8,
    vitals.LOGIT_TRAIN: 0.4,
    vitals.LOGIT_HELD_OUT: 0.35,
    vitals.LOGIT_FAKE: -0.4,
    vitals.NEARNESS: 1.1,
}

FAULTS: dict[str, dict[str, Course]] = {
    "discriminator dominates": {
        "score/generator": lambda t: 0.4 if t < 0.5 else 0.01,
        "score/discriminator": lambda t: 0.55 if t < 0.5 else 0.99,
    },
    "generator dominates": {"score/generator": lambda t: 0.5 if t < 0.5 else 0.97},
    "mode collapse, total": {vitals.DIVERSITY: lambda t: 0.9 if t < 0.5 else 0.01},
    "mode collapse, partial": {vitals.DIVERSITY: lambda t: 0.9 if t < 0.5 else 0.3},
    "mode collapse, within classes": {vitals.DIVERSITY_IN_CLASSES: lambda t: 0.8 if t < 0.5 else 0.02},
    "memorization": {vitals.NEARNESS: lambda t: 1.1 if t < 0.5 else 0.1},
    "discriminator overfitting": {vitals.LOGIT_HELD_OUT: lambda t: 0.35 if t < 0.5 else -0.6},
    "vanishing generator gradient": {"gradient/generator": lambda t: 1.0 if t < 0.5 else 1e-8},
    "exploding generator gradient": {"gradient/generator": lambda t: 1.0 if t < 0.5 else 5e3},
    "divergence": {"loss/discriminator": lambda t: 1.2 if t < 0.5 else 300.0},
    "oscillation": {"score/generator": lambda t: 0.45 if t < 0.4 else 0.45 + 0.4 * math.sin(100 * t)},
}


def log(changes: dict[str, Course] | None = None, lines: int = 100) -> list[dict[str, Any]]:
    """A log whose vital signs stand in every fifth line."""
    rows = []
    for number in range(1, lines + 1):
        row: dict[str, Any] = {"step": 10 * number}
        for key, value in (HEALTHY | (changes or {})).items():
            if not key.startswith("vitals/") or number % 5 == 0:
                row[key] = at(value, number / lines)
        rows.append(row)
    return rows


def named(rows: list[dict[str, Any]], figures: dict[str, Any] | None = None) -> tuple[Finding, ...]:
    """What the doctor finds in a run of `digits`."""
    return diagnose(rows, RECIPE, figures).findings


def test_a_healthy_log_is_called_healthy() -> None:
    said = diagnose(log(), RECIPE)
    assert said.findings == ()
    assert said.not_examined == ()
    assert said.words == "healthy, as far as can be seen"


def test_what_was_not_examined_is_said() -> None:
    assert "8" in diagnose(log(lines=3), RECIPE).not_examined[0]
    unseen = diagnose(log({vitals.NEARNESS: None}), RECIPE)
    assert unseen.not_examined == ("memorization, overfitting of D (no held-out images)",)
    hinge = load_recipe("digits", parse_overrides(["objective={name: hinge}"]))
    assert "no scores" in diagnose(log(), hinge).not_examined[0]


def test_a_training_that_diverged_is_said_to_have_however_short() -> None:
    said = diagnose(log(lines=3), RECIPE, failure={"step": 38, "words": "loss is NaN"})
    assert [(found.name, found.since, found.evidence) for found in said.findings] == [("divergence", 38, "loss is NaN")]
    assert len(said.findings[0].remedies) >= 2


def test_who_dominates_does_not_matter_to_a_generator_that_matches_features() -> None:
    matching = load_recipe("digits", parse_overrides(["objective={name: feature-matching}"]))
    rows = log(FAULTS["discriminator dominates"])
    assert diagnose(rows, matching).findings == ()
    assert len(named(rows)) == 1


@pytest.mark.parametrize("recipe", recipe_names())
def test_every_remedy_that_is_shown_can_be_pasted_and_changes_something(recipe: str) -> None:
    own = load_recipe(recipe)
    shown = [line for name in REMEDIES for line in prescribed((name,), own)]
    assert len(shown) >= 5
    for line in shown:
        words = shlex.split(line, comments=True)
        assert check(merge(own.model_dump(mode="json"), parse_overrides(words))) != own
        assert "#" in line


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_since_it_began_with_numbers_and_something_to_try(fault: str) -> None:
    (found,) = named(log(FAULTS[fault]))
    assert found.name == fault
    assert 380 <= found.since <= 560, "it began in the middle of 1,000 steps"
    assert 0.5 <= found.sure <= 1.0
    assert any(character.isdigit() for character in found.evidence)
    assert 1 <= len(found.remedies) <= 3
    for remedy in found.remedies:
        words = shlex.split(remedy, comments=True)
        assert check(merge(RECIPE.model_dump(mode="json"), parse_overrides(words))) != RECIPE, "it can be pasted"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_went_away_is_not_named(fault: str) -> None:
    def early(course: Course) -> Course:
        return lambda t: at(course, 1.0 if t < 0.2 else 0.0)

    changes = {key: early(course) for key, course in FAULTS[fault].items()}
    assert fault not in {found.name for found in named(log(changes))}


def test_an_unbounded_discriminator_that_drifts() -> None:
    unscored: dict[str, Any] = {"score/generator": None, "score/discriminator": None}

    def rows(level: Course) -> list[dict[str, Any]]:
        made = log({"loss/real": lambda t: -at(level, t) - 1.0, "loss/fake": lambda t: at(level, t) - 1.0})
        return [row | unscored for row in made]

    assert named(rows(3.0)) == ()
    (found,) = named(rows(lambda t: 5000.0 * t**3))
    assert found.name == "drift of an unbounded discriminator"
    assert named(rows(500.0)) == (), "a level that stays is none of its business"


PAIRS = load_recipe("digits", parse_overrides(["objective={name: relativistic}"]))

PAIR_FAULTS: dict[str, dict[str, Course]] = {
    "discriminator dominates": {"loss/generator": lambda t: 0.8 if t < 0.5 else 9.0},
    "generator dominates": {"loss/generator": lambda t: 0.7 if t < 0.5 else 0.05},
    "divergence": {"loss/discriminator": lambda t: 0.7 if t < 0.5 else 4.0},
    "oscillation": {"loss/generator": lambda t: 0.9 + 0.8 * math.sin(100 * t)},
    "drift of an unbounded discriminator": {
        vitals.LOGIT_TRAIN: lambda t: 5000.0 * t**3,
        vitals.LOGIT_HELD_OUT: lambda t: 5000.0 * t**3,
        vitals.LOGIT_FAKE: lambda t: 5000.0 * t**3 - 1.0,
    },
}


def log_of_pairs(changes: dict[str, Course]) -> list[dict[str, Any]]:
    """What a relativistic game logs: no parts, no scores; the loss of D with its penalty."""
    healthy: dict[str, Course] = {"loss/generator": 0.75, "loss/discriminator": 0.72, "penalty/r1": 0.05}
    unlogged = {"loss/real": None, "loss/fake": None, "score/generator": None, "score/discriminator": None}
    return [row | unlogged for row in log(healthy | changes)]


def test_a_healthy_game_of_pairs_is_examined() -> None:
    said = diagnose(log_of_pairs({}), PAIRS)
    assert (said.findings, said.not_examined) == ((), ())


@pytest.mark.parametrize("fault", PAIR_FAULTS)
def test_faults_of_games_of_pairs(fault: str) -> None:
    (found,) = diagnose(log_of_pairs(PAIR_FAULTS[fault]), PAIRS).findings
    assert found.name == fault


def test_penalties_are_no_part_of_a_score() -> None:
    row = {"step": 1, "loss/generator": 1.0, "loss/discriminator": 3.0, "penalty/r1": 1.5, "penalty/r2": None}
    row |= {"penalty/auxiliary-classifier/generator": 0.5, "penalty/auxiliary-classifier/discriminator": 0.25}
    (scored,) = with_pair_scores([row])
    assert scored["score/generator"] == pytest.approx(math.exp(-0.5))
    assert scored["score/discriminator"] == pytest.approx(math.exp(-1.25))


def test_causes_stand_before_symptoms() -> None:
    found = named(log(FAULTS["mode collapse, total"] | FAULTS["generator dominates"]))
    assert [one.name for one in found] == ["generator dominates", "mode collapse, total"]


def test_too_short_a_log_is_not_judged() -> None:
    assert named(log(FAULTS["divergence"], lines=LEAST_ROWS - 1)) == ()
    assert named([]) == ()


def test_remarks_are_made_once() -> None:
    said = remarks(RECIPE)
    whole = log(FAULTS["discriminator dominates"])
    assert said(whole[:50]) == []
    (line,) = said(whole)
    assert line.startswith("doctor: discriminator dominates: generator score 0.010")
    assert said(whole) == []
    assert said(log()) == ["doctor: no longer discriminator dominates"]


class _Copies(torch.nn.Module):
    """Draws the given images in turn, whatever the latents."""

    def __init__(self, images: torch.Tensor) -> None:
        super().__init__()
        self.images = images

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return self.images[torch.arange(len(latents)) % len(self.images)]


class _Tone(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> Verdict:
        return Verdict(images.flatten(1).mean(1))


def test_vital_signs() -> None:
    train, other, fresh = (random_images(400, seed=seed) for seed in range(3))
    batches, held_out = (
        IndexedBatches(ImageData(images, "test"), 1, Stream(0), torch.device("cpu")) for images in (train, other)
    )
    probe = vitals.vitals_probe(batches, lambda: held_out, NormalLatents(dim=3), vitals.Told(), seed=0)
    good = probe(_Copies(to_float(fresh)), _Tone())
    assert good == probe(_Copies(to_float(fresh)), _Tone())
    assert good[vitals.DIVERSITY] == pytest.approx(1.0, abs=0.1)
    assert good[vitals.COVERAGE] > 0.9
    assert good[vitals.NEARNESS] == pytest.approx(1.0, abs=0.05)
    assert good[vitals.LOGIT_TRAIN] == pytest.approx(good[vitals.LOGIT_HELD_OUT], abs=0.02)
    copies = probe(_Copies(to_float(train)), _Tone())
    assert copies[vitals.NEARNESS] == pytest.approx(0.0, abs=1e-3)
    alike = probe(_Copies(to_float(fresh[:1])), _Tone())
    assert alike[vitals.DIVERSITY] == 0.0
    assert alike[vitals.COVERAGE] < 0.2
    dark = probe(_Copies(torch.full((1, 1, 8, 8), -1.0)), _Tone())
    assert dark[vitals.LOGIT_FAKE] == -1.0
    without = vitals.vitals_probe(batches, lambda: None, NormalLatents(dim=3), vitals.Told(), seed=0)(
        _Copies(to_float(fresh)), _Tone()
    )
    assert not {vitals.NEARNESS, vitals.LOGIT_HELD_OUT} & without.keys()


def test_fakes_of_one_class_may_be_alike_though_the_classes_differ() -> None:
    images, labels = random_images(400), torch.arange(400) % 10
    batches = IndexedBatches(ImageData(images, "test", labels=labels), 1, Stream(0), torch.device("cpu"))
    told = vitals.Told(generator=("labels",))
    probe = vitals.vitals_probe(batches, lambda: None, NormalLatents(dim=3), told, seed=0)

    class OfClass(torch.nn.Module):
        """One of the pictures for a class, always the same or one after the other."""

        def __init__(self, *, varied: bool) -> None:
            super().__init__()
            self.varied, self.images = varied, to_float(random_images(400, seed=1))

        def forward(self, latents: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            labels = labels % 10
            return self.images[labels + (10 * (torch.arange(len(labels)) % 40) if self.varied else 0)]

    varied, alike = probe(OfClass(varied=True), _Tone()), probe(OfClass(varied=False), _Tone())
    assert varied[vitals.DIVERSITY_IN_CLASSES] == pytest.approx(1.0, abs=0.1)
    assert alike[vitals.DIVERSITY] > 0.7
    assert alike[vitals.DIVERSITY_IN_CLASSES] == pytest.approx(0.0, abs=1e-12)
    same = images[:10].repeat(40, 1, 1, 1)
    nothing_varies = IndexedBatches(ImageData(same, "test", labels=labels), 1, Stream(0), torch.device("cpu"))
    probe = vitals.vitals_probe(nothing_varies, lambda: None, NormalLatents(dim=3), told, seed=0)
    assert vitals.DIVERSITY_IN_CLASSES not in probe(OfClass(varied=False), _Tone())
    one_each = IndexedBatches(ImageData(images, "test", labels=torch.arange(400)), 1, Stream(0), torch.device("cpu"))
    probe = vitals.vitals_probe(one_each, lambda: None, NormalLatents(dim=3), told, seed=0)
    assert vitals.DIVERSITY_IN_CLASSES not in probe(OfClass(varied=True), _Tone())


def test_a_collapse_within_classes_is_told_from_a_partial_one() -> None:
    (found,) = named(log({vitals.DIVERSITY: 0.4, vitals.DIVERSITY_IN_CLASSES: 0.01}))
    assert found.name == "mode collapse, within classes"
    assert "told one class differ 0.01 times" in found.evidence
    (found,) = named(log({vitals.DIVERSITY_IN_CLASSES: 0.01, vitals.COVERAGE: 0.03}))
    assert found.name == "mode collapse, within classes", "and not that they are varied"
    told = load_recipe("digits-cgan")
    assert diagnose(log(), told).not_examined == ()
    assert "within classes" in diagnose(log({vitals.DIVERSITY_IN_CLASSES: None}), told).not_examined[0]
    blind = diagnose(log(dict.fromkeys((each for each in HEALTHY if each.startswith("vitals/")), None)), told)
    assert blind.not_examined == ("pictures (no vital signs in the log)",)
    assert named(log({vitals.DIVERSITY: 0.4, vitals.DIVERSITY_IN_CLASSES: 0.4}))[0].name == "mode collapse, partial"
    assert named(log({vitals.DIVERSITY: 0.01, vitals.DIVERSITY_IN_CLASSES: 0.0}))[0].name == "mode collapse, total"


def test_varied_fakes_that_are_near_nothing_and_stay_so() -> None:
    (found,) = named(log(HEALTHY | {vitals.COVERAGE: 0.03}))
    assert found.name == "fakes unlike real images"
    assert "only 3% of the real images" in found.evidence
    assert named(log(HEALTHY | {vitals.COVERAGE: lambda t: 0.09 * t**2})) == (), "it is getting better"


def test_missing_classes_are_named() -> None:
    real = dict.fromkeys("0123456789", 0.1)
    shares = {"n_fake": 500, "seeds": 2, "real_shares": real}
    found = {"class-shares_x": shares | {"shares": real | {"3": 0.0, "7": 0.005, "0": 0.195}}}
    (alone,) = named(log(HEALTHY), found)
    assert alone.name == "mode collapse, partial"
    assert "hardly any fake shows 3, 7 (2 of 10 classes)" in alone.evidence
    (known,) = named(log(HEALTHY | {vitals.DIVERSITY: 0.3}), found)
    assert known.name == "mode collapse, partial"
    assert "fakes differ 0.30 times" in known.evidence
    assert "shows 3, 7" in known.evidence
    assert named(log(HEALTHY), {"class-shares_x": shares | {"shares": real}}) == ()
    few = {name: figure | {"n_fake": 50} for name, figure in found.items()}
    assert named(log(HEALTHY), few) == (), "ten fakes of each class may miss one by chance"
