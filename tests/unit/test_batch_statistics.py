"""Layers that look at their batch, with a batch that several processes share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.ranks_together import digits, largest_difference, same, together, trained
from twoplayer.core.ranks import ALONE, Ranks
from twoplayer.ops.batch_norm import BatchNorm
from twoplayer.ops.minibatch_discrimination import MinibatchDiscrimination
from twoplayer.ops.minibatch_stddev import MinibatchStddev
from twoplayer.recipes.schema import Recipe

SYNCHRONIZED = "batch_statistics=synchronized"
BATCH_NORM = "generator.batch_norm=true"
DCGAN = ("generator={name: dcgan, n_filters: 4}", "discriminator={name: dcgan, n_filters: 4, dropout: 0.0}")
CONDITIONAL = (
    "generator={name: resnet, n_filters: 4, conditional: true}",
    "discriminator={name: resnet, n_filters: 4, conditional: true}",
)
SLOPES = "regularizers=[{name: gradient-penalty, inference_mode: false}]"

GAMES: list[tuple[str, ...]] = [
    (BATCH_NORM,),
    (BATCH_NORM, "play.name=alternating", "objective.name=feature-matching", "regularizers=[]"),
    (*DCGAN, "regularizers=[]"),
    (*DCGAN, "fast=false", "play.name=alternating"),
    (
        "generator={name: paper-dcgan, n_filters: 4, normalization: virtual}",
        "discriminator={name: dcgan, n_filters: 4, dropout: 0.0}",
    ),
    ("discriminator={name: mlp, widths: [16], minibatch: discrimination}", "regularizers=[]"),
]
LONGER: list[tuple[str, ...]] = [
    (*DCGAN, SLOPES),
    CONDITIONAL,
    ("discriminator={name: paper-dcgan, n_filters: 4, minibatch: standard-deviation}", SLOPES),
]


def game(*words: str) -> Recipe:
    return digits(BATCH_NORM, SYNCHRONIZED, *words)


@pytest.mark.parametrize(
    "words",
    [
        *(pytest.param(words, id=" ".join(words)) for words in GAMES),
        *(pytest.param(words, id=" ".join(words), marks=pytest.mark.slow) for words in LONGER),
    ],
)
def test_two_synchronized_ranks_are_one_process(words: tuple[str, ...], tmp_path: Path) -> None:
    recipe = game(*words)
    alone = trained(recipe, (1, 8, 8), ALONE)
    for each in together(2, tmp_path / "ranks", lambda ranks: trained(recipe, (1, 8, 8), ranks)):
        same(each, alone)


def test_four_synchronized_ranks_are_one_process_and_each_other(tmp_path: Path) -> None:
    recipe = game(*DCGAN, "regularizers=[]")
    alone = trained(recipe, (1, 8, 8), ALONE)
    found = together(4, tmp_path / "ranks", lambda ranks: trained(recipe, (1, 8, 8), ranks))
    for each in found:
        same(each, alone)
        assert largest_difference(each["state"], found[0]["state"]) == 0.0


def test_statistics_per_rank_are_of_a_share(tmp_path: Path) -> None:
    recipe = digits(BATCH_NORM)
    assert recipe.batch_statistics == "per-rank"
    alone = trained(recipe, (1, 8, 8), ALONE, steps=5)
    two = together(2, tmp_path / "ranks", lambda ranks: trained(recipe, (1, 8, 8), ranks, steps=5))
    assert largest_difference(two[0]["state"]["generator"], alone["state"]["generator"]) > 1e-4
    assert largest_difference(two[0]["state"], two[1]["state"]) == 0.0


class Reference(nn.Module):
    """Batch normalization by torch's own function."""

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.batch_norm(images, None, None, training=True, eps=1e-3)


LAYERS: list[tuple[Callable[[], nn.Module], Callable[[], nn.Module]]] = [
    (lambda: BatchNorm(6, scale=False, shift=False), Reference),
    (lambda: MinibatchDiscrimination(6, 3, 2), lambda: MinibatchDiscrimination(6, 3, 2)),
    (MinibatchStddev, MinibatchStddev),
    (lambda: MinibatchStddev(2), lambda: MinibatchStddev(2)),
    (lambda: MinibatchStddev(3), lambda: MinibatchStddev(3)),
]


@pytest.mark.parametrize("number", range(len(LAYERS)))
def test_second_derivatives_are_those_of_the_whole_batch(number: int, tmp_path: Path) -> None:
    ours, reference = LAYERS[number]
    shape = (8, 6) if number < 2 else (8, 6, 2, 2)
    images = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 3.0

    def derived(make: Callable[[], nn.Module], ranks: Ranks) -> list[Tensor]:
        """Values, the derivative of a function of them, and the derivative of a function of that: own rows of each."""
        torch.manual_seed(1)
        own = images[ranks.rows(len(images))].clone().requires_grad_()
        with ranks.coupling(statistics=True):
            values = make().double()(own)
            (slope,) = torch.autograd.grad(values.pow(3).sum(), own, create_graph=True)
            (bend,) = torch.autograd.grad(slope.square().sum(), own)
        return [values.detach(), slope.detach(), bend]

    expected = derived(reference, ALONE)
    found = together(2, tmp_path / "ranks", lambda ranks: derived(ours, ranks))
    for part, whole in enumerate(expected):
        torch.testing.assert_close(torch.cat([each[part] for each in found]), whole, rtol=1e-9, atol=1e-9)


def test_statistics_keep_their_digits_far_from_zero(tmp_path: Path) -> None:
    images = 1000.0 + 0.01 * torch.randn(64, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    images[32:] += 0.05

    def statistics(ranks: Ranks) -> dict[str, Any]:
        layer = BatchNorm(3, momentum=1.0)
        with ranks.coupling(statistics=True):
            layer(images[ranks.rows(64)])
        return {name: value.clone() for name, value in layer.named_buffers()}

    wide = images.double()
    for each in together(2, tmp_path / "ranks", statistics):
        torch.testing.assert_close(each["running_mean"].double(), wide.mean((0, 2, 3)), rtol=1e-7, atol=0.0)
        variance = wide.var((0, 2, 3), correction=0)
        torch.testing.assert_close(each["running_variance"].double(), variance, rtol=2e-2, atol=0.0)
