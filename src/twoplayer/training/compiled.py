"""Moves whose gradients come from compiled programs (see `program.py`)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal, TypeVar, cast

import torch
from torch import Tensor

from twoplayer.core.batch import Batch
from twoplayer.core.rng import Stream
from twoplayer.core.verdict import Verdict
from twoplayer.ops.dropout import Seeds, seeded_by
from twoplayer.ops.tracing import traced
from twoplayer.training.placed import Draws, PlacedStream
from twoplayer.training.program import Function, NotCompiled, Programs, compiled, require_same
from twoplayer.training.step import Game, Moves, Player, Report

T = TypeVar("T")
Answer = tuple[Verdict | None, Report]
Body = Callable[[Moves, Batch, Verdict | None, Stream], Answer]


PAYS_FROM_STEPS = 10_000
"""Steps of a run from which compiling pays: it takes half a minute, and saves milliseconds a step (see
docs/performance.md)."""

PAYS_TO_PARAMETERS = 500_000
"""Parameters of both players up to which it does: above, and in convolutions, the time goes into products."""


def is_compiled(game: Game, compile: Literal["auto"] | bool, steps: int) -> bool:
    """Whether a recipe's `compile` means that a run of so many steps is compiled."""
    return compile is True or (compile == "auto" and compiling_pays(game, steps))


def compiling_pays(game: Game, steps: int) -> bool:
    """Whether "auto" compiles a run of so many steps; on a GPU recorded blocks save more (see `captured.py`)."""
    parameters = [p for player in (game.generator, game.discriminator) for p in player.network.parameters()]
    small = sum(p.numel() for p in parameters) <= PAYS_TO_PARAMETERS and all(p.ndim < 4 for p in parameters)
    on_cpu = all(p.device.type == "cpu" for p in parameters)
    return on_cpu and small and steps >= PAYS_FROM_STEPS and has_compiler()


def has_compiler() -> bool:
    """Whether there is a C++ compiler for torch to call."""
    return any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "clang++", "cl"))


class Compiled:
    """The same gradients and reports from programs, made the first time that a move is asked for.

    A batch of another size than the first, such as the last of an epoch, is played without them.

    Args:
        game: the players.
        moves: makes the moves that the programs stand for.
        programs: those that are there.
    """

    def __init__(self, game: Game, moves: Callable[[], Moves], programs: Programs) -> None:
        self.game, self.moves, self.programs = game, moves, programs

    def simultaneous(self, real: Batch, stream: Stream) -> Report:
        def body(moves: Moves, real: Batch, _: Verdict | None, place: Stream) -> Answer:
            return None, moves.simultaneous(real, place)

        return self._play("both players", (self.game.generator, self.game.discriminator), body, (real, None), stream)[1]

    def discriminator(self, real: Batch, stream: Stream) -> tuple[Verdict, Report]:
        def body(moves: Moves, real: Batch, _: Verdict | None, place: Stream) -> Answer:
            return moves.discriminator(real, place)

        on_real, report = self._play("the discriminator", (self.game.discriminator,), body, (real, None), stream)
        assert on_real is not None
        return on_real, report

    def generator(self, real: Batch, before: Verdict, stream: Stream) -> Report:
        def body(moves: Moves, real: Batch, before: Verdict | None, place: Stream) -> Answer:
            assert before is not None
            return None, moves.generator(real, before, place)

        return self._play("the generator", (self.game.generator,), body, (real, before), stream)[1]

    def _play(
        self, name: str, players: tuple[Player, ...], body: Body, given: tuple[Batch, Verdict | None], stream: Stream
    ) -> Answer:
        if name not in self.programs.found:
            move = CompiledMove(self.game, self.moves, players, body)
            self.programs.make(name, lambda: move.made(given, stream, self.programs.backend))
            move.fits = self._fits(given)
        found = cast(CompiledMove | None, self.programs.found[name])
        if found is None or found.fits != self._fits(given):
            return body(self.moves(), *given, stream)
        return found(given, stream)

    def _fits(self, given: tuple[Batch, Verdict | None]) -> tuple[object, ...]:
        """What a program holds for: the shapes it is given, the modes that the players are in."""
        modes = (player.network.training for player in (self.game.generator, self.game.discriminator))
        return *modes, *(leaf.shape for leaf in leaves(given))


