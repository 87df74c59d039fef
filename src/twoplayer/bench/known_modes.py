"""What a benchmark of modes asks of its data."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import nn

from twoplayer.core.batch import BatchSupply
from twoplayer.core.protocols import ImageShape, Latents
from twoplayer.core.rng import Stream
from twoplayer.recipes.schema import Recipe

Figures = dict[str, float]
"""By name: `modes` found; `high_quality`, the share of the fakes that belong to a mode, where that can be said; `kl` of
the shares of the modes to those of the data, in nats, infinite where no fake belongs to one."""


NOTHING_FOUND: Figures = {"modes": 0.0, "high_quality": 0.0, "kl": math.inf}
"""What fakes are worth of which none belongs to a mode, and a game that diverged."""


class KnownModes(ABC):
    """Data whose modes are known.

    Attributes:
        settings: the file, beside this one, that games on this data begin with.
        name: as on the command line.
    """

    settings: ClassVar[str]
    name: str

    @property
    @abstractmethod
    def num_modes(self) -> int:
        """How many there are to find."""

    @property
    @abstractmethod
    def num_fakes(self) -> int:
        """How many fakes one run is judged by."""

    @property
    @abstractmethod
    def image_shape(self) -> ImageShape:
        """Of what the players see."""

    @abstractmethod
    def batches(self, recipe: Recipe, device: torch.device) -> BatchSupply:
        """The batches of a run: of its batch size, drawn with its seed."""

    @abstractmethod
    def judge(self, generator: nn.Module, latents: Latents, stream: Stream) -> Figures:
        """The figures of `num_fakes` fakes."""

    @abstractmethod
    def floor(self, stream: Stream) -> Figures:
        """What as many real samples get in the place of the fakes."""
