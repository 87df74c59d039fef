"""Several processes that train one game together: what they tell each other, and who writes.

Every rank has the same players and computes with its own equal share of each global batch; gradients are averaged
before they are applied, so that all ranks stay the same. All that is random is drawn as for one process and sliced
(see `core/rng.py`): the number of ranks does not change a run, but for the order of sums, what dropout draws, and
layers whose batch is a rank's share (batch normalization, minibatch features) unless they are synchronized.

The processes find each other by the variables that torchrun, and every launcher for torch.distributed, sets: RANK,
WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from twoplayer.core.errors import UserError
from twoplayer.core.rng import Stream

T = TypeVar("T")


class OthersGone(RuntimeError):
    """An exchange failed: another process ended in the middle of it."""


@contextmanager
def exchange() -> Iterator[None]:
    """Around what asks all ranks. Raises OthersGone where torch says that it failed."""
    try:
        yield
    except RuntimeError as error:
        raise OthersGone(str(error).splitlines()[0]) from error


@dataclass(frozen=True)
class Ranks:
    """This process among all that train together.

    Attributes:
        index: of this process, from 0; rank 0 alone writes.
        count: how many there are.
        device: where what is exchanged has to be; None for where it is.
    """

    index: int = 0
    count: int = 1
    device: torch.device | None = None

    @property
    def writes(self) -> bool:
        """Whether this process writes, shows and measures."""
        return self.index == 0

    def sliced(self, stream: Stream) -> Stream:
        """The stream of this rank's share: its rows of what one process would draw."""
        return stream if self.count == 1 else stream.shared(self.index, self.count)

    def rows(self, n: int) -> slice:
        """This rank's rows of n. Raises UserError when they cannot be shared equally."""
        if n % self.count:
            raise UserError(f"batch_size={n} cannot be shared equally by {self.count} processes")
        share = n // self.count
        return slice(self.index * share, (self.index + 1) * share)

    def share(self, n: int, unit: int = 1) -> slice:
        """This rank's rows of n: whole units, as equally many as can be; the last unit may be shorter."""
        units = -(-n // unit)
        start, stop = (min(n, unit * (units * rank // self.count)) for rank in (self.index, self.index + 1))
        return slice(start, stop)

    def mean_(self, tensors: Iterable[Tensor]) -> None:
        """Replace floating tensors by their means over all ranks: one exchange for each dtype."""
        if self.count == 1:
            return
        from torch import distributed

        kinds: dict[torch.dtype, list[Tensor]] = defaultdict(list)
        for tensor in tensors:
            kinds[tensor.dtype].append(tensor)
        for alike in kinds.values():
            flat = torch.cat([tensor.detach().reshape(-1) for tensor in alike])
            place = flat if self.device is None else flat.to(self.device)
            with exchange():
                distributed.all_reduce(place)
            parts = place.div_(self.count).to(flat.device).split([tensor.numel() for tensor in alike])
            torch._foreach_copy_(
                [tensor.detach() for tensor in alike],
                [part.view_as(tensor) for part, tensor in zip(parts, alike, strict=True)],
            )

    def told(self, value: T) -> T:
        """What rank 0 says; anything that can be pickled."""
        if self.count == 1:
            return value
        from torch import distributed

        said: list[Any] = [value if self.writes else None]
        with exchange():
            distributed.broadcast_object_list(said, src=0, device=self.device)
        found: T = said[0]
        return found

    def gathered(self, value: T) -> list[T]:
        """On rank 0 what each rank says, in their order; nothing on the others. Anything that can be pickled."""
        if self.count == 1:
            return [value]
        from torch import distributed

        said: list[Any] = [None] * self.count if self.writes else []
        with exchange(), nullcontext() if self.device is None else torch.cuda.device(self.device):
            distributed.gather_object(value, said if self.writes else None, dst=0)
        return said

    @contextmanager
    def ending_together(self, *ends: type[BaseException]) -> Iterator[None]:
        """Inside something that all ranks leave alike, in good order or by one of these errors.

        Nobody goes before rank 0, which has things to write then: a launcher ends all when one has ended.
        """
        try:
            yield
        except ends:
            self.told(None)
            raise
        self.told(None)

    def any(self, flag: bool) -> bool:
        """Whether it is so on any rank."""
        if self.count == 1:
            return flag
        place = torch.tensor([float(flag)])
        self.mean_([place])
        return bool(place > 0)

    def mean(self, values: Tensor) -> Tensor:
        """The mean of a tensor over all ranks, with a graph that can be differentiated twice."""
        joined: Tensor = _Mean.apply(values, self)  # type: ignore[no-untyped-call]
        return joined

    @contextmanager
    def coupling(self, *, statistics: bool = False) -> Iterator[None]:
        """Inside, `batch_mean` is that of the batches of all ranks; `statistics`: so are those of layers."""
        several = self if self.count > 1 else None
        before = _coupled.set(several), _synchronized.set(several if statistics else None)
        try:
            yield
        finally:
            _coupled.reset(before[0])
            _synchronized.reset(before[1])


ALONE = Ranks()

_coupled: ContextVar[Ranks | None] = ContextVar("coupled", default=None)
_synchronized: ContextVar[Ranks | None] = ContextVar("synchronized", default=None)


def synchronized() -> Ranks | None:
    """The ranks whose batches are one to layers that look at their batch; None where each looks at its own."""
    return _synchronized.get()


def batch_mean(values: Tensor) -> Tensor:
    """The mean of [N, ...] over the images of the whole batch, of which this process may have a share; with a graph."""
    mean, ranks = values.mean(0), _coupled.get()
    return mean if ranks is None else ranks.mean(mean)


def batch_deviation(values: Tensor) -> Tensor:
    """The standard deviation of all numbers of the whole batch, a scalar."""
    if _coupled.get() is None:
        return values.std(correction=0)
    return batch_mean((values - batch_mean(values).mean()).square()).mean().sqrt()


class _Mean(torch.autograd.Function):
    """The mean over all ranks.

    Its derivative is a mean again: the loss of every rank depends on every rank's part of it, and gradients are
    averaged over ranks afterwards.
    """

    @staticmethod
    def forward(ctx: Any, value: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        mean = value.detach().clone()
        ranks.mean_([mean])
        return mean

    @staticmethod
    def backward(ctx: Any, *deltas: Tensor) -> Any:
        return _Mean.apply(deltas[0], ctx.ranks), None  # type: ignore[no-untyped-call]


def on_this_machine() -> int:
    """How many processes a launcher started beside this one, itself included; 1 where it does not say."""
    return max(int(os.environ.get("LOCAL_WORLD_SIZE", "1")), 1)


def are_several() -> bool:
    """Whether a launcher started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1
