"""The Laplacian pyramid: its arithmetic, its levels, and the one generator that comes out."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import twoplayer as tp
from tests.conftest import random_images
from twoplayer.core.batch import to_float
from twoplayer.core.errors import UserError
from twoplayer.core.rng import Stream
from twoplayer.data.batches import IndexedBatches
from twoplayer.data.images import ImageData
from twoplayer.networks.lapgan import LapganDiscriminator, LapganGenerator
from twoplayer.ops.pyramid import coarse, downsample, pyramid, reconstruct, upsample
from twoplayer.recipes.load import load_recipe, parse_overrides

TINY = (
    "steps=4",
    "levels.0.steps=6",
    "batch_size=16",
    "log_every=2",
    "sample_every=4",
    "checkpoint_every=4",
    "grid_images=20",
    "generator.n_filters=4",
    "discriminator.n_filters=4",
    "levels.0.generator.widths=[8]",
    "levels.0.discriminator.widths=[8]",
)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (3, 13, 10)])
@pytest.mark.parametrize("levels", [0, 1, 2, 3])
def test_pyramid_and_back_is_the_image(shape: tuple[int, int, int], levels: int) -> None:
    images = to_float(random_images(8, shape))
    parts = pyramid(images, levels)
    assert len(parts) == levels + 1
    assert (reconstruct(parts) - images).abs().max() < 1e-6
    if levels:
        assert (parts[-1] + coarse(images) - images).abs().max() < 1e-6


def test_a_constant_image_has_no_detail_and_halving_keeps_its_tone() -> None:
    images = torch.full((2, 1, 12, 10), 0.3)
    torch.testing.assert_close(downsample(images), torch.full((2, 1, 6, 5), 0.3))
    torch.testing.assert_close(upsample(images, (24, 20)), torch.full((2, 1, 24, 20), 0.3))
    assert pyramid(images, 2)[-1].abs().max() < 1e-6


def test_downsampling_blurs_first() -> None:
    """A checkerboard, which plain dropping of pixels would turn into one color, becomes gray."""
    board = (torch.arange(16)[:, None] + torch.arange(16)[None]).remainder(2).float().mul(2).sub(1)
    assert downsample(board[None, None])[..., 1:-1, 1:-1].abs().max() < 1e-6


def test_levels_are_ordinary_recipes_with_the_pyramid_s_images() -> None:
    recipe = load_recipe("cifar10-lapgan")
    data = ImageData(random_images(50, (3, 32, 32)), "test", "all", torch.arange(50) % 10, tuple("0123456789"))
    for number, size in enumerate((8, 16, 32)):
        level = recipe.level(number)
        halved = data.halved(level.data.halvings)
        assert halved.shape == (3, size, size)
        batch = IndexedBatches(halved, 10, Stream(0), torch.device("cpu"), condition_on_coarse=number > 0)[0]
        assert (batch.condition is not None) == (number > 0)
        if batch.condition is not None:
            torch.testing.assert_close(batch.condition, coarse(batch.images))
    assert recipe.level(0).latents.dim == 100
    assert recipe.level(2).epochs == 200


def test_wrong_levels_are_refused() -> None:
    for words, message in (
        (["levels.0.generator={name: lapgan}"], "cannot take"),
        (["levels.1.generator={name: mlp}"], "has to take"),
        (["levels.0.latents={name: normal, dim: 4}"], "one distribution"),
        (["data.halvings=1"], "belong to levels"),
    ):
        with pytest.raises(UserError, match=message):
            load_recipe("digits-lapgan", parse_overrides(words))
    with pytest.raises(UserError, match="make it 64"):
        LapganGenerator().build(63, (1, 8, 8), 10)


def test_g_adds_a_residual_and_d_sees_the_sum() -> None:
    torch.manual_seed(0)
    network = LapganGenerator(n_filters=4).build(64, (1, 8, 8), 10)
    z, labels, low = torch.rand(3, 64), torch.tensor([1, 2, 3]), torch.rand(3, 1, 8, 8)
    image = network(z, labels=labels, condition=low)
    with torch.no_grad():
        network.to_residual[-1].weight.zero_()
        network.to_residual[-1].bias.zero_()
    assert torch.equal(network(z, labels=labels, condition=low), low), "no residual, no change"
    assert not torch.equal(image, low)
    both = LapganDiscriminator(n_filters=4, judge_condition=True).build((1, 8, 8), 10).eval()
    assert both(image, labels=labels, condition=low).logits.ne(both(image, labels=labels, condition=image).logits).all()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tp.Run:
    return tp.train("digits-lapgan", *TINY, out=tmp_path_factory.mktemp("runs") / "run", device="cpu", quiet=True)


def test_one_generator_comes_out_and_is_its_levels_in_turn(trained: tp.Run) -> None:
    z, labels = torch.rand(5, 32 + 64) * 2 - 1, torch.arange(5)
    levels = [tp.load(trained.path / "levels" / str(number)) for number in (0, 1)]
    with torch.no_grad():
        low = levels[0].generator(z[:, :32], labels=labels)
        assert low.shape == (5, 1, 4, 4)
        by_hand = levels[1].generator(z[:, 32:], labels=labels, condition=upsample(low, (8, 8))).clamp(-1, 1)
        assert torch.equal(trained.generator(z, labels=labels), by_hand)
    assert trained.sample(12, labels=[3, 4]).shape == (12, 1, 8, 8)
    assert {row["level"] for row in trained.metrics} == {0, 1}
    assert "levels/1/report.html" in trained.folder.report.read_text()


def test_a_pyramid_has_no_single_d(trained: tp.Run) -> None:
    with pytest.raises(UserError, match="is a pyramid"):
        trained.sample(2, best_of=3)
    figures = trained.evaluate(n=100, seeds=1, extractor="random-cnn")
    assert "test-pass" not in figures, "a pyramid has no discriminator of its own"
    assert {"sliced-wasserstein", "fid_random-cnn"} <= set(figures)


@pytest.mark.slow
def test_levels_side_by_side_are_the_levels_in_turn(trained: tp.Run, tmp_path: Path) -> None:
    words = (*TINY, "level_processes=2")
    side = tp.train("digits-lapgan", *words, out=tmp_path / "side", device="cpu", quiet=True)
    z = torch.rand(3, 96)
    assert torch.equal(side.generator(z, labels=torch.arange(3)), trained.generator(z, labels=torch.arange(3)))


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_levels_can_be_made_longer(processes: int, trained: tp.Run, tmp_path: Path) -> None:
    shutil.copytree(trained.path, tmp_path / "run")
    words = ("steps=6", "levels.0.steps=8", "log_every=1", f"level_processes={processes}")
    longer = tp.train(None, *words, out=tmp_path / "run", resume=True, device="cpu", quiet=True)
    assert {row["level"]: row["step"] for row in longer.metrics} == {0: 8, 1: 6}
    assert [row["step"] for row in longer.metrics if row["level"] == 1] == [2, 4, 5, 6]


def test_a_refused_change_leaves_the_run_as_it_is(trained: tp.Run, tmp_path: Path) -> None:
    shutil.copytree(trained.path, tmp_path / "run")
    before = (tmp_path / "run" / "config.yaml").read_text()
    for words, message in (
        (("steps=2",), "can only be made longer, not 2 steps"),
        (("levels.0.generator.widths=[9]",), "levels.0.generator.widths: the run has \\[8\\], asked for \\[9\\]"),
    ):
        with pytest.raises(UserError, match=message):
            tp.train(None, *words, out=tmp_path / "run", resume=True, device="cpu", quiet=True)
        assert (tmp_path / "run" / "config.yaml").read_text() == before


@pytest.mark.slow
def test_a_signal_saves_every_level_under_way_and_both_go_on(tmp_path: Path) -> None:
    words = [*TINY, "steps=4000", "levels.0.steps=4000", "level_processes=2", "--out", "run", "--device", "cpu"]
    process = subprocess.Popen(
        [sys.executable, "-m", "twoplayer", "train", "digits-lapgan", *words], stderr=subprocess.PIPE, text=True
    )
    logs = [tmp_path / "run" / "levels" / str(number) / "metrics.jsonl" for number in (0, 1)]
    deadline = time.monotonic() + 60
    while not all(log.exists() and log.read_bytes() for log in logs):
        assert time.monotonic() < deadline, "both levels should have begun"
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.rstrip().endswith("go on with: twoplayer train --resume --out run")
    for number in (0, 1):
        assert list((tmp_path / "run" / "levels" / str(number) / "checkpoints").iterdir())
    half = tp.load(tmp_path / "run")
    assert half.sample(3).shape == (3, 1, 8, 8), "what was trained so far is one generator already"
    assert {row["level"] for row in half.metrics} == {0, 1}
