"""What an augmentation is, and a discriminator with one before it."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal

from torch import Tensor, nn

from twoplayer.core.catalogue import Component
from twoplayer.core.rng import Stream


class Augmentation(Component):
    """Random changes of images, reals and fakes in the same way, before D sees them.

    D and the augmentation together are what judges, in D's moves and in G's: G learns through the changes, and
    penalties look at the slope of both with respect to images that are not changed yet, as the papers' code does.
    """

    kind = "augmentation"

    @property
    def figures(self) -> tuple[str, ...]:
        """The keys of the metrics log that it adds."""
        return ()

    @abstractmethod
    def build(self) -> nn.Module:
        """A module that is called with images [N, C, H, W] in [-1, 1] and a stream, and gives such images.

        It draws uniform and normal numbers from the stream, one row for each image. What it remembers are buffers,
        which a checkpoint holds.
        """


class FollowsOverfitting(nn.Module):
    """The module of an augmentation that goes by how far D overfits.

    Overfitting is a fraction, of which it is told both parts after every look at D (`training/overfitting.py`).

    Attributes:
        follows: "held-out": images that are not trained on are needed; "signs": they are not used; "auto": used where
            there are any.
        every: steps between looks.
    """

    follows: Literal["auto", "held-out", "signs"]
    every: int

    @abstractmethod
    def follow(self, part: Tensor, whole: Tensor, images: int) -> None:
        """Adapt to a look: the overfitting is part / whole, scalars; images: reals shown to D since the last look."""

    @abstractmethod
    def report(self) -> dict[str, Tensor]:
        """What is worth logging of every step, scalars by their name."""


class Augmented(nn.Module):
    """Looks like a discriminator; shares its weights and mode.

    Args:
        network: a network that takes nothing but images.
        augmentation: what changes images before it sees them.
        stream: of the changes; every call draws the same.
    """

    def __init__(self, network: nn.Module, augmentation: nn.Module, stream: Stream) -> None:
        super().__init__()
        self.network, self.augmentation, self.stream = network, augmentation, stream
        self.training = network.training

    def forward(self, images: Tensor) -> Any:
        return self.network(self.augmentation(images, self.stream))
