"""Several steps as one recorded graph, so that a GPU need not wait for Python between its kernels.

A recorded graph repeats the same kernels on the same memory. What differs from step to step is therefore brought into
places that stay, before each replay: the numbers of every random stream, which images the batches are made of, and the
state of the generators that dropout draws from. Everything else - weights, optimizers, averages, meters - is changed in
place by the kernels themselves. The first blocks are played without a graph, in the same places; they are real steps of
the run, so that nothing has to be undone after warming up.

Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs. On a CPU a "graph" is the Python function
itself: the way of the numbers is the same, which is how it is tested where there is no GPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch

from twoplayer.core.batch import Batch, IndexedSupply
from twoplayer.core.rng import Stream
from twoplayer.ops.chains.chain import chain_through
from twoplayer.ops.chains.link import Setting
from twoplayer.ops.dropout import drawing_from
from twoplayer.recipes.schema import Recipe
from twoplayer.training.fast import fast_moves
from twoplayer.training.placed import Draws, PlacedStream
from twoplayer.training.play import play_step
from twoplayer.training.state import TrainingState

WARM_UP_BLOCKS = 2
"""How many blocks are played before one is recorded."""


class Graph(Protocol):
    """What repeats a function."""

    def first(self, body: Callable[[], None]) -> None:
        """Do it, so that everything that is made once is made."""

    def record(self, body: Callable[[], None], generators: list[torch.Generator]) -> None:
        """Prepare for `replay`."""

    def replay(self) -> None:
        """Do it again, with what stands in the same places now."""


class Function:
    """The function itself."""

    def first(self, body: Callable[[], None]) -> None:
        body()

    def record(self, body: Callable[[], None], generators: list[torch.Generator]) -> None:
        self.body = body

    def replay(self) -> None:
        self.body()


class CudaGraph:
    """The kernels that the function launches."""

    def __init__(self, device: torch.device) -> None:
        self.graph = torch.cuda.CUDAGraph()
        self.stream = torch.cuda.Stream(device)

    def first(self, body: Callable[[], None]) -> None:
        outside = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(outside)
        with torch.cuda.stream(self.stream):
            body()
        outside.wait_stream(self.stream)

    def record(self, body: Callable[[], None], generators: list[torch.Generator]) -> None:
        for generator in generators:
            self.graph.register_generator_state(generator)
        with torch.cuda.graph(self.graph, stream=self.stream):
            body()

    def replay(self) -> None:
        self.graph.replay()


class Block:
    """A fixed number of steps, played together.

    Args:
        state: what is trained.
        recipe: how.
        batches: on what.
        stream: of the run's training.
        steps: how many.
        graph: what repeats them.
    """

    def __init__(
        self, state: TrainingState, recipe: Recipe, batches: IndexedSupply, stream: Stream, steps: int, graph: Graph
    ) -> None:
        self.state, self.recipe, self.batches, self.stream = state, recipe, batches, stream
        self.steps, self.graph, self.played = steps, graph, 0
        device = next(state.game.generator.network.parameters()).device
        turns = range(recipe.play.discriminator_steps)
        self.draws = [Draws(stream, device) for _ in range(steps)]
        self.flips = [[Draws(stream, device) for _ in turns] for _ in range(steps)]
        self.generators = [torch.Generator(device) for _ in range(steps)]
        self.chosen = [[batches.places(0).clone() for _ in turns] for _ in range(steps)]

    def play(self) -> None:
        """The next steps of the run."""
        begun, state = time.monotonic(), self.state
        self._bring()
        if self.played < WARM_UP_BLOCKS:
            self.graph.first(self._body)
        else:
            if self.played == WARM_UP_BLOCKS:
                self.graph.record(self._body, self.generators)
                self.gradients = [(parameter, parameter.grad) for parameter in self._parameters()]
            self.graph.replay()
            for parameter, gradient in self.gradients:  # another block may have recorded into places of its own
                parameter.grad = gradient
        self.played += 1
        state.step += self.steps
        state.meters.count(self.steps, time.monotonic() - begun)

    def _parameters(self) -> list[torch.nn.Parameter]:
        game = self.state.game
        return [parameter for player in (game.generator, game.discriminator) for parameter in player.parameters()]

    def _bring(self) -> None:
        """Everything that differs from block to block, into its place."""
        for k in range(self.steps):
            step = self.state.step + k
            place = self.stream.child(step + 1)
            self.draws[k].fill(place)
            self.generators[k].manual_seed(place.child("layers").derived_seed())
            for turn, chosen in enumerate(self.chosen[k]):
                number = step * len(self.chosen[k]) + turn
                chosen.copy_(self.batches.places(number))
                self.flips[k][turn].fill(self.batches.flips(number))

    def _body(self) -> None:
        for k in range(self.steps):
            next_batch = self._batches(k).__next__
            place = PlacedStream(self.stream.seed, draws=self.draws[k])
            with drawing_from(self.generators[k]):
                report = play_step(self.recipe.play, self.state.game, next_batch, place)
            self.state.update_averages()
            self.state.meters.take(report)

    def _batches(self, k: int) -> Iterator[Batch]:
        for chosen, flips in zip(self.chosen[k], self.flips[k], strict=True):
            yield self.batches.at(chosen, PlacedStream(self.stream.seed, draws=flips))


def can_be_captured(state: TrainingState, recipe: Recipe, batches: Any) -> bool:
    """Whether nothing in a step asks Python for what differs from step to step, beyond what is brought into place."""
    game = state.game
    if not isinstance(batches, IndexedSupply) or game.parameter_penalties or not game.fast or game.pieces > 1:
        return False
    if game.augmentation is not None:  # one that adapts is looked at between steps; recording others was never tried
        return False
    optimizers = (game.generator.optimizer, game.discriminator.optimizer)
    if not all(isinstance(each, torch.optim.Adam) for each in optimizers):
        return False
    whole = not game.generator.takes and chain_through(game.generator.network, Setting()) is not None
    return whole and fast_moves(game) is not None
