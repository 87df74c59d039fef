"""Judging runs: the real images, the extractor and the metrics put together once, then one generator after another."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import nn

from twoplayer.core.errors import UserError
from twoplayer.core.ranks import ALONE, Ranks
from twoplayer.core.rng import Stream
from twoplayer.data.batches import Batches, IndexedBatches
from twoplayer.data.images import ImageData
from twoplayer.evaluation.extraction import AUTO, Fitted, choose, fitted
from twoplayer.evaluation.figures import Evaluation, Pool, catalogue_figures, memorization_figure
from twoplayer.evaluation.fresh_losses import Judged
from twoplayer.evaluation.game import Figures, Real, game_figures
from twoplayer.evaluation.gan_train import gan_train_figure, require_gan_train
from twoplayer.evaluation.shared import Shared
from twoplayer.extractors.cnn import RandomCnn
from twoplayer.loading import held_out_data, load_data, whole_splits
from twoplayer.recipes.schema import DataOptions, Recipe
from twoplayer.runs.snapshot import SnapshotInfo

LEAST_IMAGES = 2
HELD_OUT_SHARE = 0.2
"""Of data without splits: what an extractor is checked on."""


@dataclass(frozen=True)
class Judge:
    """Takes figures about generators that learned from the data of one recipe.

    Attributes:
        recipe: of the run.
        n: fakes, and real images, in each figure.
        seeds: how often each figure is taken anew.
        extractor: a name; "auto" for the one that suits the data.
        gan_train: also train classifiers on fakes.
        ranks: this process among all that draw and extract; the first one takes the figures.
    """

    recipe: Recipe
    n: int = 2000
    seeds: int = 3
    extractor: str = AUTO
    gan_train: bool = False
    ranks: Ranks = ALONE

    def __post_init__(self) -> None:
        if self.n < 1 or self.seeds < 1:
            raise UserError(f"n={self.n}, seeds={self.seeds}: both start at 1")

    def figures(self, generator: nn.Module, info: SnapshotInfo, game: Judged | None) -> Figures:
        """All figures about one generator; those of the game only where there is a discriminator.

        Args:
            generator: latents to images, in evaluation mode.
            info: what it is.
            game: the same generator with its discriminator.
        """
        if self.gan_train:
            require_gan_train(info.generator.takes, None if self.real is self.train else self.train)

        self.shared.use_generator(generator, info)
        draw = self.shared.fakes
        real = Real(self.real, self.batches, min(self.n, len(self.real)), self.seeds)
        figures: Figures = {} if game is None else game_figures(game, real)
        found, refused = catalogue_figures(draw, self.evaluation)
        figures |= found
        if self.evaluation.train is not None:
            figures[self.fitted.figure("memorization")] = memorization_figure(draw, self.evaluation)
        if self.gan_train:
            figures["gan-train"] = gan_train_figure(draw, self.evaluation)
        for figure in figures.values():
            figure["warnings"] = self.warnings() + refused
        return figures

    def warnings(self) -> list[str]:
        """What a reader of the figures has to know, in words."""
        found = []
        size, dimension = self.evaluation.size, self.fitted.network.num_features
        if size < dimension:
            found.append(
                f"{size:,} images are fewer than the extractor's {dimension:,} features: covariances are singular, and "
                "the Frechet distance says little; raise --n"
            )
        if size < self.n:
            found.append(f"{self.n:,} images were asked for; there are enough real ones for {size:,}")
        if self.fitted.name == RandomCnn.label:
            found.append(
                "features of a random network say how sets differ, not what is wrong; they compare only with "
                "figures of the same extractor and data"
            )
        return found

    @cached_property
    def shared(self) -> Shared:
        """What all processes do together."""
        return Shared(
            self.ranks,
            lambda which: self.real if which == "real" else self.train,
            lambda takes, n, place: self.batches.some(n, place.child("given")).given(takes),
        )

    @cached_property
    def train(self) -> ImageData:
        """What the run learned from."""
        return load_data(self.recipe.data)

    @cached_property
    def real(self) -> ImageData:
        """What fakes are compared with: images the run did not see, where its data has a test split."""
        options = self.recipe.data
        held = held_out_data(options) if options.split == "train" else None
        return held or self.train

    @cached_property
    def batches(self) -> Batches:
        """The same images as batches."""
        coarse = self.recipe.data.condition_on_coarse
        return IndexedBatches(self.real, 1, Stream(0), torch.device("cpu"), condition_on_coarse=coarse)

    @cached_property
    def fitted(self) -> Fitted:
        """The extractor, fitted to the data's own splits whatever part of it the run learned from."""
        learned, checked = _splits(self.recipe.data)
        found = fitted(choose(self.extractor, learned), learned, checked)
        self.shared.use_extractor(found.network)
        return found

    @cached_property
    def evaluation(self) -> Evaluation:
        """Real images as the extractor sees them."""
        see = self.shared.real
        train = Pool.of(self.train, self.fitted, partial(see, "train")) if self.real is not self.train else None
        real = Pool.of(self.real, self.fitted, partial(see, "real"))
        found = Evaluation(self.fitted, real, train, self.n, self.seeds)
        if found.size < LEAST_IMAGES:
            raise UserError(
                f"figures need {LEAST_IMAGES} images of each kind, and twice as many real ones for their floor: "
                f"n={self.n}, and {self.real.name} has {len(self.real):,} in split {self.real.split}"
            )
        return found


def _splits(options: DataOptions) -> tuple[ImageData, ImageData]:
    """Images to fit an extractor to and others to check it on."""
    train, test = whole_splits(options)
    if test.split == "test":
        return train, test
    order = Stream(0).child("extractor", "held-out").permutation(len(train))
    edge = round(HELD_OUT_SHARE * len(train))
    return train.chosen(order[edge:]), train.chosen(order[:edge])
