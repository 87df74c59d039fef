"""Latents uniform in [-1, 1). Source: Radford et al. 2015, https://arxiv.org/abs/1511.06434, section 4."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from twoplayer.core.protocols import Latents
from twoplayer.core.rng import Stream


class UniformLatents(Latents):
    """Each of `dim` numbers uniform in [-1, 1)."""

    name: Literal["uniform"] = "uniform"
    dim: int = Field(100, ge=1, le=1_000_000)

    def draw(self, n: int, stream: Stream, like: Tensor | None = None) -> Tensor:
        return stream.uniform((n, self.dim), -1.0, 1.0, like=like)
