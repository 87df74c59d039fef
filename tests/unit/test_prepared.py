"""Pictures are decoded once, in parallel, and found again; what is interrupted goes on; what changed is noticed."""

from __future__ import annotations

import errno
import io
import os
import shutil
import time
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.conftest import random_images
from tests.forks import ended, forked
from tests.unit.test_archives import encoded
from twoplayer.core.cache import cache_folder
from twoplayer.core.errors import UserError
from twoplayer.data import kept, prepared
from twoplayer.data.form import Form
from twoplayer.data.images import ImageData
from twoplayer.data.source import Wanted, open_source

PICTURES = random_images(20, (3, 6, 6))


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("TWOPLAYER_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "pictures"
    place.mkdir()
    for number, image in enumerate(PICTURES):
        (place / f"{number:02}.png").write_bytes(encoded(image))
    return place


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of all pictures that are decoded from here on."""
    names: list[str] = []
    decode = prepared.decode

    def counting(encoded: bytes, name: str, form: Form, where: str) -> np.ndarray:
        names.append(name)
        return decode(encoded, name, form, where)

    monkeypatch.setattr(prepared, "decode", counting)
    return names


def load(folder: Path, **wanted: object) -> ImageData:
    return open_source(str(folder)).images(Wanted(**wanted))  # type: ignore[arg-type]


def test_what_was_decoded_is_found_again(folder: Path, decoded: list[str]) -> None:
    first = load(folder)
    assert torch.equal(first.images, PICTURES)
    assert len(decoded) == 20
    again = load(folder)
    assert torch.equal(again.images, PICTURES)
    assert len(decoded) == 20
    assert again.fingerprint == first.fingerprint == ImageData(PICTURES, "x").fingerprint
    load(folder, form=Form(4))
    assert len(decoded) == 40, "another form is prepared by itself"


def test_an_interrupted_preparation_goes_on(folder: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared, "CHUNK", 4)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    seen = []

    def interrupt(done: int, n: int) -> None:
        seen.append((done, n))
        if done >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(folder, told=interrupt)
    assert seen == [(4, 20), (8, 20)]
    before = len(decoded)
    assert torch.equal(load(folder).images, PICTURES)
    assert len(decoded) - before == 12, "what was written down is not decoded again"


@pytest.mark.parametrize("name", ["images.u8", "rows.npy", "facts.json", "sha256"])
@pytest.mark.parametrize("size", [0, 5])
def test_what_is_damaged_is_prepared_anew(name: str, size: int, folder: Path) -> None:
    first = load(folder)
    images, fingerprint = first.images.clone(), first.fingerprint
    (kept,) = (path for path in (cache_folder() / "data").iterdir() if path.name != "newest")
    (kept / name).write_bytes((kept / name).read_bytes()[:size])
    again = load(folder)
    assert torch.equal(again.images, images)
    if name != "sha256" or not size:
        assert again.fingerprint == fingerprint


def test_holes_in_a_file_have_no_place_on_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(2**20)
    assert kept.allocated(path) < 2**16
    path.write_bytes(bytes(2**20))
    assert kept.allocated(path) == 2**20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_two_processes_prepare_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted, decode, remembered = tmp_path / "counted", prepared.decode, kept.Prepared.remembered

    def slow(*told: object) -> np.ndarray:
        with counted.open("a") as file:
            file.write("x")
        time.sleep(0.02)
        return decode(*told)  # type: ignore[arg-type]

    def once(self: kept.Prepared, name: str, find: Callable[[], str]) -> str:
        def slowly() -> str:
            with counted.open("a") as file:
                file.write("s")
            time.sleep(0.2)
            return find()

        return remembered(self, name, slowly)

    monkeypatch.setattr(prepared, "decode", slow)
    monkeypatch.setattr(kept.Prepared, "remembered", once)

    def work() -> int:
        return 0 if torch.equal(load(folder).images, PICTURES) else 1

    children = [forked(work), forked(work)]
    assert [ended(child, 20.0) for child in children] == [0, 0]
    assert sorted(counted.read_text()) == ["s", *"x" * len(PICTURES)]


def test_a_disk_that_fills_up_after_an_interruption_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(kept.os, "posix_fallocate", full, raising=False)
    with pytest.raises(OSError, match=r"No space left.*images\.u8"):
        load(folder)

    def unable(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "not here")

    monkeypatch.setattr(kept.os, "posix_fallocate", unable, raising=False)
    assert torch.equal(load(folder).images, PICTURES)


def test_a_failed_preparation_leaves_nothing_behind(folder: Path) -> None:
    (folder / "03.png").write_bytes(b"text")
    with pytest.raises(UserError, match=r"03\.png"):
        load(folder)
    (folder / "03.png").write_bytes(encoded(PICTURES[3]))
    load(folder)
    assert len([path for path in (cache_folder() / "data").iterdir() if path.name != "newest"]) == 1


def test_files_that_changed_since_are_noticed(folder: Path, decoded: list[str]) -> None:
    load(folder)
    (folder / "03.png").write_bytes(encoded(255 - PICTURES[3]))
    os.utime(folder / "03.png", (1, 1))
    data = load(folder)
    assert torch.equal(data.images[3], 255 - PICTURES[3])
    assert data.notes == ("its files have changed since they were prepared; they were prepared again",)
    assert len([each for each in (cache_folder() / "data").iterdir() if each.name != "newest"]) == 1
    assert load(folder).notes == ()
    shutil.rmtree(cache_folder())
    assert torch.equal(load(folder).images[3], data.images[3]), "deleting it costs time only"


def test_another_choice_of_pictures_is_no_change_of_files(folder: Path, decoded: list[str]) -> None:
    whole, some = load(folder), load(folder, limit=5)
    assert whole.notes == some.notes == load(folder, bad_images="skip").notes == ()
    before = len(decoded)
    assert load(folder).notes == load(folder, limit=5).notes == ()
    assert len(decoded) == before


def test_a_broken_picture_ends_it_or_is_left_out(folder: Path) -> None:
    (folder / "05.png").write_bytes(encoded(PICTURES[5])[:60])
    with pytest.raises(UserError, match=r"pictures/05\.png cannot be read as a picture .*; repair or remove it"):
        load(folder)
    data = load(folder, bad_images="skip")
    assert torch.equal(data.images, torch.cat([PICTURES[:5], PICTURES[6:]]))
    assert len(data.notes) == 1
    assert data.notes[0].startswith("left out: 05.png (")
    assert load(folder, bad_images="skip").notes == data.notes
    (folder / "06.png").write_text("text")
    with pytest.raises(UserError, match="2 of 20 pictures cannot be read, more than 1 %"):
        load(folder, bad_images="skip")


def test_labels_stay_with_their_pictures_when_one_is_left_out(tmp_path: Path) -> None:
    for number, image in enumerate(PICTURES):
        place = tmp_path / "pictures" / ("odd" if number % 2 else "even")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:02}.png").write_bytes(encoded(image) if number != 4 else b"")
    data = load(tmp_path / "pictures", bad_images="skip", form=Form(6, 3))
    assert data.labels is not None
    assert data.labels.tolist() == [0] * 9 + [1] * 10
    assert torch.equal(data.images[9:], PICTURES[1::2])


def test_no_space_is_said_before_anything_is_decoded(
    folder: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 0, 10))
    with pytest.raises(UserError, match=r"GiB prepared, but 0\.0 GiB are free in .*TWOPLAYER_CACHE"):
        load(folder)
    assert not decoded


def test_what_becomes_of_every_kind_of_picture(tmp_path: Path) -> None:
    """Red, or its gray value, in every mode that is documented; one pixel of another color shows what is upright."""
    red = Image.new("RGB", (6, 6), (255, 0, 0))
    red.putpixel((0, 0), (0, 0, 255))
    clear = red.convert("RGBA")
    clear.putpixel((5, 5), (0, 0, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 3
    kinds = {
        "rgb.png": red,
        "rgba.png": clear,
        "palette.png": red.convert("P", palette=Image.Palette.ADAPTIVE),
        "cmyk.tif": red.convert("CMYK"),
        "lab.tif": Image.new("LAB", (6, 6), (136, 208, 195)),
        "gray.png": Image.new("L", (6, 6), 76),
        "bilevel.png": Image.new("1", (6, 6), 1),
        "sixteen.png": Image.fromarray(np.full((6, 6), 257 * 76, np.uint16)),
        "gray-alpha.png": Image.new("LA", (6, 6), (76, 255)),
    }
    folder = tmp_path / "kinds"
    folder.mkdir()
    for name, picture in kinds.items():
        picture.save(folder / name)
    red.save(folder / "turned.png", exif=exif)
    red.save(folder / "animated.gif", save_all=True, append_images=[Image.new("RGB", (6, 6), (0, 255, 0))])
    names = sorted(path.name for path in folder.iterdir())
    images = dict(zip(names, load(folder, form=Form(None, 3)).images, strict=True))
    for name in ("rgb.png", "rgba.png", "palette.png", "cmyk.tif", "animated.gif"):
        assert (images[name][:, 2, 2] - torch.tensor([255, 0, 0])).abs().max() <= 2, name
    assert images["rgba.png"][:, 5, 5].tolist() == [255, 255, 255], "transparency is laid over white"
    assert images["rgb.png"][:, 0, 0].tolist() == [0, 0, 255]
    assert images["turned.png"][:, 5, 5].tolist() == [0, 0, 255]
    for name in ("gray.png", "sixteen.png", "gray-alpha.png"):
        assert images[name].unique().tolist() == [76], name
    assert images["bilevel.png"].unique().tolist() == [255]
    survey = open_source(str(folder)).survey()
    assert survey.animated == 1
    assert survey.n == len(names)


@pytest.mark.parametrize("ending", ["png", "jpeg", "webp", "tiff"])
@pytest.mark.parametrize("where", ["exif", "xmp"])
def test_a_picture_is_turned_wherever_its_orientation_stands(ending: str, where: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp.decode())
    how = {"exif": exif} if where == "exif" else {"pnginfo": info} if ending == "png" else {"xmp": xmp}
    if (ending, where) == ("tiff", "xmp"):
        how = {"tiffinfo": {0x0112: 6}}
    buffer = io.BytesIO()
    Image.fromarray(np.repeat(np.arange(0, 240, 30, dtype=np.uint8), 8).reshape(8, 8)).save(buffer, ending, **how)
    found = prepared.decode(buffer.getvalue(), "a", Form(8, 1))[0]
    assert (found[:, 0] > found[:, 7]).all()  # a quarter turn to the right: the dark top row is on the right


@pytest.mark.parametrize(("crop", "columns"), [("center", [4, 5, 6, 7]), ("none", None), ("random", None)])
def test_crops(crop: str, columns: list[int] | None, tmp_path: Path) -> None:
    (tmp_path / "wide").mkdir()
    ramp = np.tile(np.arange(12, dtype=np.uint8) * 20, (4, 1))
    for number in range(8):
        Image.fromarray(ramp).save(tmp_path / "wide" / f"{number}.png")
    images = load(tmp_path / "wide", form=Form(4, 1, crop)).images  # type: ignore[arg-type]
    assert images.shape == (8, 1, 4, 4)
    if columns is not None:
        assert images[0, 0, 0].tolist() == [20 * column for column in columns]
    elif crop == "none":
        assert images[0, 0, 0].max() == 0, "black above"
        assert images[0, 0, 3].max() == 0, "and below"
    else:
        assert len({image.numpy().tobytes() for image in images}) > 3
        assert torch.equal(images, load(tmp_path / "wide", form=Form(4, 1, "random")).images)
