"""How many threads a training uses on a processor."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from twoplayer.training.step import Game

ALONE_TO = 50e6
"""Multiply-adds of both players for a batch up to which one thread plays alone: some tens of microseconds a layer, less
than threads can lose by waiting for each other at the end of each (see docs/performance.md)."""

SHARED = "TWOPLAYER_THREADS_SHARED"
"""In the environment: $OMP_NUM_THREADS is one process's share of the processor, and nobody's choice."""


@contextmanager
def fitting_threads(game: Game, batch_size: int) -> Iterator[None]:
    """One thread for small players, torch's number for the others.

    No clock is asked, so that a run goes the same way each time on one machine: sums are rounded differently by another
    number of threads. Who sets $OMP_NUM_THREADS has chosen.
    """
    threads = torch.get_num_threads()
    chosen = "OMP_NUM_THREADS" in os.environ and SHARED not in os.environ
    if chosen or not are_small(game, batch_size):
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def are_small(game: Game, batch_size: int) -> bool:
    """Whether both players are dense networks on a processor, with little to do for a batch."""
    parameters = [p for player in (game.generator, game.discriminator) for p in player.network.parameters()]
    dense = all(p.device.type == "cpu" and p.ndim < 3 for p in parameters)
    return dense and batch_size * sum(p.numel() for p in parameters) <= ALONE_TO
