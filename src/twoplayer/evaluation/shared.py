"""Drawing and extraction that all ranks share: rank 0 asks, each does its part, rank 0 gets the whole in its order.

The parts are cut where one process would cut its own batches: kernels meet batches of the same sizes, so that what is
seen does not depend on the number of ranks (each on as many threads as the one). Metrics are rank 0's alone, and so is
everything that is kept; the others wait for what they are asked.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from twoplayer.core.extractor import ExtractorNetwork
from twoplayer.core.observed import Observed, joined
from twoplayer.core.protocols import Given
from twoplayer.core.ranks import Ranks
from twoplayer.core.rng import Stream
from twoplayer.data.images import ImageData
from twoplayer.runs.sampling import BLOCK, sample_blocks
from twoplayer.runs.snapshot import SnapshotInfo

Which = Literal["real", "train"]
"""What fakes are compared with, or what the generator learned from."""


class Shared:
    """What all ranks do together, and what rank 0 has told them.

    Args:
        ranks: this process among all.
        images: real images, asked for only when they are needed.
        given: what a conditional generator is told of n images at a place, [n, ...] each.
    """

    def __init__(
        self,
        ranks: Ranks,
        images: Callable[[Which], ImageData],
        given: Callable[[tuple[Given, ...], int, Stream], Mapping[str, Tensor]],
    ) -> None:
        self.ranks, self.images, self.given = ranks, images, given
        self.extractor: ExtractorNetwork | None = None
        self.generator: nn.Module | None = None
        self.info: SnapshotInfo | None = None

    def use_extractor(self, network: ExtractorNetwork) -> None:
        """Rank 0's, for all that comes."""
        self._ask(_Extractor(network))

    def use_generator(self, generator: nn.Module, info: SnapshotInfo) -> None:
        """Rank 0's, for all that comes."""
        weights = generator.state_dict() if self.ranks.count > 1 else {}
        self.generator, self.info = generator, info
        self._ask(_Generator(info, weights))

    def fakes(self, n: int, place: Stream, *, seen: bool = True) -> Observed:
        """n fakes with their labels, and what the extractor sees of them unless that is not wanted."""
        return self._whole(_Fakes(n, place, seen))

    def real(self, which: Which) -> Observed:
        """What the extractor sees of real images."""
        return self._whole(_Real(which))

    def end(self, result: Any) -> None:
        """Let the others go, with a result."""
        self.ranks.told(result)

    def follow(self) -> Any:
        """On all ranks but the first: do what it asks until the end; its result."""
        nothing: Any = None
        while isinstance(asked := self.ranks.told(nothing), _Task):
            asked.done_by(self)
        return asked

    def _ask(self, task: _Task) -> Observed | None:
        self.ranks.told(task)
        return task.done_by(self)

    def _whole(self, task: _Task) -> Observed:
        found = self._ask(task)
        assert found is not None, "rank 0 gets what it asks for"
        return found

    def together(self, n: int, see: Callable[[slice], Observed]) -> Observed | None:
        """What all see of n images, each of its own rows; on rank 0."""
        assert self.extractor is not None, "use_extractor comes first"
        rows = self.ranks.share(n, math.lcm(BLOCK, self.extractor.chunk))
        parts = self.ranks.gathered(see(rows) if rows.start < rows.stop else None)
        return joined([part for part in parts if part is not None]) if self.ranks.writes else None


class _Task(ABC):
    """Something that rank 0 asks of all ranks."""

    @abstractmethod
    def done_by(self, shared: Shared) -> Observed | None:
        """This rank's part; on rank 0 the whole, where that is something."""


@dataclass(frozen=True)
class _Extractor(_Task):
    network: ExtractorNetwork

    def done_by(self, shared: Shared) -> None:
        shared.extractor = self.network


@dataclass(frozen=True)
class _Generator(_Task):
    info: SnapshotInfo
    weights: dict[str, Tensor]

    def done_by(self, shared: Shared) -> None:
        if not shared.ranks.writes:
            network = self.info.build()
            network.load_state_dict(self.weights)
            shared.generator, shared.info = network.eval(), self.info


@dataclass(frozen=True)
class _Fakes(_Task):
    n: int
    place: Stream
    seen: bool

    def done_by(self, shared: Shared) -> Observed | None:
        generator, info, extractor = shared.generator, shared.info, shared.extractor
        assert generator is not None, "use_generator comes first"
        assert info is not None, "use_generator comes first"
        assert extractor is not None, "use_extractor comes first"
        takes = info.generator.takes

        def see(rows: slice) -> Observed:
            whole = shared.given(takes, self.n, self.place) if takes else {}
            told = {name: values[rows] for name, values in whole.items()}
            many = rows.stop - rows.start
            pixels = torch.cat(list(sample_blocks(generator, info.latents, many, self.place, told, first=rows.start)))
            seen = extractor.observe(pixels) if self.seen else Observed()
            return replace(seen, pixels=pixels, labels=told.get("labels"))

        return shared.together(self.n, see)


@dataclass(frozen=True)
class _Real(_Task):
    which: Which

    def done_by(self, shared: Shared) -> Observed | None:
        pixels, extractor = shared.images(self.which).images, shared.extractor
        assert extractor is not None, "use_extractor comes first"
        return shared.together(len(pixels), lambda rows: extractor.observe(pixels[rows]))
