"""Shared fixtures: a tiny recipe that trains in a second, and the command line in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import twoplayer as tp
from twoplayer.recipes.schema import Recipe
from twoplayer.runs.snapshot import SnapshotInfo

TINY = (
    "steps=6",
    "batch_size=16",
    "log_every=2",
    "sample_every=3",
    "checkpoint_every=4",
    "grid_images=4",
    "generator={name: dcgan, n_filters: 4, n_blocks: 1, kernel_size: 3}",
    "discriminator={name: dcgan, n_filters: 4, n_blocks: 1, kernel_size: 3, dropout: 0.3, batch_norm: false}",
    "latents.dim=8",
)
"""Overrides that make `digits` small, with convolutions; dropout is on so that random layers are tested too."""


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is kept in, or found in, the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWOPLAYER_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every test runs in an empty folder of its own; an interrupted one leaves nothing behind."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> tp.Run:
    """A finished tiny run. Tests read it, none writes to it."""
    return tp.train("digits", *TINY, out=tmp_path_factory.mktemp("runs") / "tiny", device="cpu", quiet=True)


Cli = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def cli() -> Cli:
    """Runs `twoplayer WORDS` in a fresh process, in the present folder."""

    def call(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "twoplayer", *map(str, words)],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"COLUMNS": "200"} | environment,
        )

    return call


@pytest.fixture
def mnist_folder() -> Path:
    """The folder with the real MNIST files; the test is skipped where there are none."""
    folder = Path(os.environ.get("TWOPLAYER_DATA", "missing")) / "mnist"
    if not folder.is_dir():
        pytest.skip("needs TWOPLAYER_DATA with mnist/")
    return folder


def random_images(n: int, shape: tuple[int, int, int] = (1, 8, 8), seed: int = 0) -> torch.Tensor:
    """Random uint8 images."""
    return torch.randint(0, 256, (n, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def untrained(recipe: Recipe) -> tuple[torch.nn.Module, SnapshotInfo]:
    """A generator of 8x8 digits as a run would have it, with its first weights."""
    info = SnapshotInfo(
        recipe=recipe.name,
        step=0,
        kimg=0.0,
        image_shape=(1, 8, 8),
        class_names=tuple("0123456789"),
        data_source="digits",
        data_sha256="0",
        latents=recipe.latents,
        generator=recipe.generator,
    )
    torch.manual_seed(0)
    return info.build().eval(), info
