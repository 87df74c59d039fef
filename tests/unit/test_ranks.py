"""Several processes train one game: the same run as one process with the same global batch."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
import torch

import twoplayer as tp
from tests.ranks_together import SECONDS, digits, launched, same, together, trained
from twoplayer.core.errors import UserError
from twoplayer.core.ranks import ALONE, Ranks
from twoplayer.core.rng import Stream
from twoplayer.runs.folder import RunFolder

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


@pytest.mark.parametrize("rule", RULES)
def test_two_ranks_are_one_process_for_every_rule(rule: str, tmp_path: Path) -> None:
    recipe = digits(rule)
    alone = trained(recipe, (1, 8, 8), ALONE)
    for each in together(2, tmp_path / "ranks", lambda ranks: trained(recipe, (1, 8, 8), ranks)):
        same(each, alone)


def test_four_ranks_are_one_process(tmp_path: Path) -> None:
    recipe = digits("regularizers=[{name: gradient-penalty}]", "data.flip=true")
    alone = trained(recipe, (1, 8, 8), ALONE)
    for each in together(4, tmp_path / "ranks", lambda ranks: trained(recipe, (1, 8, 8), ranks)):
        same(each, alone)


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


WORDS = ["digits", "batch_size=32", "generator.batch_norm=false", "steps=20", "log_every=10", "checkpoint_every=10"]


@pytest.mark.slow
def test_two_processes_train_resume_and_write_once(tmp_path: Path) -> None:
    ranks = launched(2, [*WORDS, "--out", str(tmp_path / "run")])
    said = [rank.communicate(timeout=120) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], said
    assert "report" in said[0][0]
    assert said[1][0] == ""
    tp.train(*WORDS, out=tmp_path / "alone", device="cpu", quiet=True)
    both = [tp.load(tmp_path / name) for name in ("run", "alone")]
    assert [row["step"] for row in both[0].metrics] == [10, 20]
    assert (both[0].sample(8).float() - both[1].sample(8).float()).abs().max() <= 1.0  # of 255
    with pytest.raises(UserError, match="trained by 2 processes together, not 1"):
        tp.train(out=tmp_path / "run", resume=True, device="cpu", quiet=True)
    longer = ["steps=30", "--resume", "--out", str(tmp_path / "run")]
    ranks = launched(2, longer)
    said = [rank.communicate(timeout=120) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], said
    assert tp.load(tmp_path / "run").metrics[-1]["step"] == 30


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_dies_ends_the_others_with_its_name(victim: int, number: signal.Signals, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    ranks = launched(2, [*WORDS, "steps=1000000", "--out", str(run.path)])
    try:
        deadline = time.monotonic() + SECONDS
        while not run.metrics.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        begun = time.monotonic()
        ranks[victim].send_signal(number)
        _, said = ranks[1 - victim].communicate(timeout=SECONDS)
        assert time.monotonic() - begun < 30.0
        assert ranks[1 - victim].returncode == 1
        if victim == 1:
            assert f"rank 1 (process {ranks[1].pid} on" in said
    finally:
        for rank in ranks:
            rank.kill()
            rank.communicate()
