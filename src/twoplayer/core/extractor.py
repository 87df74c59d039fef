"""What an extractor is: a fixed network that turns images into numbers which metrics compare."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from twoplayer.core.catalogue import Component
from twoplayer.core.observed import Observed
from twoplayer.core.protocols import ImageShape
from twoplayer.core.rng import Stream


@dataclass(frozen=True)
class Images:
    """Images that an extractor may learn from.

    Attributes:
        pixels: uint8 [N, C, H, W].
        labels: int64 [N]; absent for unlabeled data.
        num_classes: 0 for unlabeled data.
    """

    pixels: Tensor
    labels: Tensor | None = None
    num_classes: int = 0

    def __len__(self) -> int:
        return len(self.pixels)


class ExtractorNetwork(nn.Module):
    """What an extractor builds: its `observe` is all that metrics know of it.

    Attributes:
        num_features: F.
        chunk: images that `observe` looks at together. Several processes that share a set cut it at a multiple, so that
            each image is seen in a batch of the same size as by one process.
    """

    num_features: int
    chunk: ClassVar[int] = 1

    @abstractmethod
    def observe(self, pixels: Tensor) -> Observed:
        """Features, and probabilities where it names classes, of uint8 [N, C, H, W]; in evaluation mode."""


class Extractor(Component):
    """Hyper-parameters of a feature extractor; adding one is one file."""

    kind = "extractor"
    label: ClassVar[str]
    """What its figures are called after: `fid_<data>-<label>`, or `fid_<label>` for one that no data made."""

    of_data: ClassVar[bool]
    """Whether its weights come from the data: then it is trained on it and named after it."""

    is_kept: ClassVar[bool] = True
    """Whether its weights are kept after they were made; not for one that has them in a file of its own."""

    @abstractmethod
    def build(self, image_shape: ImageShape, num_classes: int) -> ExtractorNetwork:
        """The network, with weights that are always the same until it is fitted."""

    def fit(self, network: ExtractorNetwork, train: Images, held_out: Images, stream: Stream) -> dict[str, Any]:
        """Learn from real images, in place; returns facts for the provenance, such as the held-out accuracy.

        Raises:
            UserError: it cannot learn from such data, or did not learn it well enough to be trusted.
        """
        return {}
