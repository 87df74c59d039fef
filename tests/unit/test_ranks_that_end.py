"""How several processes end: together in good order, or all because one is gone."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

import twoplayer as tp
from tests.conftest import TINY
from tests.ranks_together import SECONDS, TRAIN, WORDS, killed, launched, together
from twoplayer.api import own_accelerator
from twoplayer.core.errors import UserError
from twoplayer.runs.folder import RunFolder


def until_there(path: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_dies_ends_the_others_with_its_name(victim: int, number: signal.Signals, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    ranks = launched(2, [*TRAIN, *WORDS, "steps=1000000", "--out", str(run.path)])
    try:
        until_there(run.metrics)
        begun = time.monotonic()
        ranks[victim].send_signal(number)
        _, said = ranks[1 - victim].communicate(timeout=SECONDS)
        assert time.monotonic() - begun < 30.0
        assert ranks[1 - victim].returncode == 1
        name = f"rank 1 (process {ranks[1].pid} on" if victim == 1 else "(rank 0, or its launcher) ended or hangs"
        assert name in said
    finally:
        killed(ranks)


FAILING = """
import time
import torch
from twoplayer.core.joining import joined
with joined(torch.device("cpu")) as ranks:
    if ranks.index == 1:
        print(time.time(), flush=True)
        raise ValueError("broken")
    ranks.any(True)
"""


@pytest.mark.slow
def test_a_process_that_fails_is_named_with_its_error() -> None:
    ranks = launched(2, ["-c", FAILING])
    try:
        _, said = ranks[0].communicate(timeout=SECONDS)
        now = time.time()
        failed, _ = ranks[1].communicate(timeout=SECONDS)
    finally:
        killed(ranks)
    assert now - float(failed) < 30.0
    assert [rank.returncode for rank in ranks] == [1, 1]
    assert f"rank 1 (process {ranks[1].pid} on" in said
    assert "ended (ValueError: broken); this one (rank 0) ends too" in said


SLOW = """
import time
from twoplayer.cli.main import main
from twoplayer.training.recorder import Recorder

saved = Recorder.on_checkpoint

def slowly(*given, **how):
    if not how["scheduled"]:
        time.sleep(6.0)
    saved(*given, **how)

Recorder.on_checkpoint = slowly
main()
"""
"""A disk on which a checkpoint takes longer than the others may live on after one has ended."""


@pytest.mark.slow
def test_a_signal_ends_all_when_the_first_has_saved(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    ranks = launched(2, ["-c", SLOW, *TRAIN[2:], *WORDS, "steps=1000000", "--out", str(run.path)])
    try:
        until_there(run.metrics)
        for rank in ranks:
            rank.send_signal(signal.SIGTERM)
        said = [rank.communicate(timeout=SECONDS)[1] for rank in ranks]
    finally:
        killed(ranks)
    assert [rank.returncode for rank in ranks] == [130, 130], said
    assert "go on with: twoplayer train --resume" in said[0]
    assert (run.path / "report.html").is_file()
    stopped = int(said[0].split("stopped after step ")[1].split(";")[0])
    assert stopped in tp.load(run.path).steps


@pytest.mark.slow
def test_a_divergence_ends_all_alike(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    wild = [f"optimizers.{role}.learning_rate=1e6" for role in ("generator", "discriminator")]
    ranks = launched(2, [*TRAIN, *WORDS, *wild, "steps=100", "--out", str(run.path)])
    try:
        said = [rank.communicate(timeout=SECONDS)[1] for rank in ranks]
    finally:
        killed(ranks)
    assert [rank.returncode for rank in ranks] == [3, 3], said
    assert json.loads(run.failure.read_text())["step"] <= 100
    assert (run.path / "report.html").is_file()


@pytest.mark.slow
def test_who_cannot_load_the_generator_ends_the_others(tiny_run: tp.Run, tmp_path: Path) -> None:
    words = ["-m", "twoplayer", "sample", str(tiny_run.path), "-n", "10", "--out", f"shards:{tmp_path / 'out'}"]
    ranks = launched(2, words, last=["--device", "abacus"])
    try:
        said = [rank.communicate(timeout=SECONDS)[1] for rank in ranks]
    finally:
        killed(ranks)
    assert [rank.returncode for rank in ranks] == [1, 2]
    assert "device 'abacus' cannot be used here" in said[1]
    assert f"rank 1 (process {ranks[1].pid} on" in said[0]


def test_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "6")
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert own_accelerator(4) == 2
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert own_accelerator(4) == 3
    assert own_accelerator(1) == 0
    with pytest.raises(UserError, match="process 3 of this machine has no GPU: 2 are visible"):
        own_accelerator(2)


def test_processes_that_read_other_generators_write_no_shards(tiny_run: tp.Run, tmp_path: Path) -> None:
    other = tp.train("digits", *TINY, "seed=1", out=tmp_path / "other", device="cpu", quiet=True)

    def write(ranks: object) -> str:
        try:
            (tiny_run, other)[ranks.index].write_shards(tmp_path / "out", 10, ranks=ranks)
        except UserError as error:
            return str(error)
        return ""

    said = together(2, tmp_path / "ranks", write)
    assert all("not all processes read the same generator" in words for words in said)
    assert not (tmp_path / "out").exists()
