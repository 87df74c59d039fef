"""Standard normal latents, the usual choice since Goodfellow et al. 2014."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from twoplayer.core.protocols import Latents
from twoplayer.core.rng import Stream


class NormalLatents(Latents):
    """Each of `dim` numbers standard normal."""

    name: Literal["normal"] = "normal"
    dim: int = Field(100, ge=1, le=1_000_000)

    def draw(self, n: int, stream: Stream, like: Tensor | None = None) -> Tensor:
        return stream.normal((n, self.dim), like=like)
