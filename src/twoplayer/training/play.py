"""In which order the players move. Each function plays one step (one update of G) and reports its scalars."""

from __future__ import annotations

from collections.abc import Callable

import torch

from twoplayer.core.batch import Batch
from twoplayer.core.rng import Stream
from twoplayer.recipes.schema import Alternating, Play
from twoplayer.training.step import (
    Game,
    Report,
    discriminator_loss,
    generator_loss,
    update_discriminator,
    update_generator,
)

NextBatch = Callable[[], Batch]


def play_simultaneous(game: Game, next_batch: NextBatch, stream: Stream) -> Report:
    """Both gradients at the same parameters, from one fake batch; then both updates."""
    real = next_batch()
    fake = game.draw_fakes(real, stream)
    loss_d, verdicts, report = discriminator_loss(game, real, fake, stream)
    loss_g, report_g = generator_loss(game, *verdicts)
    game.generator.differentiate(loss_g, keep_graph=True)
    game.discriminator.differentiate(loss_d)
    update_discriminator(game)
    update_generator(game)
    return report | report_g


def play_alternating(game: Game, next_batch: NextBatch, stream: Stream, discriminator_steps: int = 1) -> Report:
    """`discriminator_steps` updates of D, each on fresh reals and fakes; then one of G against the new D."""
    for turn in range(discriminator_steps):
        turn_stream = stream.child("discriminator", turn)
        real = next_batch()
        with torch.no_grad():
            fake = game.draw_fakes(real, turn_stream)
        loss_d, (on_real, _), report = discriminator_loss(game, real, fake, turn_stream)
        game.discriminator.differentiate(loss_d)
        update_discriminator(game)
    fake = game.draw_fakes(real, stream.child("generator"))
    if game.objective.generator_judges_real:
        with torch.no_grad():
            (on_real,) = game.judge(real, real.images)
    (on_fake,) = game.judge(real, fake)
    loss_g, report_g = generator_loss(game, on_real.detach(), on_fake)
    game.generator.differentiate(loss_g)
    update_generator(game)
    return report | report_g


def play_step(play: Play, game: Game, next_batch: NextBatch, stream: Stream) -> Report:
    """One step in the order that the recipe's `play` says."""
    if isinstance(play, Alternating):
        return play_alternating(game, next_batch, stream, play.discriminator_steps)
    return play_simultaneous(game, next_batch, stream)
