"""Stacked MNIST: 1,000 modes, named by a classifier of single digits, one channel after another.

Source: Metz et al. 2017, https://arxiv.org/abs/1611.02163, section 3.3.1; Srivastava et al. 2017 (VEEGAN),
https://arxiv.org/abs/1705.07761, section 4.1; 26,000 fakes as in Lin et al. 2018 (PacGAN),
https://arxiv.org/abs/1712.04086.

Deviation: the KL is to the shares that the classifier gives to real images, not to 1/1,000 each. They are known without
drawing an image: channels are independent, so a triple's share is the product of its digits' shares.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor, nn

from twoplayer.bench.known_modes import Figures, KnownModes
from twoplayer.core.batch import BatchSupply
from twoplayer.core.protocols import ImageShape, Latents
from twoplayer.core.rng import Stream
from twoplayer.data.batches import IndexedBatches
from twoplayer.data.form import Form
from twoplayer.data.idx import MnistSource
from twoplayer.data.images import ImageData
from twoplayer.data.source import Source
from twoplayer.data.stacked_mnist import DIGITS, StackedMnistSource, draw_triples, joined_class
from twoplayer.evaluation.extraction import AUTO, Fitted, choose, fitted
from twoplayer.metrics.modes import class_shares, modes_and_divergence
from twoplayer.recipes.schema import Recipe
from twoplayer.runs.sampling import sample_blocks


@dataclass(frozen=True)
class StackedMnist(KnownModes):
    """1,000 triples of digits.

    Attributes:
        num_fakes: in each figure.
        digits: where single digits come from.
        images: where stacked ones come from.
        name: as on the command line.
    """

    settings: ClassVar[str] = "stacked-mnist.yaml"

    num_fakes: int = 26_000
    digits: Source = field(default_factory=MnistSource)
    images: Source = field(default_factory=StackedMnistSource)
    name: str = "stacked-mnist"

    @property
    def num_modes(self) -> int:
        return len(self.train.class_names)

    @property
    def image_shape(self) -> ImageShape:
        return self.train.shape

    @cached_property
    def train(self) -> ImageData:
        """What the players learn from."""
        return self.images.load("train", Form())

    @cached_property
    def classifier(self) -> Fitted:
        """Names single digits; fitted once and kept (see `evaluation/extraction.py`)."""
        train, test = (self.digits.load(split, Form()) for split in ("train", "test"))
        return fitted(choose(AUTO, train), train, test)

    @cached_property
    def digits_named(self) -> Tensor:
        """The classifier's probabilities for every test digit: [M, K]."""
        return self.probabilities(self.digits.load("test", Form()).images)

    def probabilities(self, digits: Tensor) -> Tensor:
        """Of the classes of uint8 [M, 1, H, W]: [M, K]."""
        return self.classifier.network.observe(digits).see("probabilities")

    def batches(self, recipe: Recipe, device: torch.device) -> BatchSupply:
        return IndexedBatches(self.train, recipe.batch_size, Stream(recipe.seed).child("data"), device)

    def judge(self, generator: nn.Module, latents: Latents, stream: Stream) -> Figures:
        blocks = sample_blocks(generator, latents, self.num_fakes, stream)
        named = [self.probabilities(images.flatten(0, 1).unsqueeze(1)).argmax(1) for images in blocks]
        return self.figures(torch.cat(named).unflatten(0, (-1, DIGITS)))

    def floor(self, stream: Stream) -> Figures:
        rows = draw_triples(len(self.digits_named), self.num_fakes, stream)
        return self.figures(self.digits_named.argmax(1)[rows])

    def figures(self, named: Tensor) -> Figures:
        """The figures of images by the classes of their channels, int64 [N, 3]."""
        shares = class_shares(self.digits_named)
        real = torch.einsum("a,b,c->abc", shares, shares, shares).flatten()
        counts = torch.bincount(joined_class(named, len(shares)), minlength=len(real)).double()
        modes, divergence = modes_and_divergence(counts, real)
        return {"modes": float(modes), "kl": divergence}
