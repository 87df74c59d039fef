"""Vital signs of a training: a few cheap figures at every interval, from which `doctor` reads what is going wrong.

All of them are taken from a few hundred images, with both players in evaluation mode and no extractor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from twoplayer.core.batch import Batch, to_float
from twoplayer.core.conditioned import conditioned
from twoplayer.core.modes import mode
from twoplayer.core.protocols import Given, Latents
from twoplayer.core.rng import Stream
from twoplayer.data.batches import Batches
from twoplayer.ops.neighbors import nearest, nearest_within

IMAGES = 256
"""Of each kind, for every figure."""

TRAIN_IMAGES = 10_000
"""Among which nearest training images are looked for, at most."""

POOL_BLOCK = 1000
COVERAGE_NEIGHBORS = 5
LEAST_OF_A_CLASS = 4
"""Images of a class, on average, from which on it is said how much alike they are."""
ALL_ALIKE = 0.001
"""The diversity of the real images of a class, below which there is nothing to be as varied as."""

DIVERSITY = "vitals/diversity"
DIVERSITY_IN_CLASSES = "vitals/diversity_in_classes"
COVERAGE = "vitals/coverage"
LOGIT_TRAIN = "vitals/logit_train"
LOGIT_HELD_OUT = "vitals/logit_held_out"
LOGIT_FAKE = "vitals/logit_fake"
NEARNESS = "vitals/nearness_to_train"

Probe = Callable[[nn.Module, nn.Module], dict[str, float]]
"""Generator and discriminator to vital signs by their name in the metrics log."""


@dataclass(frozen=True)
class Told:
    """What the two players are told beside latents and images."""

    generator: tuple[Given, ...] = ()
    discriminator: tuple[Given, ...] = ()


def vitals_probe(
    batches: Batches, held_out: Callable[[], Batches | None], latents: Latents, told: Told, seed: int
) -> Probe:
    """A function that takes the vital signs of two players.

    Always the same images, latents and labels, so that the figures of one run compare over time. Held-out images are
    loaded when signs are first taken: a training begins without them.

    Args:
        batches: images that are trained on.
        held_out: loads others of the same kind, where there are any.
        latents: how z is distributed.
        told: what the players have to be told.
        seed: of the choice.
    """
    place = Stream(seed).child("vitals")
    train = batches.some(IMAGES, place.child("train"))
    some = place.child("pool").permutation(len(batches.images))[:TRAIN_IMAGES]
    pool = batches.images[some.to(batches.images.device)].cpu()

    @cache
    def other_and_usual() -> tuple[Batch, float] | None:
        """Held-out images, and how far they are from the images that are trained on."""
        found = held_out()
        if found is None:
            return None
        other = found.some(min(IMAGES, len(found.images)), place.child("held-out"))
        return other, max(distance_to(pool, other.images.flatten(1).cpu()), 1e-12)

    @torch.no_grad()
    def probe(generator: nn.Module, discriminator: nn.Module) -> dict[str, float]:
        other, usual = other_and_usual() or (None, 0.0)
        with mode(generator, training=False), mode(discriminator, training=False):
            z = latents.draw(IMAGES, place.child("latents"), train.images)
            fake = conditioned(generator, train.given(told.generator))(z)
            found = _logits(discriminator, told, train, other, fake)
        fakes = fake.flatten(1).cpu()
        reals = train.images.flatten(1).cpu()[: len(batches.images)]  # a smaller set comes again and again
        if len(reals) > 1:  # of a single image there is nothing to say
            found |= {DIVERSITY: diversity(fakes, reals), COVERAGE: _coverage(fakes, reals)}
        if train.labels is not None and "labels" in told.generator:
            found |= _in_classes(fakes, reals, train.labels.cpu())
        if other is not None:
            found[NEARNESS] = distance_to(pool, fakes) / usual
        return found

    return probe


def _logits(discriminator: nn.Module, told: Told, train: Batch, other: Batch | None, fake: Tensor) -> dict[str, float]:
    judge = conditioned(discriminator, train.given(told.discriminator))
    on_train, on_fake = judge(train.images).logits.double(), judge(fake).logits.double()
    found = {LOGIT_TRAIN: on_train.mean(), LOGIT_FAKE: on_fake.mean()}
    if other is not None:
        judge = conditioned(discriminator, other.given(told.discriminator))
        found[LOGIT_HELD_OUT] = judge(other.images).logits.double().mean()
    return {name: float(value) for name, value in found.items()}


def diversity(fakes: Tensor, reals: Tensor) -> float:
    """Mean squared distance between two fakes [N, P] over that between two reals [M, P]: 0 when all are alike.

    It is the ratio of the summed variances of the pixels, because E|x - y|^2 = 2 Tr Cov.
    """
    return float(fakes.double().var(0).sum() / reals.double().var(0).sum().clamp_min(1e-12))


def _in_classes(fakes: Tensor, reals: Tensor, labels: Tensor) -> dict[str, float]:
    """The diversity among fakes [N, P] that were told one class, where its real images are several and varied."""
    told = F.one_hot(labels[: len(reals)].unique(return_inverse=True)[1]).double()
    if told.shape[1] < 2 or len(told) < LEAST_OF_A_CLASS * told.shape[1]:
        return {}

    def from_the_mean_of_its_class(images: Tensor) -> Tensor:
        return images - told @ ((told.T @ images) / told.sum(0)[:, None])

    fakes, inner = (from_the_mean_of_its_class(images.double()) for images in (fakes[: len(told)], reals))
    return {DIVERSITY_IN_CLASSES: diversity(fakes, inner)} if diversity(inner, reals) > ALL_ALIKE else {}


def _coverage(fakes: Tensor, reals: Tensor) -> float:
    """Share of the reals with a fake nearer than their fifth real neighbor (Naeem et al. 2020), on pixels."""
    k = min(COVERAGE_NEIGHBORS, len(reals) - 1)
    reals, fakes = reals.double(), fakes.double()
    return float((nearest(reals, fakes) <= nearest_within(reals, k)).double().mean())


def distance_to(pool: Tensor, images: Tensor) -> float:
    """Median distance of images [N, P] in [-1, 1] to the nearest of a pool, uint8 [M, C, H, W]; a block at a time."""
    images = images.double()
    blocks = [nearest(images, to_float(block, torch.float64).flatten(1)) for block in pool.split(POOL_BLOCK)]
    return float(torch.stack(blocks).amin(0).sqrt().median())
