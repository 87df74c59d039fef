"""A trained run: drawing from it, judging it, and what its players know."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from twoplayer.core.errors import UserError
from twoplayer.core.precision import compute_dtype
from twoplayer.core.protocols import Bounded, Supervised
from twoplayer.core.rng import Stream
from twoplayer.evaluation.doctor import Diagnosis
from twoplayer.evaluation.extraction import AUTO
from twoplayer.evaluation.features import LabelProbe, held_out, label_probe
from twoplayer.evaluation.figures import series
from twoplayer.evaluation.fresh_losses import Judged, fresh_losses
from twoplayer.evaluation.game import Figures
from twoplayer.evaluation.latents import Recovered, arithmetic, pictures_of, recover, walk
from twoplayer.judging import Judge
from twoplayer.loading import whole_splits
from twoplayer.recipes.load import load_recipe
from twoplayer.recipes.schema import Recipe
from twoplayer.runs.classes import Labels, class_ids
from twoplayer.runs.files import write_json
from twoplayer.runs.folder import RunFolder
from twoplayer.runs.grid import tile
from twoplayer.runs.log import Row, read_rows
from twoplayer.runs.sampling import in_turn, latents_of, sample_best, sample_blocks
from twoplayer.runs.snapshot import SnapshotInfo, read_classifier, read_snapshot
from twoplayer.session import restore
from twoplayer.training.checkpoint import DamagedCheckpoint, read_checkpoint, read_newest
from twoplayer.training.state import TrainingState, new_state
from twoplayer.watching import diagnosis

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_SAMPLES = 1_000_000


@dataclass(frozen=True)
class Run:
    """A run's folder and what can be done with it.

    Attributes:
        path: the folder.
        checkpoint: "newest", "best", or the step of a checkpoint that is still there.
    """

    path: Path
    checkpoint: Literal["newest", "best"] | int = "newest"

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
        return read_snapshot(self.folder.generator)[1]

    @cached_property
    def generator(self) -> nn.Module:
        """The averaged generator in evaluation mode: latents [N, latent_dim] to float images in [-1, 1]."""
        if self.checkpoint == "newest":
            return read_snapshot(self.folder.generator)[0]
        return self._state.generator_for_use.eval()

    @cached_property
    def discriminator(self) -> nn.Module:
        """The (averaged) discriminator of the same checkpoint in evaluation mode: images in [-1, 1] to a `Verdict`."""
        return self._state.discriminator_for_use.eval()

    def sample(self, n: int, seed: int = 0, best_of: int = 1, labels: Labels | None = None) -> Tensor:
        """n pictures, uint8 [n, C, H, W]. Picture i depends on the seed only, not on n.

        Args:
            n: how many, at most a million.
            seed: which ones.
            best_of: draw this many times as many and keep those that the discriminator finds most real.
            labels: for a conditional run, the class or classes, by name or id; picture i has the i-th of them, round
                and round. All classes when left out.

        Raises:
            UserError: n, seed or best_of is not a sensible number; the run is unconditional or has no such class.
        """
        return torch.cat(list(self.sample_blocks(n, seed, best_of, labels)))

    def sample_blocks(self, n: int, seed: int = 0, best_of: int = 1, labels: Labels | None = None) -> Iterator[Tensor]:
        """The same pictures, some at a time, for more of them than fit into memory."""
        if not all(isinstance(number, int) for number in (n, seed, best_of)):
            raise UserError(f"n={n}, best_of={best_of}, seed={seed}: all three are whole numbers")
        if n < 1 or best_of < 1 or n * best_of > MAX_SAMPLES or seed < 0:
            raise UserError(
                f"n={n}, best_of={best_of}, seed={seed}: n and best_of start at 1, their product ends at "
                f"{MAX_SAMPLES:,}, the seed starts at 0"
            )
        stream, latents = Stream(seed).child("sample"), self.info.latents
        ids = self.label_ids(labels)
        if best_of == 1:
            given = {"labels": in_turn(ids, n)} if ids else {}
            dtype = compute_dtype(self.recipe.precision, torch.device("cpu"))
            return sample_blocks(self.generator, latents, n, stream, given, dtype)
        if not ids:
            return iter([sample_best((self.generator, self.discriminator), latents, n, best_of, stream)])
        return iter([self._best_by_class(ids, n, best_of, stream)])

    def label_ids(self, labels: Labels | None) -> list[int]:
        """The class ids that a user's labels mean; all of them for None, none for an unconditional run.

        Raises UserError for classes that the run does not have.
        """
        return class_ids(labels, self.info, self.path)

    def latents_of(self, numbers: Sequence[int], seed: int = 0) -> Tensor:
        """The latents of pictures `numbers` of `sample(seed=seed)`: [len(numbers), latent_dim]. Raises UserError."""
        if not numbers or not 0 <= min(numbers) <= max(numbers) < MAX_SAMPLES or seed < 0:
            raise UserError(
                f"pictures {list(numbers)}, seed {seed}: both count from 0, pictures to {MAX_SAMPLES - 1:,}"
            )
        like = next(self.generator.parameters())
        return latents_of(self.info.latents, numbers, Stream(seed).child("sample"), like)

    def draw(self, latents: Tensor, label: int | str | None = None) -> Tensor:
        """The pictures of latents [N, latent_dim], uint8 [N, C, H, W]; a conditional run needs a label for them."""
        ids = self.label_ids(label)
        if len(ids) > 1:
            raise UserError(f"{self.path} is conditional; say which label (it has: {', '.join(self.info.class_names)})")
        return pictures_of(self.generator, latents, {"labels": torch.tensor(ids * len(latents))} if ids else {})

    def walk(
        self, stops: Sequence[int], frames: int = 12, seed: int = 0, spherical: bool | None = None, loop: bool = False
    ) -> Tensor:
        """Latents [T, latent_dim] of a way past pictures `stops` of `sample(seed=seed)`, `frames` for each part of it.

        `loop` is that of `evaluation.latents.walk`. Left out, `spherical` is true unless the latents are bounded: an
        arc between two of those leaves their range. Raises UserError.
        """
        if spherical is None:
            spherical = not isinstance(self.info.latents, Bounded)
        return walk(self.latents_of(stops, seed), frames, spherical, loop)

    def arithmetic(self, plus: Sequence[int], minus: Sequence[int], plus_again: Sequence[int], seed: int = 0) -> Tensor:
        """Latents [latent_dim]: the mean of pictures `plus`, less that of `minus`, and that of `plus_again`."""
        return arithmetic(*(self.latents_of(numbers, seed) for numbers in (plus, minus, plus_again)))

    def recover(self, picture: Tensor, labels: Labels | None = None, restarts: int = 8, **how: Any) -> Recovered:
        """The latents whose picture is nearest to a picture uint8 [C, H, W]; see `evaluation.latents.recover`.

        A conditional run tries `labels`, or all its classes, each from one or more of the beginnings. Raises UserError.
        """
        if tuple(picture.shape) != self.info.image_shape:
            raise UserError(f"the picture is {tuple(picture.shape)}, those of the run are {self.info.image_shape}")
        ids = self.label_ids(labels)
        restarts = max(restarts, len(ids))
        given = {"labels": in_turn(ids, restarts)} if ids else {}
        return recover(self.generator, picture, self.info.latents, restarts=restarts, given=given, **how)

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

    def _best_by_class(self, ids: list[int], n: int, best_of: int, stream: Stream) -> Tensor:
        """The best of each class, in the places where `sample` would put that class."""
        slots = in_turn(ids, n)
        pictures = torch.empty((n, *self.info.image_shape), dtype=torch.uint8)
        for number in sorted(set(ids)):
            places = (slots == number).nonzero().flatten()
            if len(places):
                label = {"labels": torch.tensor([number])}
                told = (label, label if "labels" in self.recipe.discriminator.takes else {})
                players, place = (self.generator, self.discriminator), stream.child("class", number)
                pictures[places] = sample_best(players, self.info.latents, len(places), best_of, place, told)
        return pictures

    def grid(self, n: int = 25, seed: int = 0, best_of: int = 1, labels: Labels | None = None) -> Image:
        """The same pictures tiled, as a Pillow image; those of a conditional run with one column per class."""
        pictures = self.sample(n, seed, best_of, labels)
        ids = self.label_ids(labels)[:n]
        if len(ids) < 2:
            return tile(pictures)
        return tile(pictures, len(ids), [self.info.class_names[number] for number in ids])

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
        self, n: int = 2000, seeds: int = 3, extractor: str = AUTO, every: bool = False, gan_train: bool = False
    ) -> Figures:
        """Every figure about the run; of its newest checkpoint also written to RUN/evaluation.json.

        Args:
            n: fakes, and real images, in each figure; fewer where there are not so many real ones.
            seeds: how often each random figure is taken anew.
            extractor: whose features are compared; "auto" is a classifier of the data's own labels, or without labels
                a random network.
            every: also take the figures of each checkpoint that is there, as "series".
            gan_train: of a conditional run, also train a classifier on fakes and test it on real images.

        Returns:
            By figure: value, spread over the seeds, floor (real against real), how many images, which split, extractor.

        Raises:
            UserError: n or seeds is no sensible number; the extractor, or gan_train, cannot judge such a run.
        """
        judge = Judge(self.recipe, n, seeds, extractor, gan_train)
        figures = self._figures(judge)
        if every:
            figures["series"] = series({step: Run(self.path, step)._figures(judge) for step in self.steps})
        if not self.recipe.levels:
            figures["doctor"] = self.diagnose(figures).as_json()
        if self.checkpoint == "newest":
            write_json(self.folder.evaluation, figures)
        return figures

    def diagnose(self, figures: Figures | None = None) -> Diagnosis:
        """What the doctor says of the training; `figures` of `evaluate` let it name missing classes."""
        return diagnosis(self.folder, self.recipe, figures)

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
        state = new_state(self.recipe, info.image_shape, len(info.class_names), torch.device("cpu"))
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
