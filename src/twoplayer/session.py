"""One session of training: what `train` does once it knows the recipe, the data and the device."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from twoplayer.core.batch import Batch
from twoplayer.core.errors import Diverged, TrainingStopped, UserError, did_you_mean
from twoplayer.core.modes import mode
from twoplayer.core.protocols import Supervised
from twoplayer.core.rng import Stream
from twoplayer.core.stop import StopRequest
from twoplayer.data.batches import Batches
from twoplayer.data.images import ImageData
from twoplayer.data.source import open_source
from twoplayer.evaluation import doctor, vitals
from twoplayer.evaluation.classifier import classifier_probe
from twoplayer.evaluation.findings import LEAST_ROWS
from twoplayer.evaluation.probe import sliced_wasserstein_probe
from twoplayer.ops.convolution import count_parameters
from twoplayer.recipes.load import check, load_recipe, to_yaml
from twoplayer.recipes.resume import completed, core, require_not_shorter, require_same
from twoplayer.recipes.schema import DataOptions, Recipe
from twoplayer.runs.environment import describe_environment
from twoplayer.runs.files import write_json
from twoplayer.runs.folder import RunFolder, claim_next_run
from twoplayer.runs.log import ALSO, ALWAYS, CLASSIFIER_ERROR, cut_after, read_rows
from twoplayer.runs.report import Note, write_report
from twoplayer.runs.sampling import in_turn
from twoplayer.runs.snapshot import SnapshotInfo
from twoplayer.training.checkpoint import read_newest
from twoplayer.training.loop import Schedule
from twoplayer.training.loop import train as train_loop
from twoplayer.training.progress import Progress, progress
from twoplayer.training.recorder import Recorder
from twoplayer.training.state import TrainingState, new_state, prepare

logger = logging.getLogger("twoplayer")
PLAYERS = ("/generator", "/discriminator")


@contextmanager
def explaining_memory(recipe: Recipe) -> Iterator[None]:
    """Turn a lack of memory into a UserError that says what to lower."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_lack_of_memory(error):
            raise
        size = recipe.data.image_size or "the images' own"
        raise UserError(
            f"not enough memory with batch_size={recipe.batch_size} and data.image_size={size} for these players; "
            "lower one of them, or the players' widths"
        ) from error


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
) -> RunFolder:
    """Train to the recipe's end in a folder (the next free one without one) and write everything about it there."""
    batches = Batches(
        data,
        recipe.batch_size,
        Stream(recipe.seed).child("data"),
        device,
        flip=recipe.data.flip,
        condition_on_coarse=recipe.data.condition_on_coarse,
        labeled_per_class=recipe.data.labeled_per_class,
    )
    _require_given(recipe, batches)
    _require_goal(recipe)
    schedule = Schedule.of(recipe, batches)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        state = new_state(recipe, data.shape, len(data.class_names), device)
        prepare(state, recipe, batches)
        try_out(state, batches.some(2, batches.stream), batches.stream)
        return _run(folder, recipe, data, batches, schedule, state, stop, resume=resume, quiet=quiet)


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
) -> RunFolder:
    """The session once its pieces are known to fit."""
    device = batches.images.device
    folder = folder or claim_next_run(Path("runs"), recipe.name)
    with folder.locked(), stop.deferring():
        if resume:
            _continue(folder, recipe, state, data, schedule, batches)
        else:
            folder.require_free()
        folder.prepare(to_yaml(recipe))
        write_json(folder.environment, _describe(state, data, device))
        with progress(schedule.steps, state.step, quiet) as shown:
            recorder = _recorder(folder, recipe, data, batches, schedule, shown)
            _play(state, recipe, batches, schedule, recorder, stop)
        write_report(folder, doctor_notes(folder))
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
    except Diverged:
        write_report(recorder.folder, doctor_notes(recorder.folder))
        raise
    except TrainingStopped as stopped:
        write_report(recorder.folder, doctor_notes(recorder.folder))
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
    known = [*ALSO, *ALWAYS, *penalties, *supervised]
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
            on_real, on_fake = game.judge(real, real.images, fake)
            objective = game.objective.at(stream)
            objective.discriminator_loss(on_real, on_fake)
            objective.generator_loss(on_real, on_fake)
            if isinstance(objective, Supervised) and real.labels is not None:
                objective.labeled_loss(on_real, real.labels)
    except (AssertionError, RuntimeError) as error:
        if _is_lack_of_memory(error):
            raise
        raise UserError(f"these pieces do not fit together: {str(error).splitlines()[0]}") from error


