"""Several processes train one game: the same run as one process with the same global batch."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed

import twoplayer as tp
from tests.conftest import TINY
from tests.ranks_together import (
    SECONDS,
    STEPS,
    TRAIN,
    WORDS,
    digits,
    killed,
    largest_difference,
    launched,
    own_pieces,
    same,
    together,
    trained,
    with_class_logits,
)
from twoplayer.core.augmentation import Augmentation
from twoplayer.core.errors import UserError
from twoplayer.core.protocols import Objective, Regularizer
from twoplayer.core.ranks import ALONE, Ranks
from twoplayer.core.rng import Stream
from twoplayer.recipes.load import load_recipe, parse_overrides
from twoplayer.runs.folder import RunFolder
from twoplayer.training import resuming
from twoplayer.training.checkpoint import read_newest

RULES = [
    "objective.name=hinge",
    "objective.name=wasserstein",
    "objective.name=least-squares",
    "objective.name=relativistic",
    "objective.name=feature-matching",
    "objective={name: minimax, flip_probability: 0.2, real_target: [0.7, 1.2]}",
    "regularizers=[{name: gradient-penalty}]",
    "regularizers=[{name: r1}, {name: r2}]",
    "regularizers=[{name: dragan}]",
    "regularizers=[{name: weight-clipping}]",
    "regularizers=[{name: historical-averaging}]",
    "regularizers=[{name: spectral-normalization}]",
    "play.name=alternating",
    "augmentation={name: diffaugment}",
    "augmentation={name: adaptive, every: 2, kimg: 1}",
    "regularizers=[{name: r1, gamma: {name: cosine, start: 1, end: 0.1, kimg: 0.2}}]",
    "fast=false",
]


@pytest.mark.parametrize(
    "words", [*((rule,) for rule in RULES), ("augmentation={name: adaptive}", "fast=false")], ids=" ".join
)
def test_two_ranks_are_one_process_for_every_rule(words: tuple[str, ...], tmp_path: Path) -> None:
    recipe = digits(*words)
    alone = trained(recipe, (1, 8, 8), ALONE)
    found = together(2, tmp_path / "ranks", lambda ranks: trained(recipe, (1, 8, 8), ranks))
    for each in found:
        same(each, alone)
    assert largest_difference(found[0]["state"], found[1]["state"]) == 0.0


@pytest.mark.parametrize("count", [2, 4])
def test_ranks_follow_the_same_overfitting_of_held_out_images(count: int, tmp_path: Path) -> None:
    recipe = digits(
        "augmentation={name: adaptive, every: 2, kimg: 1, start: 0.5}", "data.split=train", "data.flip=true"
    )
    alone = trained(recipe, (1, 8, 8), ALONE)
    assert alone["lines"][0]["augmentation/overfitting"] != 0.0
    for each in together(count, tmp_path / "ranks", lambda ranks: trained(recipe, (1, 8, 8), ranks)):
        same(each, alone)


def test_every_piece_was_compared() -> None:
    pieces = {name for kind in (Objective, Regularizer, Augmentation) for name in own_pieces(kind)}
    said = " ".join(RULES)
    left = {name for name in pieces if f"name={name}" not in said and f"name: {name}" not in said}
    assert left == {"semi-supervised", "auxiliary-classifier"}  # below


@pytest.mark.parametrize("count", [2, 4])
def test_semi_supervised_ranks_are_one_process(count: int, tmp_path: Path) -> None:
    silent = ["discriminator.input_noise=0", "discriminator.hidden_noise=0"]
    words = ["batch_size=24", "batch_statistics=synchronized", "data.flip=true", *silent]
    recipe = load_recipe("digits-semi-supervised", parse_overrides(words))
    alone = trained(recipe, (1, 8, 8), ALONE)
    assert "loss/labeled" in alone["lines"][0]
    for each in together(count, tmp_path / "ranks", lambda ranks: trained(recipe, (1, 8, 8), ranks)):
        same(each, alone)


@pytest.mark.parametrize("play", ["simultaneous", "alternating"])
def test_each_player_costs_one_exchange_a_step(play: str, tmp_path: Path) -> None:
    recipe = digits(f"play.name={play}", "generator.batch_norm=true", "regularizers=[{name: r1}]")
    all_reduce = distributed.all_reduce

    def sizes(ranks: Ranks) -> list[int]:
        found: list[int] = []
        distributed.all_reduce = lambda tensor: (found.append(tensor.numel()), all_reduce(tensor))
        trained(recipe, (1, 8, 8), ranks)
        return found

    for found in together(2, tmp_path / "ranks", sizes):
        large = [size for size in found if size > 100]
        assert len(large) == 2 * STEPS
        assert len(found) - len(large) <= 4  # lines of the log, and whether to stop


def test_two_ranks_are_one_process_for_an_auxiliary_classifier(tmp_path: Path) -> None:
    recipe = with_class_logits()
    alone = trained(recipe, (1, 8, 8), ALONE)
    for each in together(2, tmp_path / "ranks", lambda ranks: trained(recipe, (1, 8, 8), ranks)):
        same(each, alone)


def test_four_ranks_are_one_process(tmp_path: Path) -> None:
    recipe = digits("regularizers=[{name: gradient-penalty}]", "data.flip=true")
    alone = trained(recipe, (1, 8, 8), ALONE)
    for each in together(4, tmp_path / "ranks", lambda ranks: trained(recipe, (1, 8, 8), ranks)):
        same(each, alone)


def test_another_number_of_ranks_goes_on_as_one_process_would(tmp_path: Path) -> None:
    recipe = digits("regularizers=[{name: gradient-penalty}]", "data.flip=true")
    alone = trained(recipe, (1, 8, 8), ALONE)
    two = together(2, tmp_path / "two", lambda ranks: trained(recipe, (1, 8, 8), ranks, steps=5))
    for each in together(3, tmp_path / "three", lambda ranks: trained(recipe, (1, 8, 8), ranks, STEPS, two[1])):
        same({"state": each["state"], "lines": two[0]["lines"] + each["lines"]}, alone)


def test_a_compiled_run_goes_on_uncompiled_with_several_processes(tmp_path: Path) -> None:
    begun = trained(digits(), (1, 8, 8), ALONE, steps=5)
    begun["state"]["compiled"] = True
    for each in together(2, tmp_path / "two", lambda ranks: trained(digits(), (1, 8, 8), ranks, STEPS, begun)):
        assert each["state"]["compiled"] is False


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(UserError, match="batch_size=25 cannot be shared equally by 2"):
        Ranks(1, 2).rows(25)


def test_shares_of_a_stream_are_its_rows() -> None:
    stream = Stream(3).child("latents")
    whole = stream.normal((12, 5))
    parts = [stream.shared(rank, 3).normal((4, 5)) for rank in range(3)]
    assert torch.equal(torch.cat(parts), whole)
    nested = [stream.shared(rank, 3).shared(part, 2).uniform((2,)) for rank in range(3) for part in range(2)]
    assert torch.equal(torch.cat(nested), stream.uniform((12,)))
    assert torch.equal(stream.shared(2, 3).permutation(7), stream.permutation(7))


def finished(ranks: list[subprocess.Popen[str]]) -> list[tuple[str, str]]:
    """What each said on stdout and stderr."""
    try:
        said = [rank.communicate(timeout=3 * SECONDS) for rank in ranks]
        assert [rank.returncode for rank in ranks] == [0] * len(ranks), said
        return said
    finally:
        killed(ranks)


def test_other_processes_go_on_where_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = tp.train("digits", *TINY, out=tmp_path / "run", device="cpu", quiet=True)

    def of_two_processes(folder: RunFolder) -> Any:
        tree, facts = read_newest(folder) or ({}, {})
        return tree, facts | {"processes": 2}

    monkeypatch.setattr(resuming, "read_newest", of_two_processes)
    again: dict[str, Any] = {"out": run.path, "resume": True, "device": "cpu", "quiet": True, "steps": 8}
    with pytest.raises(UserError, match=r"trained by 2 processes together, not 1.* or say --other-processes"):
        tp.train(**again)
    tp.train(**again, other_processes=True)
    assert environment(run.path)["processes"] == [{"after_step": 0, "processes": 2}, {"after_step": 6, "processes": 1}]
    assert "goes on with 1 processes instead of 2" in caplog.text
    assert "batch statistics are of 16 images instead of 8" in caplog.text
    with pytest.raises(UserError, match="it belongs to --resume"):
        tp.train("digits", other_processes=True)


@pytest.mark.slow
def test_two_processes_train_resume_and_write_once(tmp_path: Path) -> None:
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    said = finished(launched(2, [*TRAIN, *WORDS, "steps=20", "--out", str(run)], last=["--out", str(elsewhere)]))
    assert "report" in said[0][0]
    assert said[1] == ("", "")
    assert not elsewhere.exists()
    tp.train(*WORDS, "steps=40", out=tmp_path / "alone", device="cpu", quiet=True)
    assert [row["step"] for row in tp.load(run).metrics] == [10, 20]
    with pytest.raises(UserError, match=r"trained by 2 processes together, not 1.*--other-processes"):
        tp.train(out=run, resume=True, device="cpu", quiet=True)
    finished(launched(2, [*TRAIN, "steps=30", "--resume", "--out", str(run)]))
    assert environment(run)["processes"] == 2
    tp.train(out=run, resume=True, other_processes=True, steps=40, device="cpu", quiet=True)
    assert environment(run)["processes"] == [{"after_step": 0, "processes": 2}, {"after_step": 30, "processes": 1}]
    found, whole = (read_newest(RunFolder(tmp_path / name)) for name in ("run", "alone"))
    assert found is not None
    assert whole is not None
    assert found[0]["processes"] == {0: 2, 30: 1}
    assert found[0]["step"] == whole[0]["step"] == 40
    for part in ("generator", "discriminator", "average"):
        assert largest_difference(found[0][part], whole[0][part]) < 1e-5


def environment(run: Path) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(RunFolder(run).environment.read_text())
    return said
