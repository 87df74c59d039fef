"""Gradient accumulation: a batch is played in pieces, one after another, and the players move once.

The gradient of a mean over a batch is the mean of the gradients over its pieces, as it is over ranks: each piece has
its rows of the batch and of everything that is drawn, and what is kept for differentiating is of one piece at a time.
That holds where no image's loss depends on images of other pieces; other games are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from twoplayer.core.batch import Batch, rows_of
from twoplayer.core.errors import UserError
from twoplayer.core.protocols import Couples
from twoplayer.core.rng import Stream
from twoplayer.core.verdict import Verdict
from twoplayer.training.step import Game, Moves, Player, Report

T = TypeVar("T")


class Accumulated:
    """Moves whose gradients are means over the pieces of a batch.

    Args:
        game: the players.
        moves: for one piece.
    """

    def __init__(self, game: Game, moves: Moves) -> None:
        self.game, self.moves = game, moves

    def simultaneous(self, real: Batch, stream: Stream) -> Report:
        """Both players' gradients at the same parameters."""

        def move(piece: Batch, rows: slice, place: Stream) -> Report:
            return self.moves.simultaneous(piece, place)

        return mean_report(self._each(real, stream, [self.game.generator, self.game.discriminator], move))

    def discriminator(self, real: Batch, stream: Stream) -> tuple[Verdict, Report]:
        """D's gradients; what it said of the reals, and the report."""

        def move(piece: Batch, rows: slice, place: Stream) -> tuple[Verdict, Report]:
            return self.moves.discriminator(piece, place)

        answers = self._each(real, stream, [self.game.discriminator], move)
        return Verdict.joined([said for said, _ in answers]), mean_report([report for _, report in answers])

    def generator(self, real: Batch, before: Verdict, stream: Stream) -> Report:
        """G's gradients against D as it is now."""

        def move(piece: Batch, rows: slice, place: Stream) -> Report:
            return self.moves.generator(piece, before.rows(rows), place)

        return mean_report(self._each(real, stream, [self.game.generator], move))

    def _each(
        self, real: Batch, stream: Stream, players: list[Player], move: Callable[[Batch, slice, Stream], T]
    ) -> list[T]:
        """What a move answers for each piece; the means of its gradients stand at the players' parameters then."""
        game, answers = self.game, []
        parameters = [parameter for player in players for parameter in player.parameters()]
        means: dict[nn.Parameter, Tensor] = {}
        networks = (game.generator.network, game.discriminator.network)
        buffers = [(value, value.clone()) for network in networks for value in network.buffers()]
        for index, rows in enumerate(rows_of_pieces(len(real.images), game.pieces)):
            for value, before in buffers:  # power iterations of a pass are not repeated by the next piece
                value.copy_(before)
            answers.append(move(rows_of(real, rows), rows, stream.shared(index, game.pieces)))
            found = {parameter: parameter.grad for parameter in parameters if parameter.grad is not None}
            if not means:
                means = dict(zip(found, torch._foreach_mul(list(found.values()), 1.0 / game.pieces), strict=True))
            else:
                torch._foreach_add_([means[each] for each in found], list(found.values()), alpha=1.0 / game.pieces)
            for player in players:
                player.forget_gradients()
        for parameter, mean in means.items():
            parameter.grad = mean
        return answers


def rows_of_pieces(n: int, pieces: int) -> list[slice]:
    """The rows of n that each of so many equal pieces has."""
    assert n % pieces == 0, (n, pieces)
    return [slice(start, start + n // pieces) for start in range(0, n, n // pieces)]


def mean_report(reports: list[Report]) -> Report:
    """Of pieces of one size."""
    return {name: torch.stack([report[name] for report in reports]).mean() for name in reports[0]}


def require_pieces(game: Game, batch_size: int) -> None:
    """Raise UserError where pieces of the batch would be another game than all of it."""
    if game.pieces == 1:
        return
    several = f" by {game.ranks.count} processes" if game.ranks.count > 1 else ""
    if batch_size % (game.pieces * game.ranks.count):
        raise UserError(f"batch_size={batch_size} cannot be shared equally{several} in {game.pieces} pieces")
    n = batch_size // game.pieces // game.ranks.count
    for what, together in coupled(game):
        if together is None or n % together:
            images = "all images" if together is None else f"{together} images"
            raise UserError(
                f"accumulation_steps={game.pieces} shows the players {n} images at a time, but {what} looks at "
                f"{images} of a batch together: it would be another game"
            )


def coupled(game: Game) -> Iterator[tuple[str, int | None]]:
    """What looks at several images of a batch together, and at how many; None for all."""
    yield from layers_that_couple(game)
    for rule in (game.objective, *game.regularizers):
        if isinstance(rule, Couples):
            yield f"{rule.kind} {rule.name}", rule.coupled_images


def layers_that_couple(game: Game) -> Iterator[tuple[str, int | None]]:
    """The same, of the players' layers alone."""
    for role, player in (("generator", game.generator), ("discriminator", game.discriminator)):
        for module in player.network.modules():
            if isinstance(module, Couples | _BatchNorm):
                yield f"{type(module).__name__} in the {role}", getattr(module, "coupled_images", None)
