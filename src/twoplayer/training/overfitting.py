"""Looks at how far D overfits, for an augmentation that goes by it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from twoplayer.core.augmentation import FollowsOverfitting
from twoplayer.core.batch import Batch
from twoplayer.core.modes import mode
from twoplayer.core.protocols import Probabilistic
from twoplayer.core.ranks import Ranks
from twoplayer.core.rng import Stream
from twoplayer.training.step import Game, Report

HeldOut = Callable[[Stream, Ranks], Batch]
"""As many images that are not trained on as a batch has, or a rank's rows of them; always the same for one stream."""


def follow_overfitting(
    game: Game, real: Batch, held_out: HeldOut | None, stream: Stream, step: int, images_per_step: int
) -> Report:
    """Let the game's augmentation look at D where that is due after a step; what is worth logging of it.

    Args:
        game: the players.
        real: the batch that D was last trained on.
        held_out: images that are not trained on, where there are any.
        stream: for whatever is random.
        step: generator updates done.
        images_per_step: real images that D is shown in a step.
    """
    changes = game.augmentation
    if not isinstance(changes, FollowsOverfitting):
        return {}
    if step % changes.every == 0:
        others = None if held_out is None else held_out(stream.child("held out"), game.ranks)
        part, whole = overfitting(game, real, others, stream)
        game.ranks.mean_([part, whole])
        changes.follow(part, whole, changes.every * images_per_step)
    return changes.report()


@torch.no_grad()
def overfitting(game: Game, real: Batch, held_out: Batch | None, stream: Stream) -> tuple[Tensor, Tensor]:
    """How far D overfits, as a fraction's upper and lower part; D sees changed images in inference mode.

    With held-out images E D(real) - E D(held out) and E D(real) - E D(fake); else E sign D(real) and 1. Where an
    objective's logits are no log-odds, the sign is that of D(real) - D(fake). See `augmentations/adaptive.py`.
    """
    with mode(game.generator.network, training=False), mode(game.discriminator.network, training=False):
        fake = game.draw_fakes(real, stream)
        on_real, on_fake = (
            verdict.logits
            for verdict in game.judge(
                real, game.shown(real.images, stream.child("real")), game.shown(fake, stream.child("fake"))
            )
        )
        if held_out is not None:
            (other,) = game.judge(held_out, game.shown(held_out.images, stream.child("held out")))
            return on_real.mean() - other.logits.mean(), on_real.mean() - on_fake.mean()
    margin = on_real if isinstance(game.objective, Probabilistic) else on_real - on_fake
    return margin.sign().mean(), torch.ones_like(margin[0])
