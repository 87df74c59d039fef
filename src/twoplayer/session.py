"""One session of training: what `train` does once it knows the recipe, the data and the device."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from twoplayer.core.augmentation import FollowsOverfitting
from twoplayer.core.batch import Batch
from twoplayer.core.errors import Diverged, TrainingStopped, UserError, did_you_mean
from twoplayer.core.modes import mode
from twoplayer.core.precision import require_precision
from twoplayer.core.protocols import Supervised
from twoplayer.core.ranks import ALONE, Ranks
from twoplayer.core.rng import Stream
from twoplayer.core.stop import StopRequest
from twoplayer.data.batches import Batches, IndexedBatches, StreamedBatches
from twoplayer.data.images import ImageData
from twoplayer.data.streamed import OnHost
from twoplayer.loading import data_facts
from twoplayer.ops.convolution import count_parameters
from twoplayer.recipes.load import to_yaml
from twoplayer.recipes.schema import Recipe
from twoplayer.runs.environment import describe_environment
from twoplayer.runs.files import write_json
from twoplayer.runs.folder import RunFolder, claim_next_run
from twoplayer.runs.log import ALSO, ALWAYS, CLASSIFIER_ERROR
from twoplayer.runs.report import write_report
from twoplayer.training.accumulation import require_pieces
from twoplayer.training.annealing import Annealing
from twoplayer.training.loop import Schedule
from twoplayer.training.loop import train as train_loop
from twoplayer.training.progress import progress
from twoplayer.training.recorder import Recorder
from twoplayer.training.resuming import go_on
from twoplayer.training.shares import Following, on_host
from twoplayer.training.state import TrainingState, new_state, prepare
from twoplayer.training.step import labels_of
from twoplayer.training.threads import fitting_threads
from twoplayer.watching import doctor_notes, held_out_batches, recorder_of, tracked

logger = logging.getLogger("twoplayer")
PLAYERS = ("/generator", "/discriminator")


@contextmanager
def explaining_memory(recipe: Recipe, data: ImageData | None = None) -> Iterator[None]:
    """Turn a lack of memory into a UserError that says what to lower; data: once it is there."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_lack_of_memory(error):
            raise
        size = max(data.shape[1:]) if data is not None else recipe.data.image_size
        sizes = f"batch_size={recipe.batch_size}" + (f" and data.image_size={size}" if size else "")
        raise UserError(f"not enough memory with {sizes}; lower one of them, or the players' widths") from error


def _is_lack_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or any(word in str(error) for word in ("alloc", "out of memory"))


def run_session(
    folder: RunFolder | None,
    recipe: Recipe,
    data: ImageData,
    device: torch.device,
    stop: StopRequest,
    *,
    resume: bool,
    quiet: bool,
    ranks: Ranks = ALONE,
    other_processes: bool = False,
) -> RunFolder:
    """Train to the recipe's end in a folder (the next free one without one) and write everything about it there.

    Of several processes that train together, the first writes; all return the folder when it is complete. A run may be
    resumed by another number of them where `other_processes` says so.
    """
    require_precision(recipe.precision, device)
    ranks.rows(recipe.batch_size)
    batches = batches_of(recipe, data, device)
    with closing(batches):
        how = {"resume": resume, "quiet": quiet, "other_processes": other_processes}
        return _with_batches(folder, recipe, data, batches, stop, ranks, **how)


def _with_batches(
    folder: RunFolder | None,
    recipe: Recipe,
    data: ImageData,
    batches: Batches,
    stop: StopRequest,
    ranks: Ranks,
    **how: bool,
) -> RunFolder:
    """The session once its data is there."""
    device = batches.device
    _require_given(recipe, batches)
    _require_goal(recipe)
    schedule = Schedule.of(recipe, batches)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        state = new_state(recipe, data.shape, len(data.class_names), device)
        prepare(state, recipe, batches)
        if isinstance(state.game.augmentation, FollowsOverfitting):
            state.held_out = held_out_batches(recipe, state.game.augmentation.follows, device)
        try_out(state, batches.some(2, batches.stream), batches.stream)
        state.game = replace(state.game, ranks=ranks)
        require_pieces(state.game, recipe.batch_size)
        with fitting_threads(state.game, recipe.batch_size):
            if not ranks.writes:
                return _follow(recipe, batches, schedule, state, stop)
            return _run(folder, recipe, data, batches, schedule, state, stop, **how)


def _follow(recipe: Recipe, batches: Batches, schedule: Schedule, state: TrainingState, stop: StopRequest) -> RunFolder:
    """The session of a rank that does not write: it begins where the first one is."""
    ranks = state.game.ranks
    begun: tuple[Path, dict[str, Any]] = (Path(), {})
    path, tree = ranks.told(begun)
    state.restore(tree)
    del tree
    with ranks.ending_together(TrainingStopped, Diverged), stop.deferring():
        train_loop(state, recipe, batches, schedule, Following(), stop)
    return RunFolder(path)


def batches_of(recipe: Recipe, data: ImageData, device: torch.device) -> Batches:
    """The batches that a recipe means of given images, kept on the device where they fit. Raises UserError."""
    options, stream = recipe.data, Stream(recipe.seed).child("data")
    if data.streamed is not None and options.labeled_per_class is not None:
        raise UserError("data.labeled_per_class chooses among all images: leave data.cache=none out")
    how: dict[str, Any] = {
        "flip": options.flip,
        "condition_on_coarse": options.condition_on_coarse,
        "labeled_per_class": options.labeled_per_class,
    }
    if data.streamed is None and fits_on(device, data.images):
        return IndexedBatches(data, recipe.batch_size, stream, device, **how)
    return StreamedBatches(data, data.streamed or OnHost(data), recipe.batch_size, stream, device, **how)