@dataclass
class CompiledMove:
    """One move, for batches of one size.

    Attributes:
        game: the players.
        moves: makes the moves.
        players: those whose gradients it finds.
        body: which move it is.
        fits: what it holds for.
    """

    game: Game
    moves: Callable[[], Moves]
    players: tuple[Player, ...]
    body: Body
    fits: tuple[object, ...] = ()

    def made(self, given: tuple[Batch, Verdict | None], stream: Stream, backend: str | None) -> CompiledMove:
        """Trace, compile and check it; the game is left as it was. Raises NotCompiled."""
        device = given[0].images.device
        self.given = given
        self.draws, self.seeds = Draws(stream, device), Seeds()
        buffers = [
            value for player in (self.game.generator, self.game.discriminator) for value in player.network.buffers()
        ]
        before = [value.clone() for value in buffers]

        def as_before() -> None:
            for value, kept in zip(buffers, before, strict=True):
                value.copy_(kept)

        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            try:
                self._function(leaves(given))  # finds out what is drawn
                self.program = compiled(self._function, self._inputs(given), backend)
                others = [torch.roll(leaf, 1, 0) if leaf.ndim else leaf for leaf in leaves(given)]
                self._draw(stream.child("another"))
                inputs = [*others, *self.draws.places.values(), *self.seeds.places]

                def after(function: Function) -> tuple[list[Tensor], list[Tensor]]:
                    """Its results, and what became of statistics."""
                    as_before()
                    with torch.random.fork_rng([device] if device.type == "cuda" else []):
                        return function(inputs), [value.clone().float() for value in buffers]

                (found, moved), (expected, moved_too) = after(self.program), after(self._function)
                gradients = sum(learned for _, learned in self.learned)
                require_same(found[:gradients], expected[:gradients])
                for one, other in zip([*found[gradients:], *moved], [*expected[gradients:], *moved_too], strict=True):
                    require_same([one], [other])
            except AssertionError as error:
                raise NotCompiled(str(error)) from error
            finally:
                as_before()
        return self

    def __call__(self, given: tuple[Batch, Verdict | None], stream: Stream) -> Answer:
        """Gradients to the parameters; what the move answers."""
        self._draw(stream)
        results = iter(self.program(self._inputs(given)))
        for parameter, learned in self.learned:
            parameter.grad = laid_out_like(parameter, next(results)) if learned else None
        report = {name: next(results) for name in self.reported}
        return rebuilt(self.verdict, results), report

    def _draw(self, stream: Stream) -> None:
        """The numbers of another step, where the program looks for them."""
        self.draws.fill(stream)
        self.seeds.fill()

    def _inputs(self, given: tuple[Batch, Verdict | None]) -> list[Tensor]:
        return [*leaves(given), *self.draws.places.values(), *self.seeds.places]

    def _function(self, inputs: Any) -> list[Tensor]:
        """The move itself, as a function of all that differs from step to step."""
        rest = iter(inputs)
        real, before = rebuilt(self.given, rest)
        draws = Draws(self.draws.base, self.draws.device, dict(zip(self.draws.places, rest)))  # noqa: B905
        seeds = Seeds(list(rest))
        for player in self.players:
            player.forget_gradients()
        with seeded_by(seeds), traced(True):
            self.verdict, report = self.body(self.moves(), real, before, PlacedStream(0, draws=draws))
        if not self.draws.places:
            self.draws.places, self.seeds.places = draws.places, seeds.places
        parameters = [parameter for player in self.players for parameter in player.parameters()]
        self.learned = [(parameter, parameter.grad is not None) for parameter in parameters]
        self.reported = list(report)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        return [*gradients, *report.values(), *leaves(self.verdict)]


def leaves(value: Any) -> list[Tensor]:
    """The tensors in a dataclass or tuple, in the order of its parts."""
    if value is None:
        return []
    if isinstance(value, Tensor):
        return [value]
    parts = [getattr(value, each.name) for each in fields(value)] if is_dataclass(value) else value
    return [leaf for part in parts for leaf in leaves(part)]


def rebuilt(value: T, tensors: Iterator[Tensor]) -> T:
    """The same dataclass or tuple of other tensors, taken in that order."""
    found: Any = value
    if isinstance(value, Tensor):
        found = next(tensors)
    elif isinstance(value, tuple):
        found = tuple(rebuilt(part, tensors) for part in value)
    elif value is not None:
        assert is_dataclass(value)
        assert not isinstance(value, type)
        found = replace(value, **{each.name: rebuilt(getattr(value, each.name), tensors) for each in fields(value)})
    return cast(T, found)


def laid_out_like(parameter: Tensor, gradient: Tensor) -> Tensor:
    """With the parameter's order in memory, which fused optimizers take for granted."""
    same = gradient.stride() == parameter.stride()
    return gradient if same else torch.empty_like(parameter).copy_(gradient)
