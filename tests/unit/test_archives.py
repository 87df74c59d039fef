"""Pictures in archives and shards: nothing is written outside, nothing is trusted that an archive says of itself."""

from __future__ import annotations

import io
import os
import random
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import random_images
from twoplayer.core.errors import UserError
from twoplayer.data import shards, zips
from twoplayer.data.form import Form
from twoplayer.data.source import Wanted, open_source
from twoplayer.data.zips import ZipCollection


def encoded(image: torch.Tensor, ending: str = "png") -> bytes:
    """uint8 [C, H, W] as a picture's file."""
    array = image.permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(array[..., 0] if array.shape[2] == 1 else array).save(buffer, ending)
    return buffer.getvalue()


PICTURES = random_images(6, (3, 5, 5))
NAMES = [f"set/{'cat' if n < 3 else 'dog'}/{n}.png" for n in range(6)]
FILES = {name: encoded(image) for name, image in zip(NAMES, PICTURES, strict=True)}


def tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


MAKERS: dict[str, Callable[[Path, dict[str, bytes]], Path]] = {
    "zip": zipped,
    "tar": tar,
    "tar.gz": lambda path, files: tar(path, files, "w:gz"),
    "tar.xz": lambda path, files: tar(path, files, "w:xz"),
}


@pytest.mark.parametrize("ending", MAKERS)
def test_pictures_and_classes_are_those_of_the_folder(ending: str, tmp_path: Path) -> None:
    path = MAKERS[ending](tmp_path / f"set.{ending}", FILES | {"set/readme.txt": b"text", "__MACOSX/._0.png": b"x"})
    data = open_source(str(path)).images(Wanted())
    assert torch.equal(data.images, PICTURES)
    assert data.labels is not None
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.class_names == ("cat", "dog")
    dogs = open_source(str(path)).images(Wanted(classes=("dog",), limit=2))
    assert dogs.class_names == ("dog",)
    assert len(dogs) == 2
    assert {image.numpy().tobytes() for image in dogs.images} < {image.numpy().tobytes() for image in PICTURES[3:]}


def test_samples_of_several_shards(tmp_path: Path) -> None:
    """In the manner of WebDataset: the files of a sample have one name up to the first dot."""
    for shard in range(3):
        files = {}
        for n in (2 * shard, 2 * shard + 1):
            files |= {f"{n:06}.cls": b"%d\n" % (n % 4), f"{n:06}.png": encoded(PICTURES[n]), f"{n:06}.json": b"{}"}
        tar(tmp_path / f"train-{shard:03}.tar", files)
    for pattern in ("train-{000..002}.tar", "train-*.tar", "train-{000,001,002}.tar"):
        data = open_source(str(tmp_path / pattern)).images(Wanted())
        assert torch.equal(data.images, PICTURES)
        assert data.labels is not None
        assert data.labels.tolist() == [0, 1, 2, 3, 0, 1]
        assert data.class_names == ("0", "1", "2", "3")
    with pytest.raises(UserError, match=r"train-003\.tar: no such file"):
        open_source(str(tmp_path / "train-{000..003}.tar")).images(Wanted())


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tar.xz"])
def test_a_name_that_an_archive_holds_twice(ending: str, tmp_path: Path) -> None:
    """Every member is a picture of its own, with the label of its own folder, in the order of the archive."""
    path = tmp_path / f"a{ending}"
    with tarfile.open(path, f"w:{ending[5:]}") as archive:
        for number, name in enumerate(["a/0.png", "b/1.png", "a/2.png", "b/1.png", "b/3.png", "b/4.png"]):
            content = encoded(torch.full((1, 5, 5), 10 * number, dtype=torch.uint8))
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    data = open_source(str(path)).images(Wanted())
    assert data.images[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40, 50]
    assert data.labels.tolist() == [0, 1, 0, 1, 1, 1]  # type: ignore[union-attr]


