"""What a benchmark's process does when it is told to: steps, samples, batches, our way or the ordinary one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch

from twoplayer.bench.flops import synchronize
from twoplayer.bench.plain_pytorch import PlainPyTorch
from twoplayer.core.batch import Batch
from twoplayer.core.rng import Stream
from twoplayer.data.batches import Batches
from twoplayer.data.images import ImageData
from twoplayer.recipes.load import check
from twoplayer.recipes.schema import Recipe
from twoplayer.training.loop import one_step
from twoplayer.training.state import TrainingState, new_state, prepare

Work = Callable[[], None]


@dataclass(frozen=True)
class Setup:
    """What is measured.

    Attributes:
        recipe: whose step.
        data: whose images.
        device: where.
    """

    recipe: Recipe
    data: ImageData
    device: torch.device

    def batches(self) -> Batches:
        """The recipe's batches."""
        recipe = self.recipe
        return Batches(
            self.data,
            recipe.batch_size,
            Stream(0).child("data"),
            self.device,
            flip=recipe.data.flip,
            condition_on_coarse=recipe.data.condition_on_coarse,
            labeled_per_class=recipe.data.labeled_per_class,
        )

    def state(self, batches: Batches) -> TrainingState:
        """Fresh players, made ready."""
        state = new_state(self.recipe, self.data.shape, len(self.data.class_names), self.device)
        prepare(state, self.recipe, batches)
        return state


def our_step(setup: Setup) -> Work:
    """One step as `train` does it, with averages, meters and the watch for NaN."""
    batches = setup.batches()
    state = setup.state(batches)
    stream = Stream(0).child("train")
    return lambda: one_step(state, setup.recipe, batches, stream)


def plain_step(setup: Setup) -> Work:
    """One step of the ordinary kind."""
    batches = setup.batches()
    player, numbers = PlainPyTorch(setup.state(batches), setup.recipe), count()

    def work() -> None:
        first = next(numbers)
        shown: list[Batch] = [batches[first + turn] for turn in range(setup.recipe.play.discriminator_steps)]
        player.step(shown, Stream(0).child(first))

    return work


def setup_of(told: dict[str, Any]) -> Setup:
    """What a line of JSON describes; the images are noise, of the shape and with the classes that it says."""
    recipe = check(told["recipe"])
    n, classes = told["n"], told["num_classes"]
    stream = Stream(0).child("images")
    images = stream.uniform((n, *told["shape"]), 0.0, 256.0).to(torch.uint8)
    labels = torch.arange(n) % classes if classes else None
    data = ImageData(images, "noise", "train", labels, tuple(map(str, range(classes))))
    return Setup(recipe, data, torch.device(told["device"]))


WORK: dict[str, Callable[[Setup], Work]] = {"step/ours": our_step, "step/plain": plain_step}


def seconds_of(work: Work, times: int, device: torch.device) -> float:
    """How long a number of calls takes."""
    synchronize(device)
    begun = time.perf_counter()
    for _ in range(times):
        work()
    synchronize(device)
    return time.perf_counter() - begun
