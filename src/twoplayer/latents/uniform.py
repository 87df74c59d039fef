"""Uniform latents. Source: Radford et al. 2015, https://arxiv.org/abs/1511.06434, section 4 ([-1, 1])."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator
from torch import Tensor

from twoplayer.core.protocols import Latents
from twoplayer.core.rng import Stream


class UniformLatents(Latents):
    """Each of `dim` numbers uniform in [low, high).

    Attributes:
        low: smallest value.
        high: bound above all values.
    """

    name: Literal["uniform"] = "uniform"
    dim: int = Field(100, ge=1, le=1_000_000)
    low: float = -1.0
    high: float = 1.0

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low={self.low} has to be below high={self.high}")
        return self

    def draw(self, n: int, stream: Stream, like: Tensor | None = None) -> Tensor:
        return stream.uniform((n, self.dim), self.low, self.high, like=like)
