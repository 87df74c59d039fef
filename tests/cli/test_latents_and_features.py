"""`twoplayer latents` and `twoplayer features` on tiny runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import twoplayer as tp
from tests.conftest import TINY, random_images
from twoplayer.cli.main import run
from twoplayer.evaluation.latents import interpolate
from twoplayer.runs.grid import save_png, tile, to_picture

CONDITIONAL = (
    "generator={name: mlp, widths: [16], conditional: true}",
    "discriminator={name: dcgan, n_filters: 4, n_blocks: 1, kernel_size: 3, batch_norm: false, conditional: true}",
)


@pytest.fixture(scope="module")
def conditional_run(tmp_path_factory: pytest.TempPathFactory) -> tp.Run:
    """A tiny run whose players are told the digit. Tests read it, none writes to it."""
    out = tmp_path_factory.mktemp("runs") / "conditional"
    return tp.train("digits", *TINY, *CONDITIONAL, out=out, device="cpu", quiet=True)


def tiles(path: str | Path, columns: int, side: int = 64) -> list[np.ndarray]:
    """The tiles of a grid, row by row, from below any titles."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture)
    step = side + 6
    top = (pixels.shape[0] - 6) % step
    rows = (pixels.shape[0] - 6) // step
    places = [(top + 6 + row * step, 6 + column * step) for row in range(rows) for column in range(columns)]
    return [pixels[down : down + side, right : right + side] for down, right in places]


def enlarged(images: torch.Tensor) -> list[np.ndarray]:
    """What a grid of 8x8 images shows for each."""
    return [np.kron(image[0].numpy(), np.ones((8, 8), dtype=np.uint8)) for image in images]


