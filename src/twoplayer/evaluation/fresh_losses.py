"""Losses and scores on fresh samples, without touching a weight.

Source: the test pass of the reading list's plain Keras GAN. Both players are in evaluation mode; reals should be images
that D has not seen; penalties are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from twoplayer.core.batch import Batch
from twoplayer.core.conditioned import conditioned
from twoplayer.core.modes import mode
from twoplayer.core.protocols import DiscriminatorNetwork, GeneratorNetwork, Latents, Objective
from twoplayer.core.rng import Stream
from twoplayer.core.scores import verdict_report
from twoplayer.data.batches import Batches

CHUNK = 100


@dataclass(frozen=True)
class Judged:
    """A trained game.

    Attributes:
        generator: latents to images.
        discriminator: images to a verdict.
        networks: their configurations, generator first.
        latents: how z is distributed.
        objective: the game.
    """

    generator: nn.Module
    discriminator: nn.Module
    networks: tuple[GeneratorNetwork, DiscriminatorNetwork]
    latents: Latents
    objective: Objective


@torch.no_grad()
def fresh_losses(game: Judged, batches: Batches, n: int, stream: Stream) -> dict[str, float]:
    """Average losses, and scores where D has a probability, over n real images and n fresh fakes.

    Args:
        game: the players and what they play.
        batches: where real images come from.
        n: how many of each; reals come again only where there are fewer.
        stream: which ones.

    Returns:
        By name in the metrics log.
    """
    sums: dict[str, float] = {}
    chosen = batches.some(n, stream.child("real"))
    for number, start in enumerate(range(0, n, CHUNK)):
        real = _rows(chosen, slice(start, start + CHUNK))
        for name, value in _losses(game, real, stream.child(number)).items():
            sums[name] = sums.get(name, 0.0) + float(value) * len(real.images) / n
    return sums


def _rows(batch: Batch, rows: slice) -> Batch:
    labels = None if batch.labels is None else batch.labels[rows]
    return Batch(batch.images[rows], labels, None if batch.condition is None else batch.condition[rows])


def _losses(game: Judged, real: Batch, place: Stream) -> dict[str, Tensor]:
    with mode(game.generator, training=False), mode(game.discriminator, training=False):
        generator = conditioned(game.generator, real.given(game.networks[0].takes))
        judge = conditioned(game.discriminator, real.given(game.networks[1].takes))
        fake = generator(game.latents.draw(len(real.images), place.child("latents"), real.images))
        on_real, on_fake = judge(real.images), judge(fake)
    objective = game.objective.at(place.child("objective"))
    return verdict_report(objective, on_real, on_fake) | {
        "loss/generator": objective.generator_loss(on_real, on_fake).mean(),
        "loss/discriminator": objective.discriminator_loss(on_real, on_fake).mean(),
    }
