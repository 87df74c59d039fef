"""The command line as its users meet it: a process, its output, its exit code."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import twoplayer as tp
from tests.conftest import TINY, Cli, random_images
from twoplayer import loading
from twoplayer.cli.main import run
from twoplayer.recipes.load import recipe_names, recipe_text
from twoplayer.runs.folder import RunFolder
from twoplayer.runs.grid import tile
from twoplayer.training.progress import progress


def test_train_says_where_everything_is(cli: Cli, tmp_path: Path) -> None:
    done = cli("train", *TINY, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert "runs/digits-001/samples/step-0000006.png" in done.stdout
    assert "twoplayer sample runs/digits-001" in done.stdout
    assert "step 6/6" in done.stderr
    assert (tmp_path / "runs" / "digits-001" / "report.html").is_file()
    assert run(["train", *TINY, "--quiet"]) == 0
    assert (tmp_path / "runs" / "digits-002").is_dir(), "a second call takes the next free folder"


def test_a_run_repeats_from_its_own_config(tiny_run: tp.Run, tmp_path: Path) -> None:
    assert (
        run(["train", str(tiny_run.folder.config), "--out", str(tmp_path / "again"), "--quiet", "--device", "cpu"]) == 0
    )
    again = tp.load(tmp_path / "again")
    assert again.recipe == tiny_run.recipe
    assert torch.equal(again.sample(4), tiny_run.sample(4))


def test_sample_a_grid_and_a_folder(tiny_run: tp.Run, tmp_path: Path) -> None:
    assert run(["sample", str(tiny_run.path), "--n", "9", "--seed", "3", "--grid", "grid.png"]) == 0
    wanted = tiny_run.sample(9, seed=3)
    with Image.open("grid.png") as picture:
        assert np.array_equal(np.asarray(picture), np.asarray(tile(wanted)))
    assert run(["sample", str(tiny_run.path), "--n", "5", "--seed", "3", "--out", "many"]) == 0
    names = sorted(path.name for path in Path("many").iterdir())
    assert names == [f"{number:06d}.png" for number in range(5)]
    for number, name in enumerate(names):
        with Image.open(Path("many") / name) as picture:
            assert np.array_equal(np.asarray(picture), wanted[number, 0].numpy())
    assert run(["sample", str(tiny_run.path), "--best-of", "3", "--n", "4"]) == 0
    with Image.open("tiny-seed-0.png") as picture:
        assert np.array_equal(np.asarray(picture), np.asarray(tiny_run.grid(4, best_of=3)))
    assert not torch.equal(tiny_run.sample(4, best_of=3), tiny_run.sample(4))


def test_recipes(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["recipes"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in recipe_names())
    assert run(["recipes", "mnist-wgan-gp"]) == 0
    assert capsys.readouterr().out == recipe_text("mnist-wgan-gp")


def test_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "digits"]) == 0
    told = capsys.readouterr().out
    assert "warning" not in told
    for part in ("1,438", "8 x 8 pixels", "gray", "0 (1", "digits-pictures.png", "train auto --data digits"):
        assert part in told, part


def make_bad_places(folder: Path) -> None:
    (folder / "empty").mkdir()
    (folder / "file").write_text("a file")
    (folder / "other").mkdir()
    (folder / "other" / "precious.txt").write_text("mine")
    np.savez(folder / "small.npz", images=random_images(8)[:, 0].numpy())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "digts"], "unknown recipe 'digts'; did you mean 'digits'?"),
        (["train", "missing.yaml"], "missing.yaml: no such file"),
        (["train", "btch_size=3"], "unknown key 'btch_size'; did you mean 'batch_size'?"),
        (["train", "batch_size=ten"], "batch_size='ten' should be a valid integer"),
        (["train", "optimizers.generator.learning_rate=.nan"], "should be a finite number"),
        (["train", "steps=-5"], "steps=-5 should be greater than or equal to 1"),
        (["train", "--seed", "-1"], "seed=-1 should be greater than or equal to 0"),
        (["train", "--data", "mnits"], "no source of that name; did you mean 'mnist'?"),
        (["train", "--data", "folder:missing"], "missing: no such folder"),
        (["train", "--data", "empty"], "empty has no pictures (looked for .png"),
        (["train", "--data", "small.npz"], "batch_size=64 is larger than the data (8 images in small.npz)"),
        (["train", "--out", "RUN"], "holds a run; add --resume to continue it, or choose another --out"),
        (["train", "--out", "other"], "other is not empty"),
        (["train", "--out", "file/run"], "a part of this path is a file, not a folder"),
        (["train", "--out", "file"], "file"),
        (["train", "--out", "x" * 300], "the name is too long"),
        (["train", "--resume"], "--resume needs --out RUN"),
        (["train", "--resume", "--out", "other"], "other is not a run"),
        (["train", "--device", "cuda:7"], "try --device cpu"),
        (
            ["train", "objective=wasserstein"],
            "objective=wasserstein has to be keys and values, for example objective.name=",
        ),
        (["train", "--data", "~nobody-here/x"], "no user here"),
        (["train", "--device", "meta"], "device 'meta' cannot be used here"),
        (["train", "RUN"], "RUN is a run: repeat it with RUN/config.yaml"),
        (["train", "generator={name: dcgan, n_blocks: 9}"], "n_blocks=9 is too many for 8x8 images"),
        (["train", "--data", ""], "names nothing"),
        (["sample", "RUN", "--grid", "nodir/a.png"], "nodir/a.png: no such file or folder"),
        (["train", "--device", "toaster"], "device 'toaster' cannot be used here"),
        (["train", "--no-such-option"], "No such option: --no-such-option"),
        (["sample", "other"], "other is not a run"),
        (["sample", "RUN", "--n", "0"], "n=0"),
        (["sample", "RUN", "--n", "1000000000"], "their product ends at 1,000,000"),
        (["sample", "RUN", "--best-of", "0"], "best_of=0"),
        (["sample", "RUN", "--seed", "-1"], "seed=-1"),
        (["sample", "RUN", "--label", "7"], "is unconditional"),
        (["sample", "RUN", "--grid", "a.jpg"], "has to end in .png"),
        (["sample", "RUN", "--grid", "a.png", "--out", "b"], "either --grid FILE.png or --out FOLDER"),
        (["sample", "RUN", "--out", "other"], "other is not empty"),
        (["recipes", "digts"], "unknown recipe"),
        (["data", "nothing"], "data source 'nothing': no such file or folder"),
        (["smple"], "No such command 'smple'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    words: list[str], message: str, tiny_run: tp.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_bad_places(tmp_path)
    shutil.copytree(tiny_run.path, tmp_path / "RUN")
    before = contents(tmp_path)
    assert run(words) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1, captured.err
    assert captured.out == ""
    assert contents(tmp_path) == before, "nothing was written"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("number", [13, 28, 30])
def test_no_permission_no_space_read_only(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), "runs")

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert run(["train", *TINY, "--quiet"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("twoplayer: runs: ")
    assert message.count("\n") == 1


def test_missing_mnist(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mnist").mkdir()
    done = cli("train", "mnist-wgan-gp", TWOPLAYER_DATA=str(tmp_path))
    assert done.returncode == 2
    assert "lacks train-images-idx3-ubyte" in done.stderr
    assert done.stderr.count("\n") == 1


def test_divergence_ends_with_exit_code_3(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = [*TINY, "steps=400", "checkpoint_every=1", "optimizers.discriminator={name: sgd, learning_rate: 1.0e+6}"]
    assert run(["train", *words, "--out", "run", "--quiet", "--device", "cpu"]) == 3
    message = capsys.readouterr().err
    assert "training diverged in step" in message
    assert "is NaN or infinite" in message
    assert message.count("\n") == 1
    assert RunFolder(Path("run")).checkpoint_steps(), "the last good one is there"
    assert Path("run/report.html").is_file()


@pytest.mark.slow
def test_every_exit_code_of_a_process(cli: Cli) -> None:
    assert cli("recipes").returncode == 0
    refused = cli("train", "digts")
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert (
        refused.stderr
        == "twoplayer: unknown recipe 'digts'; did you mean 'digits'? (known: "
        + ", ".join(recipe_names())
        + ", auto)\n"
    )


def test_help_appears_at_once(cli: Cli) -> None:
    """Under 0.6 s of a processor's time, whatever else it does; torch is not loaded."""
    seconds = []
    for _ in range(3):
        begun = sum(os.times()[2:4])
        done = cli("--help")
        seconds.append(sum(os.times()[2:4]) - begun)
        assert done.returncode == 0
        assert all(verb in done.stdout for verb in ("train", "sample", "recipes", "data"))
    assert min(seconds) < 0.6
    code = "import sys, twoplayer, twoplayer.cli.main; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_photographs_of_all_sizes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, size in enumerate(((50, 70), (80, 40), (45, 45))):
        Image.new("RGB", size, (number, 0, 0)).save(folder / f"{number}.png")
    assert run(["data", str(folder)]) == 0
    told = capsys.readouterr().out
    assert "3 different ones, 45 x 45 to 80 x 40 pixels" in told
    assert "data.image_size=32, color" in told
    assert (tmp_path / "photos-pictures.png").is_file()
    assert f"train    twoplayer train auto --data {folder}\n" in told
    (folder / "3.jpg").write_text("no picture")
    assert run(["data", str(folder), "--sheet", "elsewhere.png"]) == 0
    told = capsys.readouterr().out
    assert "3.jpg cannot be read" in told
    assert f"twoplayer train auto --data {folder}" in told
    assert (tmp_path / "elsewhere.png").is_file()
    for number in range(3):
        (folder / f"{number}.png").unlink()
    assert run(["data", str(folder)]) == 2
    assert "cannot be used before that is mended" in capsys.readouterr().err


