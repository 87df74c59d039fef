"""Every recipe plays, saves and resumes on small data of its own shape."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import twoplayer as tp
from tests.cli.test_resume import assert_same_runs
from tests.conftest import random_images
from twoplayer.recipes.load import load_recipe, recipe_names

IMAGE_SHAPES = {"digits": (1, 8, 8), "mnist": (1, 28, 28), "fashion-mnist": (1, 28, 28), "cifar10": (3, 32, 32)}
"""By the recipe's data source; what a new source's images look like is said here."""

SMALLER = {
    "dcgan-64": ("generator.n_filters=32", "discriminator.n_filters=4"),
    "flowers-dcgan": ("generator.n_filters=32", "discriminator.n_filters=4"),
    "simple-gan": ("generator.widths=[8, 8]",),
}
"""What makes a recipe's networks small enough for a test."""


@pytest.mark.parametrize("name", recipe_names())
def test_two_steps_then_resumed_are_four_steps(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    shape = IMAGE_SHAPES[recipe.data.source]
    np.savez(tmp_path / "data.npz", images=random_images(24, shape).numpy(), labels=np.arange(24) % 10)
    words = ["batch_size=8", "log_every=1", "sample_every=2", "checkpoint_every=2", "grid_images=4"]
    words += [*SMALLER.get(name, ()), *(["data.labeled_per_class=1"] if recipe.data.labeled_per_class else [])]
    settings = {"data": str(tmp_path / "data.npz"), "device": "cpu", "quiet": True}
    tp.train(name, *words, "steps=2", out=tmp_path / "resumed", **settings)
    tp.train(None, "steps=4", out=tmp_path / "resumed", resume=True, device="cpu", quiet=True)
    tp.train(name, *words, "steps=4", out=tmp_path / "whole", **settings)
    assert_same_runs(tmp_path / "resumed", tmp_path / "whole")
