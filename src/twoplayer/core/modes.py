"""Putting a module into training or inference mode for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def mode(module: nn.Module, *, training: bool) -> Iterator[None]:
    """Inside, the module is in the given mode; afterwards it is back in the mode it was in."""
    before = module.training
    module.train(training)
    try:
        yield
    finally:
        module.train(before)
