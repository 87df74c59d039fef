"""What one of several processes sees of the batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from twoplayer.core.batch import Batch, BatchSupply, PartedSupply, rows_of
from twoplayer.core.ranks import Ranks
from twoplayer.core.rng import Stream
from twoplayer.training.state import TrainingState


class Shared:
    """A rank's rows of each batch.

    Args:
        batches: the global ones.
        ranks: this process among all.
        batch_size: of the global batches. Raises UserError when it cannot be shared equally.
    """

    def __init__(self, batches: BatchSupply, ranks: Ranks, batch_size: int) -> None:
        self.batches, self.ranks, self.rows = batches, ranks, ranks.rows(batch_size)
        self.per_epoch = batches.per_epoch

    def __getitem__(self, number: int) -> Batch:
        """This rank's part of the batch with that number."""
        if isinstance(self.batches, PartedSupply):
            return self.batches.part(number, self.ranks)
        return rows_of(self.batches[number], self.rows)

    def some(self, n: int, stream: Stream) -> Batch:
        """The same n images on each rank."""
        return self.batches.some(n, stream)


def on_host(tree: Any) -> Any:
    """The same nested values with tensors on the processor: those of a GPU are unpickled on that GPU by every rank."""
    if isinstance(tree, Tensor):
        return tree.cpu()
    if isinstance(tree, Mapping):
        return {key: on_host(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(on_host(value) for value in tree)
    return tree


class Following:
    """An observer that writes nothing, such as that of every rank but the first."""

    def on_step(self, state: TrainingState) -> None:
        pass

    def on_log(self, state: TrainingState) -> bool:
        return False

    def on_sample(self, state: TrainingState, epoch_ended: int | None) -> None:
        pass

    def on_checkpoint(self, state: TrainingState, *, scheduled: bool) -> None:
        pass