def test_a_walk_passes_the_pictures_of_its_seed(tiny_run: tp.Run, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["latents", "walk", str(tiny_run.path), "--stops", "3", "--frames", "4", "--seed", "2"]
    stops = enlarged(tiny_run.sample(3, seed=2))
    for way in ("--spherical", "--linear"):
        assert run([*words, way, "--out", f"{way}.png"]) == 0
        assert capsys.readouterr().out == f"{way}.png\n"
        found = tiles(f"{way}.png", columns=5)
        assert len(found) == 2 * 5, "one row for each way"
        for place, stop in ((0, 0), (4, 1), (5, 1), (9, 2)):
            assert np.array_equal(found[place], stops[stop])
    between = [
        tiny_run.draw(interpolate(*tiny_run.latents_of((0, 1), 2), 5, spherical)[2:3]) for spherical in (True, False)
    ]
    for way, picture in zip(("--spherical", "--linear"), between, strict=True):
        assert np.array_equal(tiles(f"{way}.png", columns=5)[2], enlarged(picture)[0])


def test_a_walk_as_an_animation(tiny_run: tp.Run) -> None:
    assert run(["latents", "walk", str(tiny_run.path), "--stops", "3", "--frames", "4", "--out", "walk.gif"]) == 0
    latents = tiny_run.walk(range(3), 4, spherical=True, loop=True)
    with Image.open("walk.gif") as animation:
        assert animation.n_frames == 3 * 4  # type: ignore[attr-defined]
        for number, picture in enumerate(tiny_run.draw(latents)):
            animation.seek(number)
            assert np.array_equal(np.asarray(animation.convert("L"))[16::32, 16::32], picture[0].numpy())


def test_arithmetic_shows_exemplars_averages_and_the_result(tiny_run: tp.Run) -> None:
    words = ["latents", "arithmetic", str(tiny_run.path), "--seed", "1", "--out", "sum.png"]
    assert run([*words, "--plus", "3, 17,70", "--minus", "1,2", "--plus-again", "5"]) == 0
    found = tiles("sum.png", columns=7)
    assert len(found) == 5 * 7
    sample = enlarged(tiny_run.sample(71, seed=1))
    for row, column, number in ((0, 0, 3), (1, 0, 17), (2, 0, 70), (0, 1, 1), (1, 1, 2), (0, 2, 5), (4, 2, 5)):
        assert np.array_equal(found[7 * row + column], sample[number])
    result = tiny_run.arithmetic((3, 17, 70), (1, 2), (5,), seed=1).unsqueeze(0)
    assert np.array_equal(found[7 * 1 + 5], enlarged(tiny_run.draw(result))[0])
    average = tiny_run.latents_of((3, 17, 70), 1).mean(0, keepdim=True)
    assert np.array_equal(found[7 * 4], enlarged(tiny_run.draw(average))[0])
    empty = {place for place, pixels in enumerate(found) if (pixels == 128).all()}
    assert {3, 10, 17, 21, 22, 23, 24, 31} <= empty


def test_recovery_draws_both_pictures_and_says_the_error(tiny_run: tp.Run, capsys: pytest.CaptureFixture[str]) -> None:
    target = tiny_run.sample(3)[2]
    save_png(to_picture(target.permute(1, 2, 0).numpy()), Path("target.png"))
    words = ["latents", "recover", str(tiny_run.path), "target.png", "--steps", "40", "--restarts", "2"]
    assert run([*words, "--out", "both.png"]) == 0
    told, path = capsys.readouterr().out.splitlines()
    assert path == "both.png"
    found = tiny_run.recover(target, steps=40, restarts=2)
    assert told == f"error    {found.error:.6f} (mean squared, pixels in [-1, 1])"
    given, nearest = tiles("both.png", columns=2)
    assert np.array_equal(given, enlarged(target.unsqueeze(0))[0])
    assert np.array_equal(nearest, enlarged(found.picture.unsqueeze(0))[0])
    assert found.error < tiny_run.recover(target, steps=1, restarts=2).error, "searching helps"


def test_conditional_runs_take_a_label(conditional_run: tp.Run, capsys: pytest.CaptureFixture[str]) -> None:
    place = str(conditional_run.path)
    assert run(["latents", "walk", place, "--stops", "2", "--frames", "1", "--label", "7", "--out", "walk.png"]) == 0
    wanted = conditional_run.sample(2, labels="7")
    assert np.array_equal(tiles("walk.png", columns=2), enlarged(wanted))
    assert run(["latents", "walk", place, "--out", "walk.gif"]) == 2
    assert "is conditional; say which label (it has: 0, 1, 2" in capsys.readouterr().err
    save_png(to_picture(wanted[1].permute(1, 2, 0).numpy()), Path("seven.png"))
    assert run(["latents", "recover", place, "seven.png", "--steps", "5", "--out", "a.png"]) == 0
    labels = [line for line in capsys.readouterr().out.splitlines() if line.startswith("label")]
    found = conditional_run.recover(wanted[1], steps=5)
    assert labels == [f"label    {found.row}"], "all ten are tried, one row each"
    assert run(["features", "show", place, "--channels", "2", "--out", "show.png"]) == 0
    assert run(["features", "probe", place]) == 2
    assert "its discriminator is told the labels" in capsys.readouterr().err


def test_the_probe_is_tested_on_the_test_split(tiny_run: tp.Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["features", "probe", str(tiny_run.path), "--train-size", "150", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["train_images"], told["test_images"], told["test_split"]) == (150, 359, "test")
    assert told["features"]["num_features"] == (4 + 8) * 4 * 4
    assert told["pixels"]["num_features"] == 64
    assert told["pixels"]["accuracy"] > 0.8, "digits are nearly linear in their pixels"
    assert told["features"]["accuracy"] > 0.7, "so they are in features of them, trained or not"
    assert told["discriminator_has_seen_test_images"], "the recipe trains on both splits"
    assert run(["features", "probe", str(tiny_run.path), "--train-size", "150"]) == 0
    assert f"{told['features']['accuracy']:.2%} right, from 192 numbers" in capsys.readouterr().out


def test_show_has_two_columns_for_each_channel(tiny_run: tp.Run) -> None:
    words = ["features", "show", str(tiny_run.path), "--layer", "0", "--channels", "3", "--seed", "1"]
    assert run([*words, "--out", "show.png"]) == 0
    with Image.open("show.png") as picture:
        assert picture.width == 6 + 6 * 70
        assert picture.info["layer"] == "0"
        channels = picture.info["channels"].split()
    assert len(set(channels)) == 3
    assert set(channels) <= set("0123")
    assert len(tiles("show.png", columns=6)) == 4 * 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["latents", "walk", "RUN", "--out", "walk.jpg"], "--out walk.jpg: the name has to end in .gif or .png"),
        (["latents", "walk", "RUN", "--stops", "1", "--out", "a.gif"], "stops start at 2"),
        (["latents", "walk", "RUN", "--frames", "0", "--out", "a.gif"], "frames at 1"),
        (["latents", "walk", "RUN", "--frames", "10000", "--out", "a.gif"], "their product ends at 10,000"),
        (["latents", "walk", "RUN", "--seed", "-1", "--out", "a.gif"], "seed -1: both count from 0"),
        (["latents", "walk", "RUN", "--label", "3", "--out", "a.gif"], "is unconditional"),
        (["latents", "walk", "RUN", "--out", "nodir/a.gif"], "nodir/a.gif: no such file or folder"),
        (["latents", "walk", "RUN"], "Missing option '--out'"),
        (["latents", "walk", "missing", "--out", "a.gif"], "missing is not a run"),
        (["latents", "wlk"], "No such command 'wlk'"),
        (["latents", "arithmetic", "RUN", "SUM", "1,a", "--out", "a.png"], "--plus 1,a: has to be numbers of pictures"),
        (["latents", "arithmetic", "RUN", "SUM", "-1", "--out", "a.png"], "--plus -1: has to be numbers of pictures"),
        (["latents", "arithmetic", "RUN", "SUM", "", "--out", "a.png"], "has to be numbers of pictures"),
        (["latents", "arithmetic", "RUN", "SUM", "1000000", "--out", "a.png"], "pictures to 999,999"),
        (["latents", "arithmetic", "RUN", "SUM", "1", "--out", "a.gif"], "has to end in .png"),
        (["latents", "arithmetic", "RUN", "SUM", "1", "--label", "x", "--out", "a.png"], "is unconditional"),
        (["latents", "recover", "RUN", "missing.png", "--out", "a.png"], "missing.png: no such file"),
        (["latents", "recover", "RUN", "broken.png", "--out", "a.png"], "broken.png cannot be read as a picture"),
        (["latents", "recover", "RUN", "broken.png", "--steps", "0", "--out", "a.png"], "steps start at 1"),
        (["features", "show", "RUN", "--out", "a.gif"], "has to end in .png"),
        (["features", "show", "RUN", "--layer", "2", "--out", "a.png"], "layer=2: this discriminator has 2"),
        (["features", "show", "RUN", "--channels", "0", "--out", "a.png"], "channels=0"),
        (["features", "show", "RUN", "--seed", "-1", "--out", "a.png"], "Invalid value for '--seed'"),
        (["features", "probe", "RUN", "--train-size", "1"], "train_size=1"),
        (["features", "probe", "RUN", "--train-size", "12"], "use more training images"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    words: list[str], message: str, tiny_run: tp.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("broken.png").write_text("no picture")
    rest = {"RUN": [str(tiny_run.path)], "SUM": ["--minus", "1", "--plus-again", "2", "--plus"]}
    assert run([part for word in words for part in rest.get(word, [word])]) == 2
    told = capsys.readouterr()
    assert message in told.err
    assert told.err.count("\n") == 1, told.err
    assert told.out == ""
    assert [path.name for path in Path().iterdir()] == ["broken.png"], "nothing was written"


def test_unlabeled_pictures_have_no_classes_to_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, image in enumerate(random_images(20)):
        save_png(tile(image.unsqueeze(0)), folder / f"{number}.png")
    tp.train("digits", *TINY, "steps=1", "data.image_size=8", data=folder, out="run", device="cpu", quiet=True)
    assert run(["features", "probe", "run"]) == 2
    told = capsys.readouterr().err
    assert "is unlabeled: a probe needs the classes of the images" in told
    assert told.count("\n") == 1
