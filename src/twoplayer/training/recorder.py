"""What a run writes down while it trains: log, grids, checkpoints, snapshot."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from twoplayer.core.errors import UserError
from twoplayer.core.protocols import Supervised
from twoplayer.core.rng import Stream
from twoplayer.core.tracking import Tracking
from twoplayer.recipes.resume import core
from twoplayer.recipes.schema import Recipe
from twoplayer.runs.folder import RunFolder
from twoplayer.runs.grid import save_png, tile
from twoplayer.runs.log import ALWAYS, CLASSIFIER_ERROR, Row, append_row, flush_to_disk, read_rows
from twoplayer.runs.sampling import sample
from twoplayer.runs.snapshot import ClassifierInfo, NetworkInfo, SnapshotInfo, write_classifier, write_snapshot
from twoplayer.training.annealing import Annealing
from twoplayer.training.checkpoint import prune, write_checkpoint
from twoplayer.training.loop import Schedule
from twoplayer.training.progress import Progress
from twoplayer.training.state import TrainingState

logger = logging.getLogger("twoplayer")


@dataclass
class Recorder:
    """The loop's observer.

    Attributes:
        folder: the run.
        recipe: its recipe.
        schedule: its schedule.
        info: facts for the snapshot; step and kimg are filled in.
        progress: where progress is shown.
        judge: the in-training figure of a generator, lower is better; decides which checkpoint is best.
        given: what a conditional generator is told for the grid, one row per picture.
        titles: what stands above the columns of the grid.
        classifier_error: the share of test images that a discriminator names wrongly; logged at checkpoints.
        doctor: remarks on the log so far, asked for when vital signs have been taken.
        trackings: services that are told too.
        lost: what could not be written on the way.
        vitals: vital signs of generator and discriminator, logged about as often as grids are made.
    """

    folder: RunFolder
    recipe: Recipe
    schedule: Schedule
    info: SnapshotInfo
    progress: Progress
    judge: Callable[[nn.Module], float]
    given: Mapping[str, Tensor] = field(default_factory=dict)
    titles: tuple[str, ...] = ()
    classifier_error: Callable[[nn.Module], float] | None = None
    vitals: Callable[[nn.Module, nn.Module], dict[str, float]] | None = None
    doctor: Callable[[list[Row]], list[str]] | None = None
    trackings: Mapping[str, Tracking] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)

    def on_step(self, state: TrainingState) -> None:
        self.progress.advance(state.step)

    def on_log(self, state: TrainingState) -> bool:
        row = self.row(state)
        if self.classifier_error and self.schedule.due(state.step, self.schedule.checkpoint_every):
            row[CLASSIFIER_ERROR] = self.classifier_error(state.discriminator_for_use)
        row |= gradient_norms(state)
        if self.vitals and self._vitals_due(state.step):
            row |= self.vitals(state.generator_for_use, state.discriminator_for_use)
        with self.going_on_without("the log"):
            append_row(self.folder.metrics, row)
        figures = {name: value for name, value in row.items() if value is not None}
        self._tell(lambda service: service.figures(state.step, figures))
        self.progress.figures(row)
        if self.doctor and self._vitals_due(state.step):
            for remark in self.doctor(read_rows(self.folder.metrics)):
                self.progress.remark(remark)
        goal = self.recipe.stop
        if goal is None:
            return False
        figure = row.get(goal.metric)
        if figure is None and goal.metric != CLASSIFIER_ERROR:  # that one is taken at checkpoints only
            raise UserError(f"stop.metric={goal.metric} does not exist in this game")
        return figure is not None and goal.reached(figure)

    def _vitals_due(self, step: int) -> bool:
        """In the first line of the log after each grid."""
        every, log_every = self.schedule.sample_every, self.schedule.log_every
        return step == self.schedule.steps or step // every > (step - log_every) // every

    def on_sample(self, state: TrainingState, epoch_ended: int | None) -> None:
        stream = Stream(self.recipe.seed).child("grid")
        n = self.recipe.grid_images
        images = sample(state.generator_for_use, self.recipe.latents, n, stream, self.given)
        facts: dict[str, str | int | float] = {"step": state.step}
        if epoch_ended is not None:
            facts["epoch_ended"] = epoch_ended
        grid = tile(images, len(self.titles) or None, self.titles)
        with self.going_on_without("a picture"):
            save_png(grid, self.folder.sample_grid(state.step), facts)
        self.progress.grid(state.step, grid)
        self._tell(lambda service: service.picture(state.step, grid))

    @contextmanager
    def going_on_without(self, what: str) -> Iterator[None]:
        """A log or a picture that cannot be written does not end a training; it is said once."""
        try:
            yield
        except OSError as error:
            if what not in self.lost:
                self.lost.add(what)
                logger.warning("%s cannot be written (%s); training goes on without", what, error.strerror or error)

    def _tell(self, words: Callable[[Tracking], None]) -> None:
        """Tell the services; one that fails does not end a training either, and is not told any more."""
        for name, tracking in self.trackings.items():
            if name in self.lost:
                continue
            try:
                words(tracking)
            except Exception as error:  # services raise whatever their transport raises
                self.lost.add(name)
                logger.warning("tracking: %s does not answer (%s); training goes on without", name, error)

    def on_checkpoint(self, state: TrainingState, *, scheduled: bool) -> None:
        if scheduled:
            figure = self.judge(state.generator_for_use)
            if figure < state.best_figure:
                state.best_step, state.best_figure = state.step, figure
        with self.going_on_without("the log"):
            flush_to_disk(self.folder.metrics)
        facts: dict[str, Any] = {
            "data_sha256": self.info.data_sha256,
            "recipe": core(self.recipe),
            "steps": self.schedule.steps,
        }
        if state.game.ranks.count > 1:
            facts["processes"] = state.game.ranks.count
        write_checkpoint(self.folder, state.step, state.tree(), facts)
        self.publish(state)

    def publish(self, state: TrainingState) -> None:
        """What follows from a saved checkpoint: older ones go, the snapshot for use is brought up to it."""
        prune(self.folder, self.recipe.keep_checkpoints, state.step, state.best_step)
        info = self.info.model_copy(update={"step": state.step, "kimg": self.kimg(state.step)})
        write_snapshot(self.folder.generator, state.generator_for_use, info)
        if isinstance(self.recipe.objective, Supervised):
            facts = {name: getattr(info, name) for name in NetworkInfo.model_fields}
            classifier = ClassifierInfo(**facts, discriminator=self.recipe.discriminator)
            write_classifier(self.folder.classifier, state.discriminator_for_use, classifier)

    def kimg(self, step: int) -> float:
        """Thousands of real images shown to D after a step."""
        return step * self.schedule.batches_per_step * self.recipe.batch_size / 1000.0

    def row(self, state: TrainingState) -> Row:
        """The line of the log for the present interval."""
        images = state.meters.steps * self.schedule.batches_per_step * self.recipe.batch_size
        row: Row = {
            "step": state.step,
            "kimg": self.kimg(state.step),
            "epoch": self.schedule.epoch(state.step),
            "seconds": round(state.seconds, 3),
            "images_per_second": round(images / max(state.meters.seconds, 1e-9), 1),
        }
        means = state.meters.means()
        schedules = Annealing(self.recipe, self.schedule.steps).figures(state.step - 1)
        return row | {name: means.get(name) for name in ALWAYS} | means | schedules


def gradient_norms(state: TrainingState) -> dict[str, float]:
    """The Euclidean length of each player's last gradient, by name in the log."""
    players = {"generator": state.game.generator, "discriminator": state.game.discriminator}
    return {f"gradient/{role}": _length(player.parameters()) for role, player in players.items()}


def _length(parameters: list[nn.Parameter]) -> float:
    """In float64, where the squares of no float32 are infinite."""
    gradients = [each.grad.detach().cpu().double() for each in parameters if each.grad is not None]
    lengths = [torch.linalg.vector_norm(gradient) for gradient in gradients]
    return float(torch.linalg.vector_norm(torch.stack(lengths))) if lengths else 0.0