class Terminal(io.StringIO):
    """A string that calls itself a terminal."""

    def isatty(self) -> bool:
        return True


def test_progress_in_a_terminal_of_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that is asked for is on the screen."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm-256color")
    row = {"step": 184, "kimg": 11.8, "epoch": 6.6, "seconds": 5.0, "images_per_second": 1572.0}
    row |= {"loss/generator": 0.713, "loss/discriminator": 1.363, "score/generator": 0.49, "score/discriminator": 0.51}
    with progress(300, 0, quiet=False) as shown:
        shown.advance(184)
        shown.figures(row)
    drawn = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue())
    for part in ("184/300", "left", "epoch 6.6", "11.8 kimg", "1,572 img/s", "G 0.713 D 1.363", "G 0.49 D 0.51"):
        assert part in drawn, part
    assert max(map(len, re.split(r"[\r\n]+", drawn))) <= 80


def test_decoding_in_a_terminal_and_in_a_pipe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loading, "SECONDS_BEFORE_WORDS", 0.0)
    with loading.counted("decoding pictures") as told:
        told(0, 1000)
        told(1000, 1000)
    assert "decoding pictures 1,000/1,000" in capsys.readouterr().err
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm-256color")
    with loading.counted("decoding pictures") as told:
        told(256, 1000)
        told(512, 1000)
    drawn = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue())
    for part in ("decoding pictures", "512/1000", "/s", "left"):
        assert part in drawn, part
    assert max(map(len, re.split(r"[\r\n]+", drawn))) <= 80


@pytest.mark.slow
def test_a_reader_of_the_progress_that_goes_away_does_not_end_the_training() -> None:
    words = " ".join(f"'{word}'" for word in (*TINY, "steps=30"))
    command = f"{sys.executable} -m twoplayer train {words} --device cpu --out run 2>&1 >/dev/null | head -n 1"
    subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, check=True)
    assert tp.load("run").metrics[-1]["step"] == 30


def test_a_closed_pipe_is_not_an_error() -> None:
    command = f"{sys.executable} -m twoplayer recipes mnist-wgan-gp | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_a_recipe_s_name_wins_over_a_folder_of_that_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "config.yaml").write_text("name: other\n")
    assert run(["recipes", "digits"]) == 0
    assert "name: digits\n" in capsys.readouterr().out
