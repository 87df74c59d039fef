"""The ways a command can end other than well, each with its exit code.

The command line prints their message as one line, without a traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Something the user can mend; the message is one line that says how."""

    exit_code = 2


class Diverged(ArithmeticError):
    """A loss, gradient or weight became NaN or infinite.

    Attributes:
        step: the step (generator updates, counted from 1) in which it happened.
        tensor: the name of the first tensor found, for example ``discriminator.blocks.0.weight (gradient)``.
    """

    exit_code = 3

    def __init__(self, step: int, tensor: str) -> None:
        super().__init__(f"training diverged in step {step}: {tensor} is NaN or infinite")
        self.step = step
        self.tensor = tensor


class TrainingStopped(KeyboardInterrupt):
    """Training was asked to stop by a signal and has saved a checkpoint."""

    exit_code = 130


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the nearest known word, or the empty string when nothing is near.

    >>> did_you_mean("dgits", ["digits", "mnist"])
    "; did you mean 'digits'?"
    """
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{near[0]}'?" if near else ""