def _recorder(
    folder: RunFolder, recipe: Recipe, data: ImageData, batches: Batches, schedule: Schedule, shown: Progress
) -> Recorder:
    info = SnapshotInfo(
        recipe=recipe.name,
        step=0,
        kimg=0.0,
        image_shape=data.shape,
        class_names=data.class_names,
        data_source=data.name,
        data_sha256=data.fingerprint,
        latents=recipe.latents,
        generator=recipe.generator,
    )
    takes, n = recipe.generator.takes, recipe.grid_images
    given = batches.some(n, Stream(recipe.seed).child("grid", "given")).given(takes)
    by_class = takes == ("labels",)
    if by_class:
        given = {"labels": in_turn(range(len(data.class_names)), n)}
    return Recorder(
        folder=folder,
        recipe=recipe,
        schedule=schedule,
        info=info,
        progress=shown,
        judge=sliced_wasserstein_probe(batches, recipe.latents, takes, recipe.seed),
        given=given,
        titles=data.class_names[:n] if by_class else (),
        vitals=_vitals(recipe, batches),
        doctor=doctor.remarks(),
        classifier_error=_classifier_error(recipe) if isinstance(recipe.objective, Supervised) else None,
    )


def doctor_notes(folder: RunFolder) -> list[Note] | None:
    """What the doctor says of a run, for its report; None when the log is too short."""
    rows = read_rows(folder.metrics)
    if len(rows) < LEAST_ROWS:
        return None
    found = doctor.diagnose(rows)
    return [Note(f"{each.name} since step {each.since:,}", each.evidence, each.remedies) for each in found]


def _vitals(recipe: Recipe, batches: Batches) -> vitals.Probe:
    """Vital signs; held-out images are those of the test split, for sources that have one."""
    data = held_out_data(recipe.data) if recipe.data.split == "train" else None
    coarse = recipe.data.condition_on_coarse
    device = batches.images.device
    held_out = None if data is None else Batches(data, 1, Stream(0), device, condition_on_coarse=coarse)
    told = vitals.Told(recipe.generator.takes, recipe.discriminator.takes)
    return vitals.vitals_probe(batches, held_out, recipe.latents, told, recipe.seed)


def _classifier_error(recipe: Recipe) -> Callable[[nn.Module], float] | None:
    """The error on the test split, for sources that have one."""
    held_out = held_out_data(recipe.data)
    return classifier_probe(held_out) if held_out is not None and held_out.labels is not None else None


def load_data(options: DataOptions) -> ImageData:
    """The images that a recipe's `data` section means. Raises UserError."""
    data = open_source(options.source).load(options.split, options.image_size, options.channels)
    if options.limit is not None and data.split != "test":
        data = data.chosen(Stream(0).child("limit").permutation(len(data))[: options.limit])
    return data.halved(options.halvings)


def held_out_data(options: DataOptions) -> ImageData | None:
    """The test split, brought to the form of the training images; None where the source has no splits."""
    data = load_data(options.model_copy(update={"split": "test"}))
    return data if data.split == "test" else None


def _continue(
    folder: RunFolder, recipe: Recipe, state: TrainingState, data: ImageData, schedule: Schedule, batches: Batches
) -> None:
    """Put the state where the newest whole checkpoint left it, and forget what was logged after that."""
    require_not_shorter(load_recipe(str(folder.config)), recipe, batches.per_epoch, folder.path)
    found = read_newest(folder)
    if found is None:
        logger.warning("%s has no checkpoint yet: it begins again", folder.path)
    else:
        tree, facts = found
        begun_with = core(check(completed(facts["recipe"], recipe)))
        require_same(begun_with, core(recipe), f"{folder.config} is not what the run was trained with")
        if facts["data_sha256"] != data.fingerprint:
            raise UserError(f"{folder.path} was trained on other data than {data.name} now holds; it cannot be resumed")
        restore(state, tree, folder)
    cut_after(folder.metrics, state.step)


def restore(state: TrainingState, tree: dict[str, Any], folder: RunFolder) -> None:
    """Put a state where a checkpoint left it. Raises UserError when the checkpoint is of other networks."""
    try:
        state.restore(tree)
    except (RuntimeError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise UserError(f"{folder.path}: the checkpoint does not fit {folder.config.name} ({reason})") from error


def _describe(state: TrainingState, data: ImageData, device: torch.device) -> dict[str, Any]:
    """environment.json: what the run is made with, on and from."""
    players = {"generator": state.game.generator.network, "discriminator": state.game.discriminator.network}
    counts = {role: count_parameters(network, trainable_only=True) for role, network in players.items()}
    return describe_environment(device) | {"parameters": counts, "data": data_facts(data)}


def data_facts(data: ImageData) -> dict[str, Any]:
    """What a run says about its data; nothing that names a place on disk."""
    return {
        "source": data.name,
        "split": data.split,
        "images": len(data),
        "shape": list(data.shape),
        "sha256": data.fingerprint,
    }
