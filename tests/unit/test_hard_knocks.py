"""What a run survives: kills, signals anywhere, a full disk, headers that lie. Children are forked, not started."""

from __future__ import annotations

import gc
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import twoplayer as tp
from tests.conftest import TINY, random_images
from tests.forks import ended, forked
from tests.unit.test_archives import encoded
from twoplayer.cli.main import run
from twoplayer.core.errors import UserError
from twoplayer.runs.folder import RunFolder
from twoplayer.training.checkpoint import read_newest, write_checkpoint

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]

TRIALS = 50


def test_a_child_never_collects_what_its_parent_left() -> None:
    """Such as an ONNX session in a traceback: it would wait in its child for threads that did not come along."""
    parent = os.getpid()

    class Waiting:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            if os.getpid() != parent:
                os._exit(9)

    def child() -> int:
        gc.collect()
        return 3

    gc.disable()
    try:
        Waiting()
        assert ended(forked(child), 20.0) == 3
    finally:
        gc.enable()
        gc.collect()


@pytest.mark.slow
def test_a_kill_in_the_middle_of_saving_never_leaves_a_torn_checkpoint(tmp_path: Path) -> None:
    """50 trials: the newest checkpoint is always whole, and never older than one that was once complete."""
    draw = random.Random(0)
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.prepare("")
    (tmp_path / "other" / "checkpoints").mkdir(parents=True)
    tree = {f"weight {n}": torch.arange(50_000, dtype=torch.float32) for n in range(4)}
    step, cut = 0, 0

    def save_on_and_on() -> None:
        for number in range(step + 1, step + 1000):
            write_checkpoint(folder, number, tree | {"step": number}, {})
            for old in folder.checkpoint_steps()[:-2]:
                shutil.rmtree(folder.checkpoint(old))

    begun = time.monotonic()
    write_checkpoint(RunFolder(tmp_path / "other"), 1, tree, {})
    usual = time.monotonic() - begun  # on this machine, as busy as it is now
    for _ in range(TRIALS):
        child = forked(save_on_and_on)
        time.sleep(draw.uniform(0.0, 0.02 + 6 * usual))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        cut += any(each.name.startswith(".") for each in folder.checkpoints.iterdir())
        found = read_newest(folder)
        now = 0 if found is None else found[0]["step"]
        assert now >= step
        if found is not None:
            assert all(torch.equal(found[0][name], value) for name, value in tree.items())
        step = now
    assert step > 0
    assert cut > TRIALS // 10, "kills met saving on the way"


PLACES = {
    "D's step": "twoplayer.training.play.update_discriminator",
    "G's step": "twoplayer.training.play.update_generator",
    "sampling": "twoplayer.training.recorder.Recorder.on_sample",
    "judging": "twoplayer.training.recorder.Recorder.row",
    "saving": "twoplayer.training.recorder.write_checkpoint",
    "preparation": "twoplayer.session.prepare",
    "before the first step": "twoplayer.session.recorder_of",
}


