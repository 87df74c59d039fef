"""Several processes train one game: the same run as one process with the same global batch."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed

import twoplayer as tp
from twoplayer.core.errors import UserError
from twoplayer.core.ranks import ALONE, Ranks
from twoplayer.core.rng import Stream
from twoplayer.core.stop import StopRequest
from twoplayer.data.batches import IndexedBatches
from twoplayer.data.images import ImageData
from twoplayer.recipes.load import load_recipe, parse_overrides
from twoplayer.recipes.schema import Recipe
from twoplayer.runs.folder import RunFolder
from twoplayer.training.loop import Schedule, train
from twoplayer.training.shares import Following
from twoplayer.training.state import TrainingState, new_state, prepare

SECONDS = 60.0
STEPS = 10
CPU = torch.device("cpu")


class Watching(Following):
    """An observer that keeps the means of each line of the log."""

    def __init__(self) -> None:
        self.lines: list[dict[str, float]] = []

    def on_log(self, state: TrainingState) -> bool:
        self.lines.append(state.meters.means())
        return False


def together(count: int, folder: Path, work: Callable[[Ranks], Any]) -> list[Any]:
    """What each of several forked ranks answers."""
    folder.mkdir()
    children = [_forked(rank, count, folder, work) for rank in range(count)]
    deadline = time.monotonic() + SECONDS
    for child in children:
        found = 0
        while not found and time.monotonic() < deadline:
            found, _ = os.waitpid(child, os.WNOHANG)
            time.sleep(0.005)
        if not found:
            os.kill(child, 9)
            os.waitpid(child, 0)
    wrong = [each.read_text() for each in sorted(folder.glob("*.txt"))]
    assert not wrong, wrong[0]
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(count)]


def _forked(rank: int, count: int, folder: Path, work: Callable[[Ranks], Any]) -> int:
    if child := os.fork():
        return child
    try:
        distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=count)
        torch.save(work(Ranks(rank, count)), folder / f"{rank}.pt")
        distributed.destroy_process_group()
    except BaseException:
        (folder / f"{rank}.txt").write_text(f"rank {rank}: {traceback.format_exc()}")
    finally:
        os._exit(0)


def trained(recipe: Recipe, shape: tuple[int, int, int], ranks: Ranks, steps: int = STEPS) -> dict[str, Any]:
    """A short training in memory, in float64: parameters, averages, the means of the log."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        data = images_of(shape)
        recipe = recipe.model_copy(update={"steps": steps, "epochs": None, "log_every": 5, "compile": False})
        batches = Doubles(data, recipe.batch_size, Stream(recipe.seed).child("data"), CPU, flip=recipe.data.flip)
        state = new_state(recipe, shape, len(data.class_names), CPU)
        prepare(state, recipe, batches)
        state.game = replace(state.game, ranks=ranks)
        seen = Watching()
        train(state, recipe, batches, Schedule.of(recipe, batches), seen, StopRequest())
        return {"state": state.tree(), "lines": seen.lines}
    finally:
        torch.set_default_dtype(before)


class Doubles(IndexedBatches):
    """Batches in float64."""

    def _batch(self, *given: Any) -> Any:
        batch = super()._batch(*given)
        return replace(batch, images=batch.images.double())


def images_of(shape: tuple[int, int, int]) -> ImageData:
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (120, *shape), generator=draw, dtype=torch.uint8)
    labels = torch.arange(120) % 10
    return ImageData(images=images, labels=labels, class_names=tuple("0123456789"), source="random")


def largest_difference(one: Any, other: Any) -> float:
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        return max((largest_difference(one[key], other[key]) for key in one), default=0.0)
    if isinstance(one, torch.Tensor):
        return float((one.double() - other.double()).abs().max()) if one.numel() else 0.0
    return 0.0


def digits(*changes: str) -> Recipe:
    return load_recipe("digits", parse_overrides(["batch_size=24", "generator.batch_norm=false", *changes]))


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


def same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for part in ("generator", "discriminator", "average"):
        assert largest_difference(found["state"][part], expected["state"][part]) < 1e-5
    assert len(found["lines"]) == len(expected["lines"]) == STEPS // 5
    for one, other in zip(found["lines"], expected["lines"], strict=True):
        assert one == pytest.approx(other, abs=1e-5)


def test_two_ranks_are_one_process_for_an_auxiliary_classifier(tmp_path: Path) -> None:
    words = ["batch_size=24", "generator.batch_norm=false", "discriminator.conditional=false"]
    words += ["discriminator.class_logits=true", "regularizers=[{name: auxiliary-classifier}, {name: r1}]"]
    recipe = load_recipe("digits-cgan", parse_overrides(words))
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


def launched(count: int, words: list[str], **environment: str) -> list[subprocess.Popen[str]]:
    """`twoplayer train` in several processes, as a launcher starts them."""
    common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return [
        subprocess.Popen(
            [sys.executable, "-m", "twoplayer", "train", *words, "--device", "cpu", "--quiet"],
            env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


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
