"""A function of tensors, compiled: traced once, checked against itself, and called in its place from then on.

What is traced is what torch does below autograd, so that gradients, and gradients of gradients, are steps of the
program like any other. (Compiling a Python function and differentiating the result is not the same: second derivatives
of compiled autograd functions can be wrong without a warning.) A program is only taken into use after it gave, on other
inputs than those it was traced with, what the function itself gives: a number that was drawn or measured in Python
instead of by torch would stand in it as a constant, and show there.

Compiled code is kept (see `keep_compiled`) and found again by the next run.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

Function = Callable[[Sequence[Tensor]], list[Tensor]]
"""Tensors to tensors; may change tensors that it does not name, in place."""

TOLERANCE = 1e-2
"""How far results may be from those of the function, relative to the length of the longest; rectifiers that float32
puts on the other side of their kink differ by a thousandth."""

logger = logging.getLogger("twoplayer")


class NotCompiled(Exception):
    """Why a function has no program."""


@dataclass
class Programs:
    """The programs of a game.

    Attributes:
        backend: of `torch.compile`; None for the program as it was traced.
        seconds: what compiling cost so far.
        found: each by its name; None where there is none, so that the function itself is called.
    """

    backend: str | None = "inductor"
    seconds: float = 0.0
    found: dict[str, object | None] = field(default_factory=dict)

    def make(self, name: str, make: Callable[[], object]) -> None:
        """Make a program if that can be done, and say what it cost, or why not."""
        begun = time.monotonic()
        logger.info("compile: %s, once; this can take a minute or two", name)
        try:
            self.found[name] = make()
        except NotCompiled as reason:
            self.found[name] = None
            logger.warning("compile: %s is not compiled: %s", name, reason)
        seconds = time.monotonic() - begun
        self.seconds += seconds
        if self.found[name] is not None:
            logger.info("compile: %s in %.1f s", name, seconds)


def compiled(function: Function, inputs: Sequence[Tensor], backend: str | None) -> Function:
    """The program of a function at inputs of these shapes. Raises NotCompiled."""
    try:
        graph = make_fx(lambda *given: function(given), tracing_mode="real", _allow_non_fake_inputs=True)(*inputs)
        program: Callable[..., list[Tensor]] = graph
        if backend is not None:
            program = torch.compile(
                graph,
                fullgraph=True,
                dynamic=False,
                backend=backend,
                options={"fallback_random": True} if backend == "inductor" else None,
            )
        with torch.no_grad():
            program(*inputs)
    except Exception as error:  # tracers and compilers raise whatever they like; the function itself is still there
        raise NotCompiled(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__) from error

    def call(given: Sequence[Tensor]) -> list[Tensor]:
        with torch.no_grad():
            return program(*given)

    return call


def require_same(found: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    """Raise NotCompiled where tensors of one kind are not the same, up to rounding."""
    scale = max((float(each.norm()) for each in expected), default=0.0)
    for one, other in zip(found, expected, strict=True):
        off = float((one - other).norm())
        if not off <= TOLERANCE * max(float(other.norm()), 1e-3 * scale):
            raise NotCompiled(f"its results are {off / max(float(other.norm()), 1e-30):.1%} off")
