"""The loop: play steps, average, watch for NaN, and tell an observer what is due."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from itertools import count
from typing import Protocol

import torch
from torch import Tensor

from twoplayer.core.batch import Batch, BatchSupply, IndexedSupply
from twoplayer.core.errors import Diverged, TrainingStopped
from twoplayer.core.rng import Stream
from twoplayer.core.stop import StopRequest
from twoplayer.recipes.schema import Recipe
from twoplayer.training.annealing import Annealing, changes_penalties
from twoplayer.training.captured import Block, CudaGraph, can_be_captured
from twoplayer.training.compiled import is_compiled
from twoplayer.training.overfitting import follow_overfitting
from twoplayer.training.play import play_step
from twoplayer.training.program import Programs
from twoplayer.training.shares import Shared
from twoplayer.training.state import TrainingState
from twoplayer.training.step import are_finite, first_not_finite

logger = logging.getLogger("twoplayer")

MOST_TOGETHER = 16
"""How many steps a recorded block has at most."""


class Observer(Protocol):
    """Whoever writes things down. The loop decides when, the observer what."""

    def on_step(self, state: TrainingState) -> None:
        """After every step; has to be cheap."""

    def on_log(self, state: TrainingState) -> bool:
        """At the end of a log interval, before the meters are reset; whether the run's goal is reached."""

    def on_sample(self, state: TrainingState, epoch_ended: int | None) -> None:
        """Pictures are due; `epoch_ended` is the number of the epoch that this step completed."""

    def on_checkpoint(self, state: TrainingState, *, scheduled: bool) -> None:
        """Save; `scheduled` is false when a signal asked for it."""


