"""Blocks of steps with everything random in places that stay, against the loop's own steps, bit for bit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.contract.test_recipes import IMAGE_SHAPES, SMALLER
from twoplayer.bench.workloads import in_blocks
from twoplayer.core.rng import Stream
from twoplayer.data.batches import IndexedBatches
from twoplayer.data.images import ImageData
from twoplayer.recipes.load import load_recipe, parse_overrides
from twoplayer.recipes.schema import Recipe
from twoplayer.training.captured import WARM_UP_BLOCKS, Block, CudaGraph, Function, Graph, can_be_captured
from twoplayer.training.loop import Schedule, one_step
from twoplayer.training.state import TrainingState, new_state

STREAM = Stream(3).child("train")


def begun(name: str, *words: str, device: str = "cpu") -> tuple[Recipe, TrainingState, IndexedBatches]:
    recipe = load_recipe(name, parse_overrides(["batch_size=8", *SMALLER.get(name, ()), *words]))
    shape = IMAGE_SHAPES[recipe.data.source]
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (24, *shape), dtype=np.uint8))
    data = ImageData(images, "noise", "train", torch.arange(24) % 10, tuple(map(str, range(10))))
    where = torch.device(device)
    batches = IndexedBatches(data, recipe.batch_size, Stream(3).child("data"), where, flip=recipe.data.flip)
    return recipe, new_state(recipe, shape, 10, where), batches


def everything(state: TrainingState) -> list[Tensor]:
    tensors: list[Tensor] = [value for _, value in state.named_tensors()]
    for player in (state.game.generator, state.game.discriminator):
        for memory in player.optimizer.state.values():
            tensors += [value for value in memory.values() if isinstance(value, Tensor)]
    return [*tensors, *state.meters.sums.values()]


def assert_blocks_are_steps(name: str, *words: str, device: str, graph: Callable[[], Graph], k: int) -> None:
    steps = k * (WARM_UP_BLOCKS + 2)
    recipe, one_by_one, batches = begun(name, *words, device=device)
    for _ in range(steps):
        one_step(one_by_one, recipe, batches, STREAM)
    recipe, together, batches = begun(name, *words, device=device)
    assert can_be_captured(together, recipe, batches)
    block = Block(together, recipe, batches, STREAM, k, graph())
    while together.step < steps:
        block.play()
    assert together.meters.means() == one_by_one.meters.means()
    for ours, theirs in zip(everything(together), everything(one_by_one), strict=True):
        assert torch.equal(ours, theirs)


CAPTURED = ("digits", "mnist-wgan-gp", "flowers-dcgan", "mnist-dcgan", "simple-gan", "dcgan-64")


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("name", ["digits", "flowers-dcgan", "mnist-dcgan"])
def test_blocks_of_steps_are_the_steps_one_by_one(name: str, k: int) -> None:
    assert_blocks_are_steps(name, device="cpu", graph=Function, k=k)


def test_with_a_flip_several_turns_of_d_and_dropout() -> None:
    words = ("data.flip=true", "play={name: alternating, discriminator_steps: 2}", "discriminator.dropout=0.3")
    assert_blocks_are_steps("digits", *words, device="cpu", graph=Function, k=2)


@pytest.mark.gpu
@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("name", CAPTURED)
def test_a_recorded_graph_is_the_steps_one_by_one(name: str, k: int) -> None:
    device = torch.device("cuda")
    assert_blocks_are_steps(name, device="cuda", graph=lambda: CudaGraph(device), k=k)


def test_a_benchmark_counts_the_steps_of_a_block() -> None:
    recipe, state, batches = begun("digits")
    work = in_blocks(Block(state, recipe, batches, STREAM, 3, Function()))
    steps = []
    for _ in range(5):
        work()
        steps.append(state.step)
    warm = 3 * (WARM_UP_BLOCKS + 1)
    assert [step - warm for step in steps] == [3, 3, 3, 6, 6]


def test_adam_with_the_count_on_the_device_is_adam() -> None:
    """The update that a recorded graph can hold, against the one that asks Python for its epsilon."""
    torch.manual_seed(0)
    rule = load_recipe("mnist-wgan-gp").optimizers.generator
    start = torch.randn(50, dtype=torch.float64)
    players = [torch.nn.Parameter(start.clone()) for _ in range(2)]
    optimizers = [rule.build([player]) for player in players]
    optimizers[1].param_groups[0]["capturable"] = True
    for _ in range(5):
        gradient = torch.randn(50, dtype=torch.float64) * 1e-6  # where epsilon counts
        for player, optimizer in zip(players, optimizers, strict=True):
            player.grad = gradient.clone()
            optimizer.step()
    assert (players[0] - start).abs().max() > 1e-5
    torch.testing.assert_close(players[1], players[0], rtol=0.0, atol=1e-12)


@pytest.mark.parametrize(("steps", "n"), [(0, 4), (3, 1), (4, 3), (6, 1), (8, 1), (9, 2), (16, 1)])
def test_blocks_end_where_something_is_due(steps: int, n: int) -> None:
    """A log line every 4 steps, a grid every 9, epochs that end with steps 4, 7, 11, 14; 17 steps."""
    schedule = Schedule(17, 2, 7, log_every=4, sample_every=9, checkpoint_every=100)
    assert schedule.steps_until_due(steps) == n
    for step in range(17):
        length = schedule.steps_until_due(step)
        inside = range(step + 1, step + length)
        due = [any(schedule.due(each, every) for every in schedule.intervals) for each in inside]
        assert not any(due)
        assert not any(schedule.epoch_ended(each) for each in inside)


def test_what_cannot_be_captured() -> None:
    for name, *words in (
        ("digits-cgan",),
        ("digits", "regularizers=[{name: historical-averaging, weight: 0.1}]"),
        ("digits", "optimizers.generator={name: sgd, learning_rate: 0.1}"),
        ("digits", "fast=false"),
    ):
        recipe, state, batches = begun(name, *words)
        assert not can_be_captured(state, recipe, batches), (name, *words)
