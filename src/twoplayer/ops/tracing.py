"""Whether what is computed is being written down as a program (see `training/program.py`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_traced: ContextVar[bool] = ContextVar("traced", default=False)


@contextmanager
def traced(on: bool) -> Iterator[None]:
    """Inside, each of our own kernels is an operator, one step of the program, and nothing is put into given places."""
    token = _traced.set(on)
    try:
        yield
    finally:
        _traced.reset(token)


def is_traced() -> bool:
    """Whether that is so here."""
    return _traced.get()
