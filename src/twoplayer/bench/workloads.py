"""What a benchmark's process does when it is told to: steps, samples, batches, our way or the ordinary one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count, cycle
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from twoplayer.bench.flops import synchronize
from twoplayer.bench.plain_pytorch import PlainPyTorch
from twoplayer.core.batch import Batch
from twoplayer.core.protocols import Given
from twoplayer.core.rng import Stream
from twoplayer.data.batches import Batches
from twoplayer.data.images import ImageData
from twoplayer.recipes.load import check
from twoplayer.recipes.schema import Recipe
from twoplayer.runs.sampling import sample
from twoplayer.session import batches_of
from twoplayer.training.accumulation import require_pieces
from twoplayer.training.captured import WARM_UP_BLOCKS, Block
from twoplayer.training.loop import blocks_for, compiles, one_step
from twoplayer.training.program import Programs
from twoplayer.training.state import TrainingState, new_state, prepare

Work = Callable[[], None]

SAMPLES = 256
"""Pictures that one piece of sampling work draws."""


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
        return batches_of(self.recipe, self.data, self.device)

    def state(self, batches: Batches) -> TrainingState:
        """Fresh players, made ready."""
        state = new_state(self.recipe, self.data.shape, len(self.data.class_names), self.device)
        prepare(state, self.recipe, batches)
        require_pieces(state.game, self.recipe.batch_size)
        return state


def our_step(setup: Setup) -> Work:
    """One step as `train` does it, with averages, meters and the watch for NaN; on a GPU in recorded blocks."""
    batches = setup.batches()
    state, recipe = setup.state(batches), setup.recipe
    if compiles(state, recipe, recipe.steps or 0):
        state.game = replace(state.game, programs=Programs())
    stream = Stream(0).child("train")
    blocks = blocks_for(state, recipe, batches, stream)
    return in_blocks(blocks[0]) if blocks else lambda: one_step(state, recipe, batches, stream)


def in_blocks(block: Block) -> Work:
    """One step of a block that is recorded: the first of them plays all."""
    for _ in range(WARM_UP_BLOCKS + 1):
        block.play()
    played = cycle(range(block.steps))

    def work() -> None:
        if next(played) == 0:
            block.play()

    return work


def plain_step(setup: Setup) -> Work:
    """One step of the ordinary kind."""
    batches = setup.batches()
    player, numbers = PlainPyTorch(setup.state(batches), setup.recipe), count()

    def work() -> None:
        first = next(numbers)
        shown: list[Batch] = [batches[first + turn] for turn in range(setup.recipe.play.discriminator_steps)]
        player.step(shown, Stream(0).child(first))

    return work


def our_sample(setup: Setup) -> Work:
    """SAMPLES pictures as `sample` draws them."""
    game = setup.state(setup.batches()).game
    generator, numbers = game.generator.network, count()
    given = _given(game.generator.takes, setup)

    def work() -> None:
        sample(generator, game.latents, SAMPLES, Stream(next(numbers)), given, dtype=game.dtype)

    return work


def plain_sample(setup: Setup) -> Work:
    """SAMPLES pictures as they are usually drawn: batches of 64 through G in evaluation mode, to bytes."""
    game = setup.state(setup.batches()).game
    generator, given = game.generator.network.eval(), _given(game.generator.takes, setup)

    @torch.no_grad()
    def work() -> None:
        made = []
        for start in range(0, SAMPLES, 64):
            z = torch.rand(64, game.latents.dim, device=setup.device) * 2 - 1
            images = generator(z, **{name: values[start : start + 64] for name, values in given.items()})
            made.append(images.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).cpu())
        torch.cat(made)

    return work


def _given(names: tuple[Given, ...], setup: Setup) -> dict[str, Tensor]:
    """What a conditional generator is told, for SAMPLES pictures."""
    return setup.batches().some(SAMPLES, Stream(0)).given(names)


def our_data(setup: Setup) -> Work:
    """The next batch as `train` gets it."""
    batches, numbers = setup.batches(), count()

    def work() -> None:
        batches[next(numbers)]

    return work


def plain_data(setup: Setup) -> Work:
    """The next batch of torch's DataLoader: image by image to floats in [-1, 1], mirrored where the recipe says so."""
    images, flip = setup.data.images, setup.recipe.data.flip

    class Images(Dataset[Tensor]):
        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, index: int) -> Tensor:
            image = images[index].float().div(127.5).sub(1)
            return image.flip(-1) if flip and torch.rand(()) < 0.5 else image

    def forever() -> Iterator[Tensor]:
        while True:
            for batch in DataLoader(Images(), setup.recipe.batch_size, shuffle=True, drop_last=True):
                yield batch.to(setup.device)

    return next_of(forever())


def next_of(batches: Iterator[Tensor]) -> Work:
    """The next of them."""

    def work() -> None:
        next(batches)

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


WORK: dict[str, Callable[[Setup], Work]] = {
    "step/ours": our_step,
    "step/plain": plain_step,
    "sample/ours": our_sample,
    "sample/plain": plain_sample,
    "data/ours": our_data,
    "data/plain": plain_data,
}


def seconds_of(work: Work, times: int, device: torch.device) -> float:
    """How long a number of calls takes."""
    synchronize(device)
    begun = time.perf_counter()
    for _ in range(times):
        work()
    synchronize(device)
    return time.perf_counter() - begun
