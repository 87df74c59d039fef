"""A set of images as a metric sees it: their pixels, and what an extractor said about them; a set seen in parts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor

from twoplayer.core.rng import Stream

View = Literal["pixels", "features", "probabilities", "labels"]
"""What a metric can look at."""


@dataclass(frozen=True)
class Observed:
    """N images of one set, or as many of them as one update brings. What is there has N rows.

    Attributes:
        pixels: uint8 [N, C, H, W].
        features: float [N, F], of an extractor.
        probabilities: float [N, K], of an extractor that names classes; rows sum to 1.
        labels: int64 [N], the class that each image is of, or was asked to be of.
    """

    pixels: Tensor | None = None
    features: Tensor | None = None
    probabilities: Tensor | None = None
    labels: Tensor | None = None

    def __post_init__(self) -> None:
        counts = {name: len(rows) for name, rows in self._present().items()}
        assert len(set(counts.values())) <= 1, f"the views are of different numbers of images: {counts}"

    def __len__(self) -> int:
        return next((len(rows) for rows in self._present().values()), 0)

    def __getitem__(self, rows: Tensor | slice) -> Observed:
        """The same views of some of the images."""
        return Observed(**{name: values[rows] for name, values in self._present().items()})

    def has(self, view: View) -> bool:
        """Whether a view is there."""
        return view in self._present()

    def see(self, view: View) -> Tensor:
        """A view that has to be there, and sound: a comparison with NaN would quietly count as a figure."""
        found = self._present().get(view)
        assert found is not None, f"this metric needs {view}, which these images do not have"
        assert found.isfinite().all(), f"{view} are NaN or infinite"
        if view == "probabilities":
            assert (found.double().sum(1) - 1.0).abs().lt(1e-3).all(), (
                "these are no probabilities: rows do not sum to 1"
            )
        return found

    def _present(self) -> dict[str, Tensor]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: tensor for name, tensor in values.items() if tensor is not None}


class Measurement(ABC):
    """One measurement on its way. The figures do not depend on how the images are cut into updates."""

    @abstractmethod
    def update(self, images: Observed, *, real: bool) -> None:
        """See some more images."""

    @abstractmethod
    def compute(self, stream: Stream) -> dict[str, float]:
        """The figures over everything seen so far.

        Raises:
            UserError: that is too little.
        """


def joined(parts: Sequence[Observed]) -> Observed:
    """One set of several, in their order; all have the same views. Of no parts: an empty one, without views."""
    views = {name: [part._present()[name] for part in parts] for name in (parts[0]._present() if parts else ())}
    return Observed(**{name: torch.cat(tensors) for name, tensors in views.items()})


def drawn(rows: Tensor, n: int, stream: Stream) -> Tensor:
    """n of the rows without replacement; all of them, in their order, where there are no more than n."""
    return rows if len(rows) <= n else rows[stream.permutation(len(rows))[:n].to(rows.device)]