SAVES_STEP = {"D's step": 1, "G's step": 1, "judging": 2}
"""Where the step in which the signal comes is saved, and no other was before."""


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)],  # both go to one handler
    ids=lambda number: number.name,
)
@pytest.mark.parametrize("place", PLACES)
def test_a_signal_anywhere_saves_and_says_130(
    place: str, number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib

    name, attribute = PLACES[place].rsplit(".", 1)
    try:
        owner = importlib.import_module(name)
    except ModuleNotFoundError:
        module, kind = name.rsplit(".", 1)
        owner = getattr(importlib.import_module(module), kind)
    original, calls = getattr(owner, attribute), 0

    def hit(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 1:
            os.kill(os.getpid(), number)
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, attribute, hit)
    out = tmp_path / "run"
    words = ["train", *TINY, "--out", str(out), "--quiet", "--device", "cpu"]
    assert ended(forked(lambda: run(words)), 30.0) == 130
    monkeypatch.undo()
    if place in SAVES_STEP:
        assert RunFolder(out).checkpoint_steps() == [SAVES_STEP[place]]
    again = tp.train(out=out, resume=True, device="cpu", quiet=True) if out.exists() else None
    assert again is None or again.metrics[-1]["step"] == 6
    if place in ("D's step", "G's step"):
        assert again is not None


@pytest.mark.parametrize("cache", ["auto", "none"])
def test_a_signal_while_slow_pictures_are_decoded(cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk of large pictures may take a minute: it is left in its middle."""
    from twoplayer.data import prepared, streamed

    monkeypatch.setenv("TWOPLAYER_CACHE", str(tmp_path / "cache"))
    folder, begun = tmp_path / "pictures", tmp_path / "begun"
    folder.mkdir()
    for number, image in enumerate(random_images(300, (1, 8, 8))):
        (folder / f"{number}.png").write_bytes(encoded(image))
    decode = prepared.decode

    def slow(*told: object) -> object:
        begun.touch()
        time.sleep(0.5)
        return decode(*told)  # type: ignore[arg-type]

    for module in (prepared, streamed):
        monkeypatch.setattr(module, "decode", slow)
    words = ["--data", str(folder), "data.image_size=8", "data.channels=1", f"data.cache={cache}"]
    child = forked(lambda: run(["train", *TINY, *words, "--out", str(tmp_path / "run"), "--quiet", "--device", "cpu"]))
    deadline = time.monotonic() + 20.0
    while not begun.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(child, signal.SIGTERM)
    assert ended(child, 10.0) == 130


def test_a_second_signal_leaves_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from twoplayer.training import play

    begun = tmp_path / "begun"

    def slow(game: object) -> None:
        begun.touch()
        deadline = time.monotonic() + 30.0
        while time.monotonic() < deadline:
            time.sleep(0.05)

    monkeypatch.setattr(play, "update_generator", slow)
    child = forked(lambda: run(["train", *TINY, "--out", str(tmp_path / "run"), "--quiet", "--device", "cpu"]))
    deadline = time.monotonic() + 20.0
    while not begun.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(child, signal.SIGTERM)
    time.sleep(0.8)
    os.kill(child, signal.SIGTERM)
    assert ended(child, 2.0) == 130


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    call = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)]
    if not shutil.which("mount") or subprocess.run(call, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a small disk")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_leaves_the_old_checkpoint_whole(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from twoplayer.training import recorder

    write = recorder.write_checkpoint

    def write_and_fill(folder: RunFolder, *rest: object) -> None:
        write(folder, *rest)  # type: ignore[arg-type]
        with (small_disk / "filler").open("wb") as file:
            file.write(bytes(2**22))

    monkeypatch.setattr(recorder, "write_checkpoint", write_and_fill)
    out = small_disk / "run"
    assert ended(forked(lambda: run(["train", *TINY, "--out", str(out), "--quiet", "--device", "cpu"])), 20.0) == 2
    monkeypatch.undo()
    assert RunFolder(out).checkpoint_steps() == [4]
    (small_disk / "filler").unlink()
    assert tp.train(out=out, resume=True, device="cpu", quiet=True).metrics[-1]["step"] == 6


@pytest.mark.parametrize("length", [2**62, 2**31, 10])
def test_a_header_that_lies_about_its_size_is_refused(length: int, tmp_path: Path, tiny_run: tp.Run) -> None:
    shutil.copytree(tiny_run.path, tmp_path / "run")
    path = tmp_path / "run" / "generator" / "generator.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + path.read_bytes()[8:])
    with pytest.raises(UserError, match="generator"):
        tp.load(tmp_path / "run").sample(2)


def test_a_log_that_cannot_be_written_does_not_end_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from twoplayer.training import recorder

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(recorder, "append_row", full)
    monkeypatch.setattr(recorder, "save_png", full)
    trained = tp.train("digits", *TINY, out=tmp_path / "run", device="cpu", quiet=True)
    said = [each.message for each in caplog.records if "cannot be written" in each.message]
    assert said == [
        "a picture cannot be written (No space left on device); training goes on without",
        "the log cannot be written (No space left on device); training goes on without",
    ]
    assert trained.info.step == 6
    assert trained.sample(3).shape == (3, 1, 8, 8)


def test_a_line_of_the_log_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from twoplayer.runs.log import append_row, read_rows

    path = tmp_path / "metrics.jsonl"
    append_row(path, {"step": 1})
    before = path.read_bytes()
    monkeypatch.setattr("twoplayer.runs.log.json.dumps", lambda *_, **__: "x" * 2**16)
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"No space left|too large"):
            append_row(path, {"step": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    monkeypatch.undo()
    assert path.read_bytes() == before
    append_row(path, {"step": 3})
    assert [row["step"] for row in read_rows(path)] == [1, 3]
