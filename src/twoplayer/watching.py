"""What a session looks at while it trains, and what it says at the end."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch
from torch import nn

from twoplayer.core.batch import Batch
from twoplayer.core.errors import UserError
from twoplayer.core.protocols import Supervised
from twoplayer.core.ranks import Ranks
from twoplayer.core.rng import Stream
from twoplayer.core.tracking import Tracked, Tracker, Tracking
from twoplayer.data.batches import Batches, IndexedBatches
from twoplayer.data.images import ImageData
from twoplayer.evaluation import doctor, vitals
from twoplayer.evaluation.classifier import classifier_probe
from twoplayer.evaluation.doctor import Diagnosis
from twoplayer.evaluation.probe import sliced_wasserstein_probe
from twoplayer.loading import held_out_data
from twoplayer.recipes.resume import plain
from twoplayer.recipes.schema import Recipe
from twoplayer.runs.folder import RunFolder
from twoplayer.runs.log import read_rows
from twoplayer.runs.report import Note, Notes
from twoplayer.runs.sampling import in_turn
from twoplayer.runs.snapshot import SnapshotInfo
from twoplayer.training.loop import Schedule
from twoplayer.training.overfitting import HeldOut
from twoplayer.training.progress import Progress
from twoplayer.training.recorder import Recorder

logger = logging.getLogger("twoplayer")


def recorder_of(
    folder: RunFolder,
    recipe: Recipe,
    data: ImageData,
    batches: Batches,
    schedule: Schedule,
    shown: Progress,
    trackings: Mapping[str, Tracking],
) -> Recorder:
    """What writes a training down and looks at it on the way: pictures, figures, vital signs, the doctor."""
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
        trackings=trackings,
        titles=data.class_names[:n] if by_class else (),
        vitals=_vitals(recipe, batches),
        doctor=doctor.remarks(recipe),
        classifier_error=_classifier_error(recipe) if isinstance(recipe.objective, Supervised) else None,
    )


@contextmanager
def tracked(folder: RunFolder, recipe: Recipe, step: int) -> Iterator[dict[str, Tracking]]:
    """Inside, the services that a recipe names are told. Raises UserError where one is not installed."""
    told = Tracked(folder.path, plain(recipe), step)
    with ExitStack() as stack:
        begun: dict[str, Tracking] = {}
        for tracker in recipe.tracking:
            begun[tracker.name] = _begun(tracker, told)
            stack.callback(_ended, tracker.name, begun[tracker.name])
        yield begun


def _begun(tracker: Tracker, told: Tracked) -> Tracking:
    try:
        return tracker.begin(told)
    except ImportError as error:
        raise UserError(f"tracking: {tracker.name} is installed and cannot be used: {error}") from error


def _ended(name: str, tracking: Tracking) -> None:
    try:
        tracking.end()
    except Exception as error:  # services raise whatever their transport raises
        logger.warning("tracking: %s did not end well (%s)", name, error)


def diagnosis(folder: RunFolder, recipe: Recipe, figures: Mapping[str, Any] | None = None) -> Diagnosis:
    """What the doctor says of the run in a folder; `figures` are those of `twoplayer evaluate`."""
    failure = json.loads(folder.failure.read_text(encoding="utf-8")) if folder.failure.exists() else None
    return doctor.diagnose(read_rows(folder.metrics), recipe, figures, failure)


def doctor_notes(folder: RunFolder, recipe: Recipe) -> Notes:
    """The same for a run's report."""
    said = diagnosis(folder, recipe)
    found = tuple(
        Note(f"{each.name} since step {each.since:,}", each.evidence, each.remedies) for each in said.findings
    )
    return Notes(said.words, found, said.not_examined)


def _vitals(recipe: Recipe, batches: Batches) -> vitals.Probe:
    """Vital signs; held-out images are those of the test split, for sources that have one."""

    def held_out() -> Batches | None:
        return _held_out(recipe, batches.device)

    told = vitals.Told(recipe.generator.takes, recipe.discriminator.takes)
    return vitals.vitals_probe(batches, held_out, recipe.latents, told, recipe.seed)


def _held_out(recipe: Recipe, device: torch.device) -> IndexedBatches | None:
    """Images of the test split, where the source has one and it is not trained on."""
    data = held_out_data(recipe.data) if recipe.data.split == "train" else None
    if data is None:
        return None
    how = {"flip": recipe.data.flip, "condition_on_coarse": recipe.data.condition_on_coarse}
    return IndexedBatches(data, 1, Stream(0), device, **how)


def held_out_batches(
    recipe: Recipe, follows: Literal["auto", "held-out", "signs"], device: torch.device
) -> HeldOut | None:
    """Batches of images that are not trained on, mirrored as those are; None where none are wanted or there.

    Raises UserError where there are none, but they have to be.
    """
    batches = None if follows == "signs" else _held_out(recipe, device)
    if batches is None:
        if follows == "held-out":
            raise UserError(
                f"augmentation.follows=held-out: {recipe.data.source} has no test split that is not trained on; "
                "use data.split=train where it has one, else augmentation.follows=signs"
            )
        return None
    found, n = batches, len(batches.images)

    def draw(stream: Stream, ranks: Ranks) -> Batch:
        order = stream.child("order").permutation(n)
        places = order[torch.arange(recipe.batch_size)[ranks.rows(recipe.batch_size)] % n]
        return found.at(places.to(found.images.device), stream.child("flip"))

    return draw


def _classifier_error(recipe: Recipe) -> Callable[[nn.Module], float] | None:
    """The error on the test split, for sources that have one."""
    held_out = held_out_data(recipe.data)
    return classifier_probe(held_out) if held_out is not None and held_out.labels is not None else None