def fits_on(device: torch.device, images: torch.Tensor) -> bool:
    """Whether a device has room for stored images, and as much again for the training."""
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return 2 * images.nbytes <= free


def _run(
    folder: RunFolder | None,
    recipe: Recipe,
    data: ImageData,
    batches: Batches,
    schedule: Schedule,
    state: TrainingState,
    stop: StopRequest,
    *,
    resume: bool,
    quiet: bool,
    other_processes: bool,
) -> RunFolder:
    """The session once its pieces are known to fit."""
    device = batches.device
    folder = folder or claim_next_run(Path("runs"), recipe.name)
    ranks = state.game.ranks
    with ranks.ending_together(TrainingStopped, Diverged), folder.locked(), stop.deferring():
        if resume:
            go_on(folder, recipe, state, data, schedule, other_processes=other_processes)
        else:
            folder.require_free()
        folder.prepare(to_yaml(recipe))
        folder.failure.unlink(missing_ok=True)
        write_json(folder.environment, _describe(state, data, device))
        with (
            tracked(folder, recipe, state.step) as trackings,
            progress(schedule.steps, state.step, quiet) as shown,
        ):
            recorder = recorder_of(folder, recipe, data, batches, schedule, shown, trackings)
            if ranks.count > 1:
                ranks.told((folder.path, on_host(state.tree())))
            _play(state, recipe, batches, schedule, recorder, stop)
        write_report(folder, doctor_notes(folder, recipe))
    return folder


def _play(
    state: TrainingState, recipe: Recipe, batches: Batches, schedule: Schedule, recorder: Recorder, stop: StopRequest
) -> None:
    """The loop, with what comes before it, and a report of how it ended when it did not end well."""
    if state.step == 0:
        recorder.on_sample(state, None)
    else:
        recorder.publish(state)
    try:
        train_loop(state, recipe, batches, schedule, recorder, stop)
    except Diverged as error:
        write_json(recorder.folder.failure, {"step": error.step, "words": str(error)})
        write_report(recorder.folder, doctor_notes(recorder.folder, recipe))
        raise
    except TrainingStopped as stopped:
        write_report(recorder.folder, doctor_notes(recorder.folder, recipe))
        hint = f"go on with: twoplayer train --resume --out {shlex.quote(str(recorder.folder.path))}"
        raise TrainingStopped(f"{stopped}; {hint}") from None


def _require_given(recipe: Recipe, batches: Batches) -> None:
    """Raise UserError when a player needs labels or conditions that the data does not have."""
    known = {"labels": batches.labels, "condition": batches.some(1, batches.stream).condition}
    for role, player in (("generator", recipe.generator), ("discriminator", recipe.discriminator)):
        for name in player.takes:
            if known[name] is None:
                raise UserError(f"{role}.name={player.name} is conditional, but the data has no {name}")


def _require_goal(recipe: Recipe) -> None:
    """Raise UserError when the goal's figure is none that a log can have."""
    penalties = [f"penalty/{rule.name}{role}" for rule in recipe.regularizers for role in ("", *PLAYERS)]
    supervised = ["loss/labeled", CLASSIFIER_ERROR] if isinstance(recipe.objective, Supervised) else []
    followed = recipe.augmentation.figures if recipe.augmentation is not None else ()
    known = [*ALSO, *ALWAYS, *penalties, *supervised, *followed, *Annealing(recipe, 1).figures(0)]
    if recipe.stop is not None and recipe.stop.metric not in known:
        near = did_you_mean(recipe.stop.metric, known)
        raise UserError(f"stop.metric={recipe.stop.metric} is in no log{near} (allowed: {', '.join(known)})")


def try_out(state: TrainingState, real: Batch, stream: Stream) -> None:
    """Let the pieces meet once on some images, in evaluation mode. Raises UserError when they do not fit together."""
    game = state.game
    try:
        with torch.no_grad(), ExitStack() as stack:
            for player in (game.generator, game.discriminator):
                stack.enter_context(mode(player.network, training=False))
            fake = game.draw_fakes(real, stream)
            on_real, on_fake = game.judge(real, *(game.shown(images, stream) for images in (real.images, fake)))
            objective = game.objective.at(stream)
            objective.discriminator_loss(on_real, on_fake)
            objective.generator_loss(on_real, on_fake)
            if isinstance(objective, Supervised) and real.labels is not None:
                objective.labeled_loss(on_real, real.labels)
            for rule in game.class_losses:
                rule.discriminator_class_loss(on_real, on_fake, labels_of(real))
    except (AssertionError, RuntimeError) as error:
        if _is_lack_of_memory(error):
            raise
        raise UserError(f"these pieces do not fit together: {str(error).splitlines()[0]}") from error


def _describe(state: TrainingState, data: ImageData, device: torch.device) -> dict[str, Any]:
    """environment.json: what the run is made with, on and from."""
    players = {"generator": state.game.generator.network, "discriminator": state.game.discriminator.network}
    counts = {role: count_parameters(network, trainable_only=True) for role, network in players.items()}
    return describe_environment(device) | {
        "processes": processes_of(state),
        "parameters": counts,
        "data": data_facts(data),
    }


def processes_of(state: TrainingState) -> int | list[dict[str, int]]:
    """How many processes train a run; where that changed, from which step on."""
    changes = [{"after_step": step, "processes": count} for step, count in state.processes.items()]
    return changes or state.game.ranks.count
