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
from twoplayer.core.protocols import (
    DiscriminatorNetwork,
    GeneratorNetwork,
    Latents,
    Objective,
    Probabilistic,
    SeparableObjective,
)
from twoplayer.core.rng import Stream
from twoplayer.core.verdict import Verdict
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
        n: how many of each; rounded up to whole hundreds.
        stream: which ones.

    Returns:
        By name in the metrics log.
    """
    sums: dict[str, float] = {}
    rounds = -(-n // CHUNK)
    for number in range(rounds):
        place = stream.child(number)
        real = batches.some(CHUNK, place.child("real"))
        for name, value in _losses(game, real, place).items():
            sums[name] = sums.get(name, 0.0) + float(value) / rounds
    return sums


def _losses(game: Judged, real: Batch, place: Stream) -> dict[str, Tensor]:
    with mode(game.generator, training=False), mode(game.discriminator, training=False):
        generator = conditioned(game.generator, real.given(game.networks[0].takes))
        judge = conditioned(game.discriminator, real.given(game.networks[1].takes))
        fake = generator(game.latents.draw(len(real.images), place.child("latents"), real.images))
        on_real, on_fake = judge(real.images), judge(fake)
    return _figures(game.objective.at(place.child("objective")), on_real, on_fake)


def _figures(objective: Objective, on_real: Verdict, on_fake: Verdict) -> dict[str, Tensor]:
    figures = {
        "loss/generator": objective.generator_loss(on_real, on_fake).mean(),
        "loss/discriminator": objective.discriminator_loss(on_real, on_fake).mean(),
    }
    if isinstance(objective, SeparableObjective):
        figures["loss/real"] = objective.real_loss(on_real).mean()
        figures["loss/fake"] = objective.fake_loss(on_fake).mean()
    if isinstance(objective, Probabilistic):
        believed = objective.probability(on_fake).mean()
        figures["score/generator"] = believed
        figures["score/discriminator"] = (objective.probability(on_real).mean() + 1.0 - believed) / 2.0
    return figures
