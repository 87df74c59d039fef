"""Every recipe plays, saves and resumes on small data of its own shape."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import twoplayer as tp
from tests.cli.test_resume import assert_same_runs
from tests.conftest import random_images
from twoplayer.core.errors import TrainingStopped
from twoplayer.core.stop import StopRequest
from twoplayer.recipes.load import load_recipe, recipe_names

IMAGE_SHAPES = {
    "digits": (1, 8, 8),
    "mnist": (1, 28, 28),
    "fashion-mnist": (1, 28, 28),
    "stacked-mnist": (3, 28, 28),
    "cifar10": (3, 32, 32),
}
"""By the recipe's data source; what a new source's images look like is said here."""

R3GAN = tuple(
    f"{role}.{said}" for role in ("generator", "discriminator") for said in ("widths=[8]", "blocks=[1]", "group_size=4")
)

SMALLER = {
    "cifar10-r3gan": R3GAN,
    "stacked-mnist-rpgan": R3GAN,
    "dcgan-64": ("generator.n_filters=32", "discriminator.n_filters=4"),
    "flowers-dcgan": ("generator.n_filters=32", "discriminator.n_filters=4"),
    "mnist-tanh-gan": ("generator.n_filters=16", "generator.hidden_units=32", "discriminator.hidden_units=32"),
    "mnist-wgan": ("generator.n_filters=8", "discriminator.n_filters=8"),
    "mnist-wgan-gp": ("generator.n_filters=16", "discriminator.n_filters=8"),
    "simple-gan": ("generator.widths=[8]", "generator.n_filters=8", "discriminator.widths=[8]"),
    "cifar10-lapgan": (
        "generator.n_filters=4",
        "discriminator.n_filters=4",
        "levels.0.generator.widths=[8]",
        "levels.0.discriminator.widths=[8]",
    ),
}
"""What makes a recipe's networks small enough for a test."""


class StopAfter(StopRequest):
    """Asks to stop when it has been looked at a number of times: once per step, and once per level of a pyramid."""

    def __init__(self, looks: int) -> None:
        self.looks = looks
        super().__init__()

    @property
    def requested(self) -> bool:
        self.looks -= 1
        return self.looks < 0

    @requested.setter
    def requested(self, value: bool) -> None:
        pass


QUICKLY = {"digits", "digits-cgan", "digits-lapgan", "digits-semi-supervised", "mnist-wgan-gp"}
"""The others are stopped and resumed in the whole suite only."""


@pytest.mark.parametrize(
    "name", [name if name in QUICKLY else pytest.param(name, marks=pytest.mark.slow) for name in recipe_names()]
)
def test_stopped_in_the_middle_and_resumed_is_never_stopped(name: str, tmp_path: Path) -> None:
    """Two steps, save, resume: bit for bit the run of four steps. A pyramid is stopped in the middle of level 1."""
    recipe = load_recipe(name)
    shape = IMAGE_SHAPES[recipe.data.source]
    np.savez(tmp_path / "data.npz", images=random_images(24, shape).numpy(), labels=np.arange(24) % 10)
    words = [f"levels.{number}.steps=4" for number, level in enumerate(recipe.levels) if level.steps]
    words += ["batch_size=8", "log_every=1", "sample_every=2", "checkpoint_every=2", "grid_images=4", "steps=4"]
    words += [*SMALLER.get(name, ()), *(["data.labeled_per_class=1"] if recipe.data.labeled_per_class else [])]
    settings = {"data": str(tmp_path / "data.npz"), "device": "cpu", "quiet": True}
    looks = 1 + 2 + (1 + 4 + 1 if recipe.levels else 0)  # the first when the data is there
    with pytest.raises(TrainingStopped, match=r"stopped after step 2; go on with: .*/resumed$"):
        tp.train(name, *words, out=tmp_path / "resumed", stop=StopAfter(looks), **settings)
    tp.train(None, out=tmp_path / "resumed", resume=True, device="cpu", quiet=True)
    tp.train(name, *words, out=tmp_path / "whole", **settings)
    if recipe.levels:
        for number in range(len(recipe.levels)):
            assert_same_runs(*(tmp_path / run / "levels" / str(number) for run in ("resumed", "whole")))
        assert torch.equal(*(tp.load(tmp_path / run).sample(20) for run in ("resumed", "whole")))
    else:
        assert_same_runs(tmp_path / "resumed", tmp_path / "whole")