def test_a_class_that_is_no_class(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, content in (("0.png", encoded(PICTURES[0])), ("0.cls", b"9" * 1000)):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    with pytest.raises(UserError, match="class ids from 0 to"):
        open_source(str(tmp_path / "a.tar")).images(Wanted())


def test_no_damage_to_a_zip_is_a_defect(tmp_path: Path) -> None:
    """200 files with one flipped bit: the pictures, or a line on what is wrong."""
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA):
        path = tmp_path / f"{method}.zip"
        with zipfile.ZipFile(path, "w", method) as archive:
            for number, image in enumerate(PICTURES):
                archive.writestr(f"{number}.png", encoded(image))
        content, draw = path.read_bytes(), random.Random(0)
        for trial in range(100):
            changed = bytearray(content)
            changed[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
            other = tmp_path / f"{method}-{trial}.zip"
            other.write_bytes(bytes(changed))
            with suppress(UserError):
                open_source(str(other)).images(Wanted())


def test_nothing_is_written_and_nothing_but_plain_files_is_read(tmp_path: Path) -> None:
    outside = tmp_path / "outside.png"
    outside.write_bytes(encoded(PICTURES[5]))
    inside = tmp_path / "inside"
    inside.mkdir()
    path = inside / "evil.tar"
    with tarfile.open(path, "w") as archive:
        for name in ("../escaped.png", str(tmp_path / "absolute.png"), "plain.png"):
            member = tarfile.TarInfo(name)
            member.size = len(FILES[NAMES[0]])
            archive.addfile(member, io.BytesIO(FILES[NAMES[0]]))
        for kind, name in ((tarfile.SYMTYPE, "link.png"), (tarfile.LNKTYPE, "hard.png"), (tarfile.CHRTYPE, "dev.png")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, str(outside)
            archive.addfile(member)
    before = sorted(tmp_path.rglob("*"))
    found = open_source(str(path)).collection("all")
    assert list(found.names) == [str(tmp_path / "absolute.png"), "plain.png"], "no links, devices, or hidden places"
    assert len(open_source(str(path)).images(Wanted())) == 2
    zipped(inside / "evil.zip", {"../escaped.png": FILES[NAMES[0]], "/absolute.png": FILES[NAMES[1]]})
    before.append(inside / "evil.zip")
    assert len(open_source(str(inside / "evil.zip")).images(Wanted())) == 1
    assert sorted(tmp_path.rglob("*")) == sorted(before)


@pytest.mark.parametrize("ending", ["zip", "tar", "tar.gz"])
def test_what_would_swell_is_refused_before_it_does(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (shards, zips):
        monkeypatch.setattr(module, "MOST_BYTES", 1000)
    path = MAKERS[ending](tmp_path / f"bomb.{ending}", FILES | {"set/cat/bomb.png": bytes(1_000_000)})
    with pytest.raises(UserError, match=r"bomb\.png cannot be read as a picture \(it has 1,000,000 bytes\)"):
        open_source(str(path)).images(Wanted(form=Form(4, 3)))


def test_a_zip_that_lies_about_a_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped(tmp_path / "liar.zip", {"a.png": bytes(100_000)})
    raw = bytearray(path.read_bytes())
    place = raw.rindex(b"PK\x01\x02")
    raw[place + 24 : place + 28] = (500).to_bytes(4, "little")
    path.write_bytes(raw)
    monkeypatch.setattr(zips, "MOST_BYTES", 1000)
    with pytest.raises(UserError, match=r"a\.png cannot be read as a picture"):
        open_source(str(path)).images(Wanted(form=Form(4, 3)))


@pytest.mark.parametrize("ending", MAKERS)
def test_damaged_archives_are_named(ending: str, tmp_path: Path) -> None:
    path = MAKERS[ending](tmp_path / f"set.{ending}", {name: np.random.default_rng(0).bytes(5000) for name in NAMES})
    whole = path.read_bytes()
    for damaged in (b"", b"text", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"set\.(zip|tar).*(copy it again|has no pictures|cannot be read)"):
            open_source(str(path)).images(Wanted(form=Form(4, 3)))
    with pytest.raises(UserError, match="no such file"):
        open_source(str(tmp_path / f"missing.{ending}")).images(Wanted())


def test_an_encrypted_archive_says_so(tmp_path: Path) -> None:
    path = zipped(tmp_path / "secret.zip", {"a.png": FILES[NAMES[0]]})
    raw = bytearray(path.read_bytes())
    raw[raw.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(raw)
    with pytest.raises(UserError, match="is encrypted; unpack it"):
        open_source(str(path)).images(Wanted())


def test_names_that_are_no_utf8_and_lines(tmp_path: Path) -> None:
    folder = tmp_path / "a folder 图"
    folder.mkdir()
    for number, name in enumerate((b"new\nline.png", b"caf\xe9.png", "图片.png".encode())):
        (folder / os.fsdecode(name)).write_bytes(encoded(PICTURES[number]))
    assert len(open_source(str(folder)).images(Wanted())) == 3
    (folder / os.fsdecode(b"new\nline.png")).write_text("text")
    with pytest.raises(UserError) as caught:
        open_source(str(folder)).images(Wanted(form=Form(4, 3)))
    assert "\n" not in str(caught.value)
    assert r"new\nline.png cannot be read" in str(caught.value)


def test_an_archive_that_was_replaced_is_read_anew(tmp_path: Path) -> None:
    path = zipped(tmp_path / "set.zip", FILES)
    assert ZipCollection.open(path, "set").read(0) == FILES[NAMES[0]]
    path.unlink()
    other = encoded(255 - PICTURES[0])
    zipped(path, {NAMES[0]: other})
    assert ZipCollection.open(path, "set").read(0) == other
