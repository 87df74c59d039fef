"""Timing several programs fairly on a machine that others use too: they take turns, and medians are compared.

Each contender is a process of its own that works when told to, so that one's threads, memory and settings do not reach
another's. A round is one turn of each.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from tempfile import TemporaryFile
from typing import IO, Any

from twoplayer.core.errors import UserError


@dataclass
class Contender:
    """A program that answers lines of JSON.

    Attributes:
        name: as it is shown.
        command: what is run.
        told: its first line.
        process: while it runs.
        words: what it says on stderr.
        seconds: per piece of work, one number for each turn.
    """

    name: str
    command: Sequence[str]
    told: dict[str, Any]
    process: subprocess.Popen[str] | None = None
    words: IO[str] | None = None
    seconds: list[float] = field(default_factory=list)

    def say(self, line: dict[str, Any]) -> None:
        """Send a line."""
        assert self.process is not None
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(line) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            self.hear()

    def hear(self) -> dict[str, Any]:
        """The next answer. Raises UserError with the program's last words when it has ended."""
        assert self.process is not None
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):  # libraries may print what they like
                answer: dict[str, Any] = json.loads(line)
                return answer
        assert self.words is not None
        self.words.seek(0)
        words = self.words.read().strip().splitlines() or ["it said nothing"]
        raise UserError(f"{self.name} could not be measured: {words[-1]}")

    def work(self, times: int) -> float:
        """Do the work a number of times; seconds for one."""
        self.say({"times": times})
        return float(self.hear()["seconds"]) / times

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)


def python(module: str) -> list[str]:
    """The command that runs one of our modules with this interpreter."""
    return [sys.executable, "-m", module]


@contextmanager
def running(contenders: Sequence[Contender]) -> Iterator[None]:
    """Inside, every contender has begun and is ready; they get ready one after another."""
    with ExitStack() as stack:
        for each in contenders:
            each.words = stack.enter_context(TemporaryFile("w+"))  # a pipe that nobody reads would fill up
            each.process = subprocess.Popen(
                each.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=each.words, text=True
            )
            stack.enter_context(each.process)  # which waits for its end and closes the pipes
            stack.callback(each.process.kill)
            each.say(each.told)
            each.hear()
        yield


def take_turns(contenders: Sequence[Contender], rounds: int, least: float, told: Callable[[], None]) -> None:
    """Fill in `seconds` of each contender.

    Args:
        contenders: running.
        rounds: turns of each, after one to warm up.
        least: seconds that a turn lasts at least; fast work is done several times.
        told: called after each turn.
    """
    times = {}
    for each in contenders:
        each.work(1)
        times[each.name] = 1
        while (seconds := each.work(times[each.name]) * times[each.name]) < least / 2:
            times[each.name] *= 2
        times[each.name] = max(round(times[each.name] * least / seconds), 1)
        told()
    for _ in range(rounds):
        for each in contenders:
            each.seconds.append(each.work(times[each.name]))
            told()
