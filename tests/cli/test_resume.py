"""A run that was interrupted and resumed in a fresh process is bit for bit the run that never stopped."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import twoplayer as tp
from tests.conftest import TINY, Cli, random_images
from tests.unit.test_archives import encoded
from twoplayer.cli.main import run
from twoplayer.core.errors import UserError
from twoplayer.runs.folder import RunFolder
from twoplayer.training.checkpoint import read_newest

WORDS = (*TINY, "steps=14", "batch_size=60", "log_every=4", "checkpoint_every=5", "data.flip=true")
"""Six batches an epoch; the log, the checkpoints and the epochs fall on different steps. Dropout and flips are on."""

ALTERNATING = ("play={name: alternating, discriminator_steps: 3}",)

INTERRUPT = """
import os, sys
import twoplayer.training.loop as loop
from twoplayer.cli.main import main

play, steps = loop.play_step, 0
stop_in, number = int(sys.argv[1]), int(sys.argv[2])

def interrupted(play_config, game, next_batch, stream):
    global steps
    steps += 1
    report = play(play_config, game, next_batch, stream)
    if steps == stop_in:
        os.kill(os.getpid(), number)
    return report

loop.play_step = interrupted
sys.argv[1:] = sys.argv[3:]
main()
"""


def interrupted(step: int, number: signal.Signals, *words: str) -> tuple[int, str]:
    """`twoplayer WORDS` in a fresh process that gets a signal inside a step; its exit code and what it said."""
    call = [sys.executable, "-c", INTERRUPT, str(step), str(int(number)), *words]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def state_of(run: Path) -> dict[str, Any]:
    found = read_newest(RunFolder(run))
    assert found is not None
    tree = found[0]
    tree.pop("seconds")
    tree["meters"].pop("seconds")
    return tree


def assert_same(mine: Any, theirs: Any, where: str = "state") -> None:
    if isinstance(mine, torch.Tensor):
        assert torch.equal(mine, theirs), where
    elif isinstance(mine, dict):
        assert mine.keys() == theirs.keys(), where
        for key in mine:
            assert_same(mine[key], theirs[key], f"{where}.{key}")
    elif isinstance(mine, list):
        assert len(mine) == len(theirs), where
        for index, (a, b) in enumerate(zip(mine, theirs, strict=True)):
            assert_same(a, b, f"{where}.{index}")
    else:
        assert mine == theirs, where


def assert_same_runs(resumed: Path, whole: Path) -> None:
    assert_same(state_of(resumed), state_of(whole))
    timeless = [
        [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in tp.load(run).metrics]
        for run in (resumed, whole)
    ]
    assert timeless[0] == timeless[1]
    pictures = [{path.name: path.read_bytes() for path in (run / "samples").iterdir()} for run in (resumed, whole)]
    assert pictures[0] == pictures[1]
    assert RunFolder(resumed).checkpoint_steps() == RunFolder(whole).checkpoint_steps()
    weights = [(run / "generator" / "generator.safetensors").read_bytes() for run in (resumed, whole)]
    assert weights[0] == weights[1]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> str:
    """361 small images in a file: quicker to open in a fresh process than scikit-learn."""
    path = tmp_path_factory.mktemp("data") / "pictures.npz"
    np.savez(path, images=random_images(361)[:, 0].numpy(), labels=np.arange(361) % 10)
    return str(path)


@pytest.fixture(scope="module")
def wholes(tmp_path_factory: pytest.TempPathFactory, pictures: str) -> dict[str, tuple[Path, tuple[str, ...]]]:
    """An uninterrupted run for each order of play, and the words it was made with."""
    runs = {}
    for play, more in (("simultaneous", ()), ("alternating", ALTERNATING)):
        words = (*WORDS, f"data.source={pictures}", *more)
        out = tmp_path_factory.mktemp(play) / "run"
        tp.train("digits", *words, out=out, device="cpu", quiet=True)
        page = (out / "report.html").read_text(encoding="utf-8")
        shown = {"1", "2"} if play == "simultaneous" else {"1", "2", "4"}
        assert shown <= set(re.findall(r"end of epoch (\d+)", page))
        runs[play] = out, words
    return runs


@pytest.mark.parametrize(
    ("play", "step", "number"),
    [
        pytest.param("simultaneous", 6, signal.SIGINT, marks=pytest.mark.slow),  # the end of an epoch
        ("simultaneous", 8, signal.SIGTERM),  # its middle, between two lines of the log
        pytest.param("simultaneous", 3, signal.SIGKILL, marks=pytest.mark.slow),  # before the first checkpoint
        pytest.param("simultaneous", 8, signal.SIGKILL, marks=pytest.mark.slow),
        pytest.param("alternating", 7, signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_run_goes_on_bit_for_bit(
    wholes: dict[str, tuple[Path, tuple[str, ...]]],
    play: str,
    step: int,
    number: signal.Signals,
    tmp_path: Path,
    cli: Cli,
) -> None:
    uninterrupted, words = wholes[play]
    out = tmp_path / "run"
    code, message = interrupted(
        step, number, "train", "digits", *words, "--out", str(out), "--quiet", "--device", "cpu"
    )
    assert code == (-signal.SIGKILL if number == signal.SIGKILL else 130), message
    if number != signal.SIGKILL:
        assert f"stopped after step {step}; go on with: twoplayer train --resume --out {out}" in message
        assert (out / "report.html").is_file()
        assert RunFolder(out).checkpoint_steps()[-1] == step
    again = ("train", "--resume", "--out", out, "--quiet", "--device", "cpu")
    if play == "alternating":
        resumed = cli(*again)
        assert resumed.returncode == 0, resumed.stderr
    else:  # starting a process takes longer than the rest
        assert run([str(word) for word in again]) == 0
    assert_same_runs(out, uninterrupted)


@pytest.mark.slow
def test_a_streamed_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    place = tmp_path / "pictures"
    place.mkdir()
    for number, image in enumerate(random_images(100, (1, 8, 8))):
        (place / f"{number:03}.png").write_bytes(encoded(image))
    words = ["train", "digits", "--data", str(place), "data.cache=none", "data.image_size=8", "data.channels=1"]
    words += [*WORDS, "--quiet", "--device", "cpu", "--out"]
    assert run([*words, str(tmp_path / "whole")]) == 0
    code, message = interrupted(8, signal.SIGKILL, *words, str(tmp_path / "run"))
    assert code == -signal.SIGKILL, message
    assert run(["train", "--resume", "--out", str(tmp_path / "run"), "--quiet", "--device", "cpu"]) == 0
    assert_same_runs(tmp_path / "run", tmp_path / "whole")


def test_a_killed_saver_leaves_nothing_that_is_taken_for_a_checkpoint(tmp_path: Path) -> None:
    out = tmp_path / "run"
    tp.train("digits", *WORDS, "steps=5", out=out, device="cpu", quiet=True)
    torn = RunFolder(out).checkpoints / ".step-0000010.99.tmp"
    torn.mkdir()
    (torn / "state.json").write_text("{")
    tp.train(None, "steps=10", out=out, resume=True, device="cpu", quiet=True)
    assert RunFolder(out).checkpoint_steps()[-1] == 10
    assert not torn.exists()


def test_a_run_can_be_lengthened_and_is_then_the_longer_run(tmp_path: Path) -> None:
    out = tmp_path / "run"
    tp.train("digits", *WORDS, "steps=8", out=out, device="cpu", quiet=True)
    tp.train(None, "steps=14", out=out, resume=True, device="cpu", quiet=True)
    tp.train("digits", *WORDS, out=tmp_path / "whole", device="cpu", quiet=True)
    assert_same(state_of(out), state_of(tmp_path / "whole"))
    assert tp.load(out).recipe.steps == 14


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path, tiny_run: tp.Run) -> None:
    copy = copy_of(tiny_run, tmp_path / "copy")
    tp.train(out=copy, resume=True, device="cpu", quiet=True)
    assert_same_runs(copy, tiny_run.path)


def test_resuming_with_another_recipe_shows_the_difference(tiny_run: tp.Run) -> None:
    with pytest.raises(UserError, match="batch_size: the run has 16, asked for 32"):
        tp.train(None, "batch_size=32", out=tiny_run.path, resume=True)
    with pytest.raises(UserError, match="seed: the run has 0, asked for 1"):
        tp.train(None, out=tiny_run.path, resume=True, seed=1)
    with pytest.raises(UserError, match=r"generator\.name: the run has dcgan, asked for mlp"):
        tp.train("digits", out=tiny_run.path, resume=True)
    with pytest.raises(UserError, match="can only be made longer, not 2 steps"):
        tp.train(None, "steps=2", out=tiny_run.path, resume=True, device="cpu")
    with pytest.raises(UserError, match="--resume needs --out"):
        tp.train(resume=True)


def test_resuming_on_other_data_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8)
    np.savez(path, images=images)
    out = tmp_path / "run"
    tp.train("digits", *TINY, data=str(path), out=out, device="cpu", quiet=True)
    images[0, 0, 0] ^= 1
    np.savez(path, images=images)
    with pytest.raises(UserError, match="other data"):
        tp.train(None, "steps=9", out=out, resume=True, device="cpu", quiet=True)


def test_a_signal_before_anything_is_saved_stops_at_once(tmp_path: Path) -> None:
    """The signal comes while Python is still importing. A slow machine may not listen yet: then it comes later."""
    call = [sys.executable, "-m", "twoplayer", "train", *WORDS, "--out", str(tmp_path / "run"), "--quiet"]
    for seconds in (1.0, 2.0, 4.0):
        with subprocess.Popen(call, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
            time.sleep(seconds)
            process.send_signal(signal.SIGTERM)
            _, message = process.communicate(timeout=20)
        if process.returncode != -signal.SIGTERM:
            break
    assert process.returncode == 130, message
    assert message.decode().startswith("twoplayer: stopped; nothing had to be saved")
    assert not (tmp_path / "run").exists()


def copy_of(run: tp.Run, place: Path) -> Path:
    shutil.copytree(run.path, place)
    return place


def test_what_a_kill_left_undone_after_the_last_checkpoint_is_done_on_resume(tmp_path: Path, tiny_run: tp.Run) -> None:
    copy = copy_of(tiny_run, tmp_path / "copy")
    shutil.rmtree(copy / "generator")
    (copy / "environment.json").unlink()
    tp.train(out=copy, resume=True, device="cpu", quiet=True)
    assert torch.equal(tp.load(copy).sample(2), tiny_run.sample(2))
    assert (copy / "environment.json").is_file()


def test_a_config_edited_by_hand_is_noticed(tmp_path: Path, tiny_run: tp.Run) -> None:
    copy = copy_of(tiny_run, tmp_path / "copy")
    config = copy / "config.yaml"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("seed: 0", "seed: 7"), encoding="utf-8")
    with pytest.raises(UserError, match="seed: the run has 0, asked for 7"):
        tp.train(None, "steps=9", out=copy, resume=True, device="cpu", quiet=True)


def test_a_key_with_a_default_may_be_missing_in_an_older_config(tmp_path: Path, tiny_run: tp.Run) -> None:
    copy = copy_of(tiny_run, tmp_path / "copy")
    config = copy / "config.yaml"
    lines = [line for line in config.read_text(encoding="utf-8").splitlines() if not line.startswith("precision")]
    config.write_text("\n".join(lines), encoding="utf-8")
    tp.train(out=copy, resume=True, device="cpu", quiet=True)


def test_a_file_says_its_own_length(tmp_path: Path, tiny_run: tp.Run) -> None:
    copy = copy_of(tiny_run, tmp_path / "copy")
    longer = tmp_path / "longer.yaml"
    longer.write_text((copy / "config.yaml").read_text(encoding="utf-8").replace("steps: 6", "steps: 8"))
    tp.train(longer, out=copy, resume=True, device="cpu", quiet=True)
    assert tp.load(copy).metrics[-1]["step"] == 8


def test_data_may_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pictures: str) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(pictures, "here.npz")
    tp.train("digits", *TINY, "steps=2", data="here.npz", out="run", device="cpu", quiet=True)
    (tmp_path / "moved").mkdir()
    Path("here.npz").rename("moved/there.npz")
    monkeypatch.chdir(tmp_path / "moved")
    tp.train(None, "steps=3", data=Path("there.npz"), out="../run", resume=True, device="cpu", quiet=True)
    assert tp.load("../run").metrics[-1]["step"] == 3


@pytest.mark.slow
def test_a_signal_with_nobody_reading_stderr_still_saves(tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["digits", *TINY, "steps=100000", "checkpoint_every=90000", "sample_every=90000", "log_every=1"]
    call = [sys.executable, "-m", "twoplayer", "train", *words, "--out", str(out), "--device", "cpu"]
    with subprocess.Popen(call, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert process.stderr is not None
        process.stderr.readline()
        process.stderr.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 130
    assert RunFolder(out).checkpoint_steps()


def test_lost_pictures_do_not_break_a_finished_run(tmp_path: Path, tiny_run: tp.Run) -> None:
    copy = copy_of(tiny_run, tmp_path / "copy")
    (copy / "samples" / "step-0000003.png").write_text("x")
    assert run(["train", "--resume", "--out", str(copy), "--device", "cpu"]) == 0
    shutil.rmtree(copy / "samples")
    assert run(["train", "--resume", "--out", str(copy), "--device", "cpu"]) == 0


def test_logging_stays_as_the_run_has_it_when_the_recipe_is_named(tmp_path: Path, tiny_run: tp.Run) -> None:
    copy = copy_of(tiny_run, tmp_path / "copy")
    same = [word for word in TINY if "every" not in word and "steps" not in word]
    tp.train("digits", *same, "steps=8", out=copy, resume=True, device="cpu", quiet=True)
    recipe = tp.load(copy).recipe
    assert (recipe.steps, recipe.log_every, recipe.checkpoint_every) == (8, 2, 4)


def test_a_run_killed_in_its_first_moment_can_be_begun_again(tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / ".lock").touch()
    (out / ".config.yaml.123.tmp").write_text("half")
    tp.train("digits", *TINY, "steps=1", out=out, device="cpu", quiet=True)
    (out / "environment.json").unlink()
    shutil.rmtree(out / "checkpoints")
    tp.train(out=out, resume=True, device="cpu", quiet=True)
    assert tp.load(out).metrics[-1]["step"] == 1


def test_the_disk_fills_up_during_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint of step 4 is whole, the one of step 6 fails: exit code 2, and the old one stays."""
    import twoplayer.training.checkpoint as checkpoint

    writing = checkpoint.write_and_flush

    def full(path: Path, content: bytes) -> None:
        if "step-0000006" in str(path):
            raise OSError(28, "No space left on device", str(path))
        writing(path, content)

    monkeypatch.setattr(checkpoint, "write_and_flush", full)
    assert run(["train", *TINY, "--out", str(tmp_path / "run"), "--quiet", "--device", "cpu"]) == 2
    assert RunFolder(tmp_path / "run").checkpoint_steps() == [4]
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    tp.train(out=tmp_path / "run", resume=True, device="cpu", quiet=True)
    assert RunFolder(tmp_path / "run").checkpoint_steps()[-1] == 6
