"""A trained run: drawing from it, judging it, and what its players know."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from twoplayer.core.errors import UserError
from twoplayer.core.precision import compute_dtype
from twoplayer.core.protocols import Supervised
from twoplayer.core.ranks import ALONE, Ranks
from twoplayer.core.rng import Stream
from twoplayer.drawing import CPU, Sampler
from twoplayer.evaluation.doctor import Diagnosis
from twoplayer.evaluation.extraction import AUTO
from twoplayer.evaluation.features import LabelProbe, held_out, label_probe
from twoplayer.evaluation.figure_table import FigureTable
from twoplayer.evaluation.figures import series
from twoplayer.evaluation.fresh_losses import Judged, fresh_losses
from twoplayer.evaluation.game import Figures
from twoplayer.judging import Judge
from twoplayer.loading import whole_splits
from twoplayer.recipes.load import load_recipe
from twoplayer.recipes.schema import Recipe
from twoplayer.runs.files import write_json
from twoplayer.runs.folder import RunFolder
from twoplayer.runs.glance import Glance, glance
from twoplayer.runs.log import Row, read_rows
from twoplayer.runs.report import write_report
from twoplayer.runs.sampling import Drawn, in_turn, sample_best
from twoplayer.runs.snapshot import SnapshotInfo, read_classifier, read_info, read_snapshot
from twoplayer.training.checkpoint import DamagedCheckpoint, read_checkpoint, read_newest
from twoplayer.training.resuming import restore
from twoplayer.training.state import TrainingState, new_state
from twoplayer.watching import diagnosis, doctor_notes


@dataclass(frozen=True)
class Run(Sampler):
    """A run's folder and what can be done with it. Shows itself at a glance, in a terminal and in a notebook.

    Attributes:
        path: the folder.
        checkpoint: "newest", "best", or the step of a checkpoint that is still there.
        device: where its networks compute when it draws pictures; figures are taken on the processor.
    """

    path: Path
    checkpoint: Literal["newest", "best"] | int = "newest"
    device: torch.device = CPU

    def __repr__(self) -> str:
        return self.glance.line

    def __str__(self) -> str:
        return self.glance.text()

    def _repr_html_(self) -> str:
        return self.glance.html()

    @property
    def glance(self) -> Glance:
        """What the folder says now; never raises, whatever state that is in."""
        return glance(self.folder, lambda: self.recipe.name, self._verdict)

    @property
    def folder(self) -> RunFolder:
        """Names of everything in the run's folder."""
        return RunFolder(self.path)

    @cached_property
    def recipe(self) -> Recipe:
        """The fully resolved recipe."""
        return load_recipe(str(self.folder.config))

    @property
    def metrics(self) -> list[Row]:
        """The lines of the metrics log."""
        return read_rows(self.folder.metrics)

    @cached_property
    def info(self) -> SnapshotInfo:
        """What the generator is and was trained on."""
        return read_info(self.folder.generator)

    @cached_property
    def generator(self) -> nn.Module:
        """The averaged generator in evaluation mode: latents [N, latent_dim] to float images in [-1, 1]."""
        if self.checkpoint == "newest":
            return read_snapshot(self.folder.generator)[0].to(self.device)
        return self._state.generator_for_use.eval().to(self.device)

    @cached_property
    def discriminator(self) -> nn.Module:
        """The (averaged) discriminator of the same checkpoint in evaluation mode: images in [-1, 1] to a `Verdict`."""
        return self._state.discriminator_for_use.eval().to(self.device)

    @property
    def figures(self) -> Figures:
        path = self.folder.evaluation
        return FigureTable(json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {})

    @property
    def compute_dtype(self) -> torch.dtype | None:
        return compute_dtype(self.recipe.precision, self.device)

    def best(self, n: int, best_of: int, stream: Stream, ids: list[int], latents: Drawn) -> Tensor:
        if not ids:
            return sample_best((self.generator, self.discriminator), latents, n, best_of, stream)
        return self._best_by_class(ids, n, best_of, stream, latents)

    def probe(self, train_size: int = 1000, seed: int = 0) -> LabelProbe:
        """How well a linear classifier reads classes off D's features; see `evaluation.features.label_probe`.

        It is trained on up to `train_size` images of the train split and tested on the test split; without splits, on a
        fifth of the images. Raises UserError for unlabeled data and for a D that is told the label.
        """
        told = self.recipe.discriminator.takes
        if told or train_size < 2 or seed < 0:
            why = f"its discriminator is told the {told[0]}" if told else f"train_size={train_size}, seed={seed}"
            raise UserError(f"{self.path} cannot be probed: {why}")
        train, test = whole_splits(self.recipe.data)
        return label_probe(self.discriminator, *held_out(train, test, train_size, seed), seed)

    def _best_by_class(self, ids: list[int], n: int, best_of: int, stream: Stream, latents: Drawn) -> Tensor:
        """The best of each class, in the places where `sample` would put that class."""
        slots = in_turn(ids, n)
        pictures = torch.empty((n, *self.info.image_shape), dtype=torch.uint8)
        for number in sorted(set(ids)):
            places = (slots == number).nonzero().flatten()
            if len(places):
                label = {"labels": torch.tensor([number])}
                told = (label, label if "labels" in self.recipe.discriminator.takes else {})
                players, place = (self.generator, self.discriminator), stream.child("class", number)
                pictures[places] = sample_best(players, latents, len(places), best_of, place, told)
        return pictures

    @cached_property
    def classifier(self) -> nn.Module:
        """Of a semi-supervised run: images in [-1, 1] to a `Verdict` with `class_logits`, in evaluation mode."""
        if not isinstance(self.recipe.objective, Supervised):
            raise UserError(f"{self.path} has no classifier: its objective is {self.recipe.objective.name}")
        if self.checkpoint == "newest":
            return read_classifier(self.folder.classifier)[0]
        return self.discriminator

    def test(self, n: int = 2000, seed: int = 0) -> dict[str, float]:
        """Average losses and scores on n fresh fakes and n held-out reals; no weight is touched.

        The reals are of the test split where the data has one, else of the training images.
        """
        return fresh_losses(self._judged, Judge(self.recipe).batches, n, Stream(seed).child("test"))

    def evaluate(
        self,
        n: int = 2000,
        seeds: int = 3,
        extractor: str = AUTO,
        every: bool = False,
        gan_train: bool = False,
        ranks: Ranks = ALONE,
    ) -> Figures:
        """Every figure about the run; of its newest checkpoint also written to RUN/evaluation.json.

        Args:
            n: fakes, and real images, in each figure; fewer where there are not so many real ones.
            seeds: how often each random figure is taken anew.
            extractor: whose features are compared; "auto" is a classifier of the data's own labels, or without labels
                a random network.
            every: also take the figures of each checkpoint that is there, as "series".
            gan_train: of a conditional run, also train a classifier on fakes and test it on real images.
            ranks: this process among all that share the drawing and the extraction, see `core.joining.joined`; the
                first one takes the figures and writes.

        Returns:
            By figure: value, spread over the seeds, floor (real against real), how many images, which split, extractor;
            a dict that shows itself as a table.

        Raises:
            UserError: n or seeds is no sensible number; the extractor, or gan_train, cannot judge such a run.
        """
        judge = Judge(self.recipe, n, seeds, extractor, gan_train, ranks)
        if not ranks.writes:
            return FigureTable(judge.shared.follow())
        figures = self._figures(judge)
        if every:
            figures["series"] = series({step: Run(self.path, step)._figures(judge) for step in self.steps})
        if not self.recipe.levels:
            figures["doctor"] = self.diagnose(figures).as_json()
        if self.checkpoint == "newest":
            write_json(self.folder.evaluation, figures)
            write_report(self.folder, None if self.recipe.levels else doctor_notes(self.folder, self.recipe))
        judge.shared.end(figures)
        return FigureTable(figures)

    def diagnose(self, figures: Figures | None = None) -> Diagnosis:
        """What the doctor says of the training; `figures` of `evaluate` let it name missing classes."""
        return diagnosis(self.folder, self.recipe, figures)

    def _verdict(self) -> str:
        """Of the doctor, in a few words; a pyramid's levels have each their own."""
        return "" if self.recipe.levels else self.diagnose(self.figures).words

    @property
    def steps(self) -> list[int]:
        """The steps that have a checkpoint."""
        return self.folder.checkpoint_steps()

    def _figures(self, judge: Judge) -> Figures:
        figures = judge.figures(self.generator, self.info, None if self.recipe.levels else self._judged)
        step = self.info.step if self.checkpoint == "newest" else self._state.step
        for figure in figures.values():
            figure |= {"step": step, "checkpoint": self.checkpoint}
        return figures

    @property
    def _judged(self) -> Judged:
        recipe = self.recipe
        networks = (recipe.generator, recipe.discriminator)
        return Judged(self.generator, self.discriminator, networks, self.info.latents, recipe.objective)

    @cached_property
    def _state(self) -> TrainingState:
        info = self.info
        if self.recipe.levels:
            raise UserError(f"{self.path} is a pyramid: each of {self.path / 'levels'} has a discriminator of its own")
        state = new_state(self.recipe, info.image_shape, len(info.class_names), CPU)
        restore(state, self._tree(), self.folder)
        return state

    def _tree(self) -> dict[str, Any]:
        """The state in the checkpoint. Raises UserError."""
        found = read_newest(self.folder)
        if found is None:
            raise UserError(f"{self.path} has no checkpoint yet")
        tree = found[0]
        step = tree["best"]["step"] if self.checkpoint == "best" else self.checkpoint
        if step in ("newest", 0, tree["step"]):
            return tree
        if step not in self.steps:
            raise UserError(f"{self.path} has no checkpoint of step {step} (it has: {', '.join(map(str, self.steps))})")
        try:
            return read_checkpoint(self.folder.checkpoint(step))[0]
        except DamagedCheckpoint as error:
            raise UserError(f"the checkpoint of step {step} is damaged: {error}") from error
