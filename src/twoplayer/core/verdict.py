"""What a discriminator says about a batch of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import repeat

import torch
from torch import Tensor


@dataclass(frozen=True)
class Verdict:
    """A player's answer about N images.

    Attributes:
        logits: [N], raw output; larger means "more real".
        features: [N, F], the activations the logits were computed from, where the network shows them.
        class_logits: [N, K], for a discriminator that also names classes.
    """

    logits: Tensor
    features: Tensor | None = None
    class_logits: Tensor | None = None

    def detach(self) -> Verdict:
        """The same answer, cut off from the graph that made it."""
        rest = (None if part is None else part.detach() for part in (self.features, self.class_logits))
        return Verdict(self.logits.detach(), *rest)

    def to(self, dtype: torch.dtype) -> Verdict:
        """The same answer in another dtype."""
        rest = (None if part is None else part.to(dtype) for part in (self.features, self.class_logits))
        return Verdict(self.logits.to(dtype), *rest)

    def rows(self, rows: slice) -> Verdict:
        """The answers about some of the images."""
        rest = (None if part is None else part[rows] for part in (self.features, self.class_logits))
        return Verdict(self.logits[rows], *rest)

    @classmethod
    def joined(cls, verdicts: Sequence[Verdict]) -> Verdict:
        """One about all images, of those about some of them."""
        names = [each.name for each in fields(cls) if getattr(verdicts[0], each.name) is not None]
        return cls(**{name: torch.cat([getattr(verdict, name) for verdict in verdicts]) for name in names})

    def split(self, sizes: Sequence[int]) -> list[Verdict]:
        """The answers about the first sizes[0] images, the next sizes[1], ... as verdicts of their own."""
        parts = (
            repeat(None, len(sizes)) if part is None else part.split(list(sizes))
            for part in (self.features, self.class_logits)
        )
        return [Verdict(*some) for some in zip(self.logits.split(list(sizes)), *parts, strict=True)]