@dataclass(frozen=True)
class Schedule:
    """When what is due, in steps.

    Attributes:
        steps: of the whole run.
        batches_per_step: real batches that one step uses.
        batches_per_epoch: batches in one pass over the data.
    """

    steps: int
    batches_per_step: int
    batches_per_epoch: int
    log_every: int
    sample_every: int
    checkpoint_every: int

    @classmethod
    def of(cls, recipe: Recipe, batches: BatchSupply) -> Schedule:
        """The schedule that a recipe means on given data."""
        return cls(
            steps=recipe.total_steps(batches.per_epoch),
            batches_per_step=recipe.play.discriminator_steps,
            batches_per_epoch=batches.per_epoch,
            log_every=recipe.log_every,
            sample_every=recipe.sample_every,
            checkpoint_every=recipe.checkpoint_every,
        )

    @property
    def intervals(self) -> tuple[int, ...]:
        """Steps between lines of the log, grids, checkpoints."""
        return self.log_every, self.sample_every, self.checkpoint_every

    def due(self, step: int, every: int) -> bool:
        """Whether something with this interval is due after a step; everything is due after the last."""
        return step % every == 0 or step == self.steps

    def anything_due(self, step: int) -> bool:
        """Whether processes that train together meet after a step anyway."""
        return any(self.due(step, every) for every in self.intervals)

    def steps_until_due(self, step: int) -> int:
        """How many steps can be played after a step before anything is due; at least 1."""
        ends = [every - step % every for every in self.intervals]
        epoch_ends = int(-(-(int(self.epoch(step)) + 1) * self.batches_per_epoch // self.batches_per_step)) - step
        return max(min(*ends, epoch_ends, self.steps - step), 1)

    def epoch(self, step: int) -> float:
        """Passes over the data after a step."""
        return step * self.batches_per_step / self.batches_per_epoch

    def epoch_ended(self, step: int) -> int | None:
        """The number of the epoch that a step completed, if it completed one."""
        now, before = int(self.epoch(step)), int(self.epoch(step - 1))
        return now if now > before else None


def train(
    state: TrainingState,
    recipe: Recipe,
    batches: BatchSupply,
    schedule: Schedule,
    observer: Observer,
    stop: StopRequest,
) -> None:
    """Play from the state's step to the schedule's end.

    Raises:
        Diverged: something became NaN or infinite; nothing was saved after that.
        TrainingStopped: a signal came; a checkpoint was saved.
    """
    ranks = state.game.ranks
    stream = ranks.sliced(Stream(recipe.seed).child("train"))
    batches = Shared(batches, ranks, recipe.batch_size) if ranks.count > 1 else batches
    annealing = Annealing(recipe, schedule.steps)
    if ranks.count > 1:
        state.compiled = False  # also of a run that one process began
    elif state.compiled is None:
        state.compiled = compiles(state, recipe, schedule.steps)
    state.game = replace(state.game, programs=Programs() if state.compiled else None)
    blocks = blocks_for(state, recipe, batches, stream)
    begun, seconds_before = time.monotonic(), state.seconds  # without compiling: what is left goes by that
    with stop.deferring():
        while state.step < schedule.steps and not state.has_reached(recipe.stop):
            if is_stopped(stop, schedule, state):
                _require_finite(state, state.named_tensors())
                observer.on_checkpoint(state, scheduled=False)
                raise TrainingStopped(f"stopped after step {state.step}")
            annealing.bring(state)
            settled = blocks if annealing.is_settled(state.step) else []  # a recorded graph repeats what it met
            block = next((block for block in settled if block.steps <= schedule.steps_until_due(state.step)), None)
            if block is None:
                with ranks.coupling(statistics=recipe.batch_statistics == "synchronized"):
                    one_step(state, recipe, batches, stream)
            else:
                block.play()
            state.seconds = seconds_before + time.monotonic() - begun - seconds_compiling(state)
            _tell(state, recipe, schedule, observer)


def compiles(state: TrainingState, recipe: Recipe, steps: int) -> bool:
    """Whether a run of so many steps is compiled; a penalty's weight would be a constant of the program."""
    if not changes_penalties(recipe):
        return is_compiled(state.game, recipe.compile, steps)
    if recipe.compile is True:
        logger.warning("compile: a penalty's weight follows a schedule: moves are not compiled")
    return False


def is_stopped(stop: StopRequest, schedule: Schedule, state: TrainingState) -> bool:
    """Whether somebody asked to stop; of several processes any, and they ask each other where something is due."""
    ranks = state.game.ranks
    if ranks.count > 1 and not schedule.anything_due(state.step):
        return False
    return ranks.any(stop.requested)


def one_step(state: TrainingState, recipe: Recipe, batches: BatchSupply, stream: Stream) -> None:
    """Play one step, follow it with the averages, and watch for NaN. Raises Diverged."""
    begun, compiling = time.monotonic(), seconds_compiling(state)
    numbers = count(state.step * recipe.play.discriminator_steps)
    place = stream.child(state.step + 1)
    place.child("layers").seed_torch()
    shown: list[Batch] = []

    def next_batch() -> Batch:
        shown[:] = [batches[next(numbers)]]
        return shown[0]

    report = play_step(recipe.play, state.game, next_batch, place)
    state.update_averages()
    state.step += 1
    images = recipe.batch_size * recipe.play.discriminator_steps
    report |= follow_overfitting(state.game, shown[0], state.held_out, place.child("overfitting"), state.step, images)
    if not is_on_gpu(state):  # there the host does not wait for a step; the log's sums tell soon enough
        players = (state.game.generator, state.game.discriminator)
        gradients = [p.grad for player in players for p in player.parameters() if p.grad is not None]
        own = report.values() if state.game.ranks.count == 1 else ()  # gradients are the same on all ranks, losses not
        if not are_finite([*own, *gradients]):
            _require_finite(state, [*report.items(), *state.gradients()])
    state.meters.add(report, time.monotonic() - begun - (seconds_compiling(state) - compiling))


def seconds_compiling(state: TrainingState) -> float:
    """What making programs has cost in this session so far; the steps' own time is without it."""
    return state.game.programs.seconds if state.game.programs is not None else 0.0


def blocks_for(state: TrainingState, recipe: Recipe, batches: BatchSupply, stream: Stream) -> list[Block]:
    """Recorded blocks of steps, the longest first, where there is a GPU to gain from them."""
    alone = state.game.programs is None and state.game.ranks.count == 1
    if not (is_on_gpu(state) and alone and can_be_captured(state, recipe, batches)):
        return []
    assert isinstance(batches, IndexedSupply)
    device = next(state.game.generator.network.parameters()).device
    several = max(n for n in range(1, MOST_TOGETHER + 1) if recipe.log_every % n == 0)
    return [
        Block(state, recipe, batches, stream, steps, CudaGraph(device)) for steps in sorted({several, 1}, reverse=True)
    ]


def is_on_gpu(state: TrainingState) -> bool:
    """Whether the players are where the host need not wait for each step."""
    return next(state.game.generator.network.parameters()).is_cuda


def _require_finite(state: TrainingState, named: list[tuple[str, Tensor]]) -> None:
    """Raise Diverged where one of these is NaN or infinite; on all ranks when it is so on any."""
    ranks = state.game.ranks
    culprits = filter(None, ranks.gathered(first_not_finite(named)))
    culprit = ranks.told(next(culprits, None))
    if culprit is not None:
        raise Diverged(state.step, culprit)


def _tell(state: TrainingState, recipe: Recipe, schedule: Schedule, observer: Observer) -> None:
    observer.on_step(state)
    due = [schedule.due(state.step, every) for every in schedule.intervals]
    if any(due) and is_on_gpu(state):
        begun = time.monotonic()
        torch.cuda.synchronize(next(state.game.generator.network.parameters()).device)
        state.meters.count(0, time.monotonic() - begun)  # of the steps that were launched
    if any(due) and (is_on_gpu(state) or state.game.ranks.count > 1):
        _require_finite(state, list(state.meters.sums.items()))
    if any(due):  # weights that finite gradients made infinite show in the next loss; here they must not be saved
        _require_finite(state, state.named_tensors())
    ended, ranks = False, state.game.ranks
    if any(due):
        ranks.mean_(state.meters.sums.values())
    if schedule.due(state.step, schedule.log_every):
        if ranks.told(observer.on_log(state)):
            ended, state.goal = True, recipe.stop
        state.meters.reset()
    epoch_ended = schedule.epoch_ended(state.step)
    if ended or epoch_ended is not None or schedule.due(state.step, schedule.sample_every):
        observer.on_sample(state, epoch_ended)
    if ended or schedule.due(state.step, schedule.checkpoint_every):
        observer.on_checkpoint(state, scheduled=True)
