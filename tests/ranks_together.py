"""Several processes for tests: forked ranks that train in memory, and commands as a launcher starts them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed

from tests.forks import ended, forked
from twoplayer.core.augmentation import FollowsOverfitting
from twoplayer.core.batch import Batch
from twoplayer.core.catalogue import Component, components
from twoplayer.core.ranks import Ranks
from twoplayer.core.rng import Stream
from twoplayer.core.stop import StopRequest
from twoplayer.data.batches import IndexedBatches
from twoplayer.data.images import ImageData
from twoplayer.recipes.load import load_recipe, parse_overrides
from twoplayer.recipes.schema import Recipe
from twoplayer.training.accumulation import require_pieces
from twoplayer.training.loop import Schedule, train
from twoplayer.training.overfitting import HeldOut
from twoplayer.training.shares import Following
from twoplayer.training.state import TrainingState, new_state, prepare
from twoplayer.watching import held_out_batches

SECONDS = 60.0
STEPS = 10
TRAIN = ("-m", "twoplayer", "train", "--device", "cpu", "--quiet")
CPU = torch.device("cpu")

PLAIN = [f"optimizers.{role}={{name: sgd, learning_rate: 0.05}}" for role in ("generator", "discriminator")]
"""No update that divides by the gradient's size, and magnifies what rounding does to small ones."""

WORDS = ["digits", "batch_size=32", "generator.batch_norm=false", "log_every=10", "checkpoint_every=10", *PLAIN]


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
    late: list[str] = []
    for child in children:
        try:
            ended(child, deadline - time.monotonic())
        except AssertionError as error:
            late.append(str(error))
    wrong = [each.read_text() for each in sorted(folder.glob("*.txt"))]
    assert not wrong + late, (wrong + late)[0]
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(count)]


def _forked(rank: int, count: int, folder: Path, work: Callable[[Ranks], Any]) -> int:
    def child() -> None:
        try:
            distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=count)
            torch.save(work(Ranks(rank, count)), folder / f"{rank}.pt")
            distributed.destroy_process_group()
        except BaseException:
            (folder / f"{rank}.txt").write_text(f"rank {rank}: {traceback.format_exc()}")

    return forked(child)


def trained(
    recipe: Recipe,
    shape: tuple[int, int, int],
    ranks: Ranks,
    steps: int = STEPS,
    begun: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A short training in memory, in float64, or the end of one: parameters, averages, the means of the log."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        data = images_of(shape)
        recipe = recipe.model_copy(update={"steps": steps, "epochs": None, "log_every": 5, "compile": False})
        how = {"flip": recipe.data.flip, "labeled_per_class": recipe.data.labeled_per_class}
        batches = Doubles(data, recipe.batch_size, Stream(recipe.seed).child("data"), CPU, **how)
        state = new_state(recipe, shape, len(data.class_names), CPU)
        prepare(state, recipe, batches)
        if isinstance(state.game.augmentation, FollowsOverfitting) and recipe.data.split == "train":
            state.held_out = in_float64(held_out_batches(recipe, state.game.augmentation.follows, CPU))
        state.game = replace(state.game, ranks=ranks)
        require_pieces(state.game, recipe.batch_size)
        if begun is not None:
            state.restore(begun["state"])
        seen = Watching()
        train(state, recipe, batches, Schedule.of(recipe, batches), seen, StopRequest())
        return {"state": state.tree(), "lines": seen.lines}
    finally:
        torch.set_default_dtype(before)


def in_float64(held_out: HeldOut | None) -> HeldOut:
    """The same batches for players in float64."""
    assert held_out is not None, "there are images that are not trained on"

    def draw(stream: Stream, ranks: Ranks) -> Batch:
        batch = held_out(stream, ranks)
        return replace(batch, images=batch.images.double())

    return draw


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


def same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for part in ("generator", "discriminator", "average", "discriminator_average", "augmentation"):
        assert largest_difference(found["state"][part], expected["state"][part]) < 1e-5
    assert len(found["lines"]) == len(expected["lines"]) == STEPS // 5
    for one, other in zip(found["lines"], expected["lines"], strict=True):
        assert one == pytest.approx(other, abs=1e-5)


def launched(count: int, command: Sequence[str], last: Sequence[str] = ()) -> list[subprocess.Popen[str]]:
    """Python in several processes, as a launcher starts them; `last`: what only the last is told besides."""
    common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return [
        subprocess.Popen(
            [sys.executable, *command, *(last if rank == count - 1 else ())],
            env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]


def killed(ranks: list[subprocess.Popen[str]]) -> None:
    for rank in ranks:
        rank.kill()
        rank.communicate()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def with_class_logits(*changes: str) -> Recipe:
    """A conditional game whose discriminator names classes, and looks at no image beside another."""
    words = ["batch_size=24", "generator.batch_norm=false", "discriminator.conditional=false"]
    words += ["discriminator.class_logits=true", "regularizers=[{name: auxiliary-classifier}, {name: r1}]"]
    return load_recipe("digits-cgan", parse_overrides([*words, *changes]))


def own_pieces(kind: type[Component]) -> list[str]:
    """The names of our pieces of a kind: other tests add some of their own."""
    return [name for name, piece in components(kind).items() if piece.__module__.startswith("twoplayer.")]
