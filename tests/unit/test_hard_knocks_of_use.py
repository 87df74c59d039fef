"""What users and machines do to a run that nobody planned: odd folders, little memory, strange surroundings."""

from __future__ import annotations

import ast
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

import twoplayer as tp
from tests.conftest import TINY, random_images
from tests.forks import ended, forked
from tests.unit.test_archives import encoded
from tests.unit.test_prepared import own_cache  # noqa: F401  (a fixture)
from twoplayer import session
from twoplayer.cli.main import run
from twoplayer.core.errors import UserError
from twoplayer.data.form import Form
from twoplayer.data.images import ImageData
from twoplayer.data.source import Wanted, open_source
from twoplayer.runs.folder import RunFolder
from twoplayer.training.checkpoint import read_newest

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
SOURCES = sorted((Path(tp.__file__).parent).rglob("*.py"))


def pictures(place: Path, n: int = 20) -> Path:
    place.mkdir(parents=True)
    for number, image in enumerate(random_images(n, (1, 8, 8))):
        (place / f"{number:02}.png").write_bytes(encoded(image))
    return place


def load(place: Path, **wanted: object) -> ImageData:
    return open_source(str(place)).images(Wanted(**wanted))  # type: ignore[arg-type]


def test_a_loop_of_links_is_walked_once(tmp_path: Path) -> None:
    place = pictures(tmp_path / "a")
    (place / "again").symlink_to(place)
    (place / "up").symlink_to(tmp_path)
    (place / "self").symlink_to(place / "self")
    (place / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(UserError, match=r"gone\.png"):
        load(place)
    (place / "gone.png").unlink()
    assert len(load(place)) == 20


def test_a_file_that_is_too_large_for_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from twoplayer.data import folder

    place = pictures(tmp_path / "a")
    monkeypatch.setattr(folder, "MOST_BYTES", 1000)
    (place / "large.png").write_bytes(bytes(1001))
    with pytest.raises(UserError, match=r"large\.png cannot be read as a picture \(it has 1,001 bytes\)"):
        load(place)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    place = pictures(tmp_path / "a")
    os.mkfifo(place / "pipe.png")
    with pytest.raises(UserError, match=r"pipe\.png cannot be read as a picture \(it is not a file\)"):
        load(place)


def as_nobody(work: Callable[[], None], tmp_path: Path) -> str:
    """The words of the UserError that work ends with when it is done by a user who may do little."""
    words = tmp_path / "words"
    words.touch(mode=0o666)
    words.chmod(0o666)

    def child() -> int:
        if os.geteuid() == 0:
            os.setuid(65534)
        try:
            work()
        except UserError as error:
            words.write_text(str(error), encoding="utf-8")
            return 2
        return 0

    assert ended(forked(child), 20.0) == 2
    return words.read_text(encoding="utf-8")


@pytest.fixture
def open_place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that everybody may enter, with a cache of its own."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "cache").mkdir()
        for each in (place, place / "cache"):
            each.chmod(0o777)
        monkeypatch.setenv("TWOPLAYER_CACHE", str(place / "cache"))
        yield place


@needs_fork
def test_a_file_or_a_folder_that_may_not_be_read_is_named(open_place: Path) -> None:
    place = pictures(open_place / "a")
    (place / "07.png").chmod(0o000)
    assert "07.png" in as_nobody(lambda: load(place), open_place)
    (place / "07.png").chmod(0o644)
    pictures(place / "secret", 3)
    (place / "secret").chmod(0o000)
    assert "secret" in as_nobody(lambda: load(place), open_place)


def test_one_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = pictures(tmp_path / "a", 1)
    assert len(load(place)) == 1
    assert run(["train", "--data", str(place), *TINY, "batch_size=1", "--quiet", "--out", str(tmp_path / "run")]) == 0
    assert run(["data", str(place)]) == 0
    assert f"train auto --data {place}\n" in capsys.readouterr().out
    assert run(["train", "auto", "--data", str(place), "steps=2", "--out", str(tmp_path / "chosen")]) == 0
    assert "batch_size=1 " in capsys.readouterr().err


def test_fewer_images_than_a_batch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = pictures(tmp_path / "a", 5)
    assert run(["train", "--data", str(place), *TINY, "--out", str(tmp_path / "run")]) == 2
    assert "batch_size=16 is larger than the data (5 images in a)" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", [b"", b"this is text", b"cut"], ids=["empty", "text", "truncated"])
def test_what_only_looks_like_a_picture(content: bytes, tmp_path: Path) -> None:
    place = pictures(tmp_path / "a", 120)
    broken = place / "0broken.jpg"
    whole = encoded(random_images(1, (3, 40, 40))[0], "jpeg")
    broken.write_bytes(whole[: len(whole) // 2] if content == b"cut" else content)
    with pytest.raises(UserError, match=r"0broken\.jpg cannot be read as a picture"):
        load(place, form=form_of(8))
    data = load(place, form=form_of(8), bad_images="skip")
    assert len(data) == 120
    assert any("0broken.jpg" in note for note in data.notes)


@pytest.mark.parametrize(
    "content",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n",
        b"8BPS\0\1" + bytes(100),
        b"P5 2 2 255\n....",
        b"%PDF-1.4",
    ],
    ids=["eps", "psd", "pgm", "pdf"],
)
def test_other_formats_are_not_decoded_whatever_they_are_called(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "picture.png").write_bytes(content)
    with pytest.raises(UserError, match=r"picture\.png cannot be read as a picture \(no known format\)"):
        load(tmp_path / "a")


def test_pictures_with_damaged_or_turned_headers(tmp_path: Path) -> None:
    """EXIF that is cut off, a TIFF that lies on its side: a line, or the upright picture."""
    (tmp_path / "a").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (12, 8)).save(tmp_path / "a" / "0.tif", exif=exif)
    Image.new("RGB", (8, 12)).save(tmp_path / "a" / "1.png")
    assert load(tmp_path / "a").shape == (3, 12, 8)
    plain = tmp_path / "b"
    plain.mkdir()
    Image.new("RGB", (12, 8)).save(plain / "0.jpg", exif=exif)
    content = (plain / "0.jpg").read_bytes()
    start = content.index(b"Exif")
    for place in range(start, start + 40):
        changed = bytearray(content)
        changed[place] ^= 0xFF
        (plain / "0.jpg").write_bytes(bytes(changed))
        with suppress(UserError):
            load(plain)


@pytest.mark.parametrize("shape", ["(65536, 65536, 65536)", "(1000000000000000000000000000000, 1, 1)", "(True, 3, 3)"])
def test_arrays_that_say_they_are_larger_than_memory(shape: str, tmp_path: Path) -> None:
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(9)
    (tmp_path / "a.npy").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", content)
    for name in ("a.npy", "a.npz"):
        with pytest.raises(UserError, match=name):
            load(tmp_path / name)


@needs_fork
def test_an_interrupt_that_a_library_swallows_is_raised_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from twoplayer import loading

    place = pictures(tmp_path / "a")
    original = loading.open_source

    def swallowing(text: str) -> object:
        with suppress(BaseException):
            os.kill(os.getpid(), 15)
            time.sleep(0.1)
        return original(text)

    monkeypatch.setattr(loading, "open_source", swallowing)
    words = ["train", "--data", str(place), *TINY, "--quiet", "--out", str(tmp_path / "run")]
    assert ended(forked(lambda: run(words)), 20.0) == 130
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_signal_ends_any_command_with_130(tiny_run: tp.Run) -> None:
    call = [sys.executable, "-m", "twoplayer", "evaluate", str(tiny_run.path), "--n", "1000"]
    for seconds in (1.0, 2.5, 4.0):
        with subprocess.Popen(call, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
            time.sleep(seconds)
            process.send_signal(15)
            _, said = process.communicate(timeout=20)
        assert process.returncode == 130, said
        assert b"Traceback" not in said


def form_of(size: int) -> Form:
    return Form(size, 1)


def test_files_from_the_future(tmp_path: Path) -> None:
    """The clock was set back: files are younger than now, and younger than what was made of them."""
    place = pictures(tmp_path / "a")
    tomorrow = time.time() + 86_400
    for path in place.iterdir():
        os.utime(path, (tomorrow, tomorrow))
    first = load(place)
    assert torch.equal(load(place).images, first.images)
    (place / "03.png").write_bytes(encoded(random_images(21, (1, 8, 8))[20]))  # younger content, older time
    assert not torch.equal(load(place).images, first.images)


def test_no_code_asks_what_time_it_is() -> None:
    """Durations come from a clock that nobody sets; the order of checkpoints and runs from their numbers.

    But for the page that says whether a log still grows: there a wrong clock makes a wrong word and nothing else.
    """
    asking = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today", "date.today"}
    for path in (path for path in SOURCES if path.parent.name != "explore"):
        calls = [node.func for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
        found = {ast.unparse(each) for each in calls} & asking
        assert not found, f"{path} asks {found}"


@pytest.mark.slow
def test_no_home_a_plain_locale_spaces_and_chinese_characters(tmp_path: Path) -> None:
    place = pictures(tmp_path / "我的 图片")
    (place / "猫 咪.png").write_bytes(encoded(random_images(1, (1, 8, 8))[0]))
    plain = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
    out = tmp_path / "运行 1"
    words = ["train", "--data", str(place), *TINY, "--out", str(out), "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "twoplayer", *words],
        env=plain | {"TWOPLAYER_CACHE": str(tmp_path / "缓存"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (out / "report.html").is_file()
    assert len(load(place)) == 21
    without = subprocess.run(
        [sys.executable, "-c", "from twoplayer.core.cache import cache_folder; print(cache_folder())"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert without.stdout.strip().endswith("twoplayer")


def test_no_home_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither $HOME nor an entry in the list of users: the cache goes where temporary files go."""
    from twoplayer.core.cache import cache_folder

    for name in ("HOME", "TWOPLAYER_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda _: (_ for _ in ()).throw(KeyError("no such user")))
    assert cache_folder().is_absolute()


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_too_little_memory_says_what_to_lower(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from twoplayer.training import play

    def failing(*_: object) -> None:
        raise error

    monkeypatch.setattr(play, "update_generator", failing)
    assert run(["train", *TINY, "--out", str(tmp_path / "run"), "--quiet"]) == 2
    assert "not enough memory with batch_size=16 and data.image_size=8" in capsys.readouterr().err


@needs_fork
def test_a_limit_on_memory_is_no_defect(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + 2**27, now + 2**27))
        wide = "generator={name: mlp, widths: [20000, 20000]}"
        return run(["train", *TINY, wide, "--out", str(tmp_path / "run"), "--quiet", "--device", "cpu"])

    assert ended(forked(work), 30.0) == 2
    assert "not enough memory" in capfd.readouterr().err


class Constant(nn.Module):
    """Draws one picture, whatever the latents; it has a parameter that nothing moves."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        images: torch.Tensor = self.inner(z)
        return 0.0 * images + 0.25


@pytest.mark.slow
def test_a_constant_generator_has_finite_figures_and_the_doctor_speaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = session.new_state

    def constant(*args: object) -> object:
        state = original(*args)  # type: ignore[arg-type]
        for network in (state.game.generator.network, state.average):
            if network is not None:
                last = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)][-1]
                for parameter in last.parameters():
                    nn.init.zeros_(parameter)
        for group in state.game.generator.optimizer.param_groups:
            group["lr"] = 0.0
        return state

    monkeypatch.setattr(session, "new_state", constant)
    found = tp.train("digits", *TINY, "steps=40", out=tmp_path / "run", device="cpu", quiet=True)
    monkeypatch.undo()
    assert len(found.sample(50).unique(dim=0)) == 1
    assert "collapse" in found.diagnose().words
    json.dumps(found.metrics, allow_nan=False)
    figures = found.evaluate(n=100, seeds=1)
    assert figures
    json.dumps(figures, allow_nan=False)  # raises where one is NaN or infinite


def test_a_checkpoint_names_no_device(tiny_run: tp.Run) -> None:
    """What is saved on one device is loaded on any: tensors are bytes, and nothing says where they were."""
    folder = RunFolder(tiny_run.path)
    for path in folder.checkpoint(folder.checkpoint_steps()[-1]).iterdir():
        content = path.read_bytes().lower()
        assert b"cuda" not in content
        assert b"device" not in content
    found = read_newest(folder)
    assert found is not None


@pytest.mark.gpu
def test_a_checkpoint_of_a_gpu_goes_on_on_a_cpu(tmp_path: Path) -> None:
    tp.train("digits", *TINY, out=tmp_path / "run", device="cuda", quiet=True)
    again = tp.train(out=tmp_path / "run", resume=True, device="cpu", quiet=True, steps=8)
    assert again.metrics[-1]["step"] == 8


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "name=../../evil"], "name"),
        (["train", "name=a\0b"], "name"),
        (["train", "--out", "a\0b"], "null"),
        (["train", "--data", "a\0b"], "a"),
        (["data", "a\0b.png"], "a"),
        (["sample", "a\0b"], "a"),
        (["train", "batch_size=1000000000"], "batch_size"),
    ],
)
def test_names_and_numbers_that_nobody_means(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run([*words, "--quiet"] if words[0] == "train" else words) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert not [each for each in tmp_path.rglob("*") if each.is_file()]


def test_a_run_that_vanishes_meanwhile_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from twoplayer.training import recorder

    write = recorder.write_checkpoint

    def write_and_lose(folder: RunFolder, *rest: object) -> None:
        shutil.rmtree(folder.path)
        write(folder, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(recorder, "write_checkpoint", write_and_lose)
    assert run(["train", "digits", *TINY, "--out", str(tmp_path / "run"), "--quiet", "--device", "cpu"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "no such file or folder" in said


def test_a_picture_of_one_pixel(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.new("L", (1, 1)).save(tmp_path / "a" / "dot.png")
    assert load(tmp_path / "a", form=form_of(4)).shape == (1, 4, 4)
