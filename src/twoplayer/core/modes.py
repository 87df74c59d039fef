"""Putting a module into training or inference mode for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def mode(module: nn.Module, *, training: bool) -> Iterator[None]:
    """Inside, the module and all in it are in the given mode; afterwards each is back in the mode it was in."""
    before = [(each, each.training) for each in module.modules() if each.training != training]
    for each, _ in before:
        each.training = training
    try:
        yield
    finally:
        for each, was in before:
            each.training = was
