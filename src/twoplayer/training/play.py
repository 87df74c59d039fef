"""In which order the players move. A step is one update of G; it reports its scalars."""

from __future__ import annotations

from collections.abc import Callable

import torch

from twoplayer.core.batch import Batch
from twoplayer.core.rng import Stream
from twoplayer.core.verdict import Verdict
from twoplayer.recipes.schema import Alternating, Play
from twoplayer.training.accumulation import Accumulated
from twoplayer.training.compiled import Compiled
from twoplayer.training.fast import fast_moves
from twoplayer.training.step import (
    Game,
    Moves,
    Report,
    discriminator_loss,
    generator_loss,
    update_discriminator,
    update_generator,
)

NextBatch = Callable[[], Batch]


class Plain:
    """The moves as the papers write them, by autograd, for any game."""

    def __init__(self, game: Game) -> None:
        self.game = game

    def simultaneous(self, real: Batch, stream: Stream) -> Report:
        game = self.game
        fake = game.draw_fakes(real, stream)
        loss_d, verdicts, report = discriminator_loss(game, real, fake, stream)
        loss_g, report_g = generator_loss(game, real, *verdicts)
        game.generator.differentiate(loss_g, keep_graph=True)
        game.discriminator.differentiate(loss_d)
        return report | report_g

    def discriminator(self, real: Batch, stream: Stream) -> tuple[Verdict, Report]:
        with torch.no_grad():
            fake = self.game.draw_fakes(real, stream)
        loss, (on_real, _), report = discriminator_loss(self.game, real, fake, stream)
        self.game.discriminator.differentiate(loss)
        return on_real.detach(), report

    def generator(self, real: Batch, before: Verdict, stream: Stream) -> Report:
        game, on_real = self.game, before
        fake = game.draw_fakes(real, stream)
        if game.objective.generator_judges_real:
            with torch.no_grad():
                (on_real,) = game.judge(real, game.shown(real.images, stream.child("real")))
        (on_fake,) = game.judge(real, game.shown(fake, stream.child("fake")))
        loss, report = generator_loss(game, real, on_real, on_fake)
        game.generator.differentiate(loss)
        return report


def moves_of(game: Game) -> Moves:
    """The fast moves where the game allows them, else the plain ones; compiled, and in pieces, where the game is."""
    moves = _moves(game) if game.programs is None else Compiled(game, lambda: _moves(game), game.programs)
    return moves if game.pieces == 1 else Accumulated(game, moves)


def _moves(game: Game) -> Moves:
    return (fast_moves(game) if game.fast else None) or Plain(game)


def play_step(play: Play, game: Game, next_batch: NextBatch, stream: Stream) -> Report:
    """One step in the order that the recipe's `play` says."""
    moves = moves_of(game)
    if not isinstance(play, Alternating):
        report = moves.simultaneous(next_batch(), stream)
        update_discriminator(game)
        update_generator(game)
        return report
    for turn in range(play.discriminator_steps):
        real = next_batch()
        on_real, report = moves.discriminator(real, stream.child("discriminator", turn))
        update_discriminator(game)
    report = report | moves.generator(real, on_real, stream.child("generator"))
    update_generator(game)
    return report
