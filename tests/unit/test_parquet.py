"""Parquet files and CIFAR-10: the same pixels and labels come back; what is wrong is said in one line."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from tests.conftest import random_images
from twoplayer.core.errors import UserError
from twoplayer.data import prepared
from twoplayer.data.cifar10 import CLASS_NAMES
from twoplayer.data.form import Form
from twoplayer.data.hub import load_from_hub
from twoplayer.data.images import ImageData
from twoplayer.data.source import open_source

COLORS = random_images(5, (3, 6, 8))
LABELS = [3, 0, 1, 1, 2]


def encoded(image: torch.Tensor | np.ndarray, ending: str = "PNG", **options: Any) -> bytes:
    """A [C, H, W] or [H, W] uint8 image as the contents of a file."""
    array = np.asarray(image)
    array = array if array.ndim == 2 else array[0] if len(array) == 1 else array.transpose(1, 2, 0)
    file = io.BytesIO()
    Image.fromarray(array).save(file, ending, **options)
    return file.getvalue()


def struct_of(images: Any) -> list[dict[str, Any]]:
    return [{"bytes": encoded(image), "path": None} for image in images]


def write(path: Path, **columns: Any) -> str:
    pq.write_table(pa.table(columns), path)
    return str(path)


def load(text: str, image_size: int | None = None, channels: int | None = None) -> ImageData:
    return open_source(text).load("train", Form(image_size, channels))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "set.parquet"


def refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load(text)
    assert "\n" not in str(caught.value)
    assert "0x" not in str(caught.value), "no addresses in memory"


@pytest.mark.parametrize("layout", ["struct", "binary", "large_binary"])
@pytest.mark.parametrize("name", ["image", "img", "picture", "scan"])
def test_pixels_and_labels_come_back(file: Path, layout: str, name: str) -> None:
    kinds = {"binary": pa.binary(), "large_binary": pa.large_binary()}
    column = struct_of(COLORS) if layout == "struct" else pa.array([encoded(x) for x in COLORS], kinds[layout])
    data = load(write(file, **{name: column, "label": LABELS, "id": list("abcde")}))
    assert torch.equal(data.images, COLORS)
    assert data.labels is not None
    assert data.labels.dtype == torch.int64
    assert data.labels.tolist() == LABELS
    assert data.class_names == ("0", "1", "2", "3")
    assert data.source == str(file)


def test_many_rows_in_several_groups_keep_their_order(file: Path) -> None:
    images = random_images(2 * prepared.CHUNK + 3, (1, 3, 3))
    table = pa.table({"image": struct_of(images), "label": pa.array(range(len(images)), pa.uint16())})
    pq.write_table(table, file, row_group_size=100)
    data = load(str(file))
    assert torch.equal(data.images, images)
    assert data.labels is not None
    assert data.labels.tolist() == list(range(len(images)))


def test_what_datasets_writes_is_read_with_its_class_names(file: Path) -> None:
    import datasets

    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in COLORS]
    names = ["ant", "bee", "cow", "dog", "eel"]
    features = datasets.Features({"img": datasets.Image(), "fine_label": datasets.ClassLabel(names=names)})
    datasets.Dataset.from_dict({"img": pictures, "fine_label": LABELS}, features=features).to_parquet(str(file))
    data = load(str(file))
    assert torch.equal(data.images, COLORS)
    assert data.class_names == tuple(names)


def test_labels_are_optional_and_whole_numbers(file: Path) -> None:
    assert load(write(file, image=struct_of(COLORS))).labels is None
    assert load(write(file, image=struct_of(COLORS), label=[0.5] * 5)).labels is None
    data = load(write(file, image=struct_of(COLORS), label=list("abcde"), fine_label=LABELS))
    assert data.labels is not None
    assert data.labels.tolist() == LABELS


def test_named_image_columns_win_over_other_binary_ones(file: Path) -> None:
    masks = [b"mask"] * 5
    assert torch.equal(load(write(file, mask=masks, image=struct_of(COLORS))).images, COLORS)


def test_gray_stays_gray_unless_there_is_color(file: Path) -> None:
    gray, color = random_images(1, (1, 6, 8))[0], COLORS[0]
    alone = load(write(file, image=[encoded(gray)]))
    assert torch.equal(alone.images[0], gray)
    mixed = load(write(file, image=[encoded(gray), encoded(color)]))
    assert torch.equal(mixed.images, torch.stack([gray.repeat(3, 1, 1), color]))
    one, three = (load(str(file), channels=channels) for channels in (1, 3))
    assert one.shape == (1, 6, 8)
    assert torch.equal(one.images[0], gray)
    assert torch.equal(three.images, mixed.images)


def test_the_same_pictures_as_a_folder_give_the_same_pixels(file: Path, tmp_path: Path) -> None:
    """Turned, transparent and 16-bit pictures, cropped and resized: the folder source is the oracle."""
    exif = Image.Exif()
    exif[0x0112] = 6
    contents = [
        encoded(COLORS[0], "JPEG", exif=exif, quality=100),
        encoded(torch.randint(0, 256, (4, 9, 5), dtype=torch.uint8)),
        encoded(np.arange(60, dtype=np.uint16).reshape(6, 10) * 1000),
    ]
    folder = tmp_path / "folder"
    folder.mkdir()
    for index, content in enumerate(contents):
        (folder / f"{index}.{'jpg' if index == 0 else 'png'}").write_bytes(content)
    text = write(file, image=contents)
    for channels in (None, 1, 3):
        expected = open_source(str(folder)).load("train", Form(4, channels))
        assert torch.equal(load(text, 4, channels).images, expected.images)
    ours, theirs = open_source(text).survey(), open_source(str(folder)).survey()
    assert (ours.sizes, ours.modes, ours.form) == (theirs.sizes, theirs.modes, theirs.form)


def test_pictures_of_different_sizes_need_one_to_use(file: Path) -> None:
    text = write(file, image=[encoded(np.zeros((4, 4), np.uint8)), encoded(np.zeros((5, 7), np.uint8))])
    refused(text, "pictures differ in size.*data.image_size=64")
    assert load(text, 4).shape == (1, 4, 4)
    survey = open_source(text).survey()
    assert survey.form == Form(4, 1)
    assert survey.sizes == {(4, 4): 1, (7, 5): 1}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": ["a"]}, r"no column holds encoded pictures.*\(it has: text\)"),
        ({"image": ["a.png"]}, "no column holds encoded pictures"),
        ({"left": [b""], "right": [b""]}, "columns left, right could all hold pictures; call the right one 'image'"),
        ({"image": [{"path": "a.png"}]}, "no column holds encoded pictures"),
        ({"image": pa.array([], pa.binary())}, "has no rows"),
        ({"image": [encoded(COLORS[0]), None]}, r"row 1 cannot be read as a picture \(the cell is empty\)"),
        ({"image": [*struct_of(COLORS[:2]), {"bytes": None, "path": "a.png"}]}, "row 2 cannot .*the cell is empty"),
        ({"image": [encoded(COLORS[0]), b"text"]}, r"row 1 cannot be read as a picture \(no known format\)"),
        ({"image": [encoded(COLORS[0])[:-30]]}, "row 0 cannot be read as a picture"),
        ({"image": struct_of(COLORS[:2]), "label": [0, None]}, "column 'label' holds class ids .* not an empty cell"),
        ({"image": struct_of(COLORS[:2]), "label": [0, -1]}, "column 'label' holds class ids from 0 to 9999, not -1"),
        ({"image": struct_of(COLORS[:2]), "label": [0, 2**40]}, "not 1099511627776"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(file: Path, columns: dict[str, Any], message: str) -> None:
    refused(write(file, **columns), message)


def test_damaged_files_are_named(file: Path) -> None:
    refused(str(file), "no such file")
    write(file, image=struct_of(COLORS))
    whole = file.read_bytes()
    for damaged in (b"", b"text", whole[: len(whole) // 2], whole[:40] + bytes(len(whole) - 80) + whole[-40:]):
        file.write_bytes(damaged)
        refused(str(file), r"set\.parquet cannot be read as a Parquet file .*copy it again")


@pytest.fixture
def cifar10_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "root" / "cifar10"
    folder.mkdir(parents=True)
    write(folder / "train.parquet", img=struct_of(COLORS), label=LABELS)
    write(folder / "test.parquet", img=struct_of(COLORS[:2]), label=[9, 8])
    monkeypatch.setenv("TWOPLAYER_DATA", str(folder.parent))
    return folder


def test_cifar10_has_two_parts(cifar10_folder: Path) -> None:
    train, test, both = (open_source("cifar10").load(split, Form()) for split in ("train", "test", "all"))
    assert torch.equal(train.images, COLORS)
    assert torch.equal(both.images, torch.cat([train.images, test.images]))
    assert both.labels is not None
    assert both.labels.tolist() == [*LABELS, 9, 8]
    assert both.class_names == CLASS_NAMES
    assert open_source("cifar10").load("test", Form(16, 1)).images.shape == (2, 1, 16, 16)


def test_a_cifar10_folder_has_to_be_whole(cifar10_folder: Path) -> None:
    (cifar10_folder / "test.parquet").unlink()
    assert len(load("cifar10")) == 5
    with pytest.raises(UserError, match=r"cifar10 lacks test\.parquet; put it there or unset TWOPLAYER_DATA"):
        open_source("cifar10").load("all", Form())
    for columns in ({"img": struct_of(COLORS)}, {"img": struct_of(COLORS), "label": [0, 1, 2, 3, 10]}):
        write(cifar10_folder / "train.parquet", **columns)
        refused("cifar10", "'label' with class ids from 0 to 9")


def test_without_a_folder_cifar10_comes_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's own layout, made here; its columns are `img` and `label`."""
    import datasets

    folder = tmp_path / "hub"
    folder.mkdir()
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in COLORS]
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASS_NAMES))})
    table = datasets.Dataset.from_dict({"img": pictures, "label": LABELS}, features=features)
    for part in ("train", "test"):
        table.to_parquet(str(folder / f"{part}-00000-of-00001.parquet"))
    original: Callable[..., Any] = datasets.load_dataset

    def from_folder(repository: str, **options: Any) -> Any:
        assert repository == "uoft-cs/cifar10"
        return original(str(folder), **options)

    monkeypatch.delenv("TWOPLAYER_DATA", raising=False)
    monkeypatch.setattr(datasets, "load_dataset", from_folder)
    data = load("cifar10")
    assert torch.equal(data.images, COLORS)
    assert data.labels is not None
    assert data.labels.tolist() == LABELS


def test_a_hub_set_without_pictures_or_labels_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "hub"
    folder.mkdir()
    write(folder / "train-00000-of-00001.parquet", image=[1, 2], target=[0, 1])
    with pytest.raises(UserError, match=r"no column label or labels or fine_label \(it has: image, target\)"):
        load_from_hub(str(folder), "toy", "train", (), "")


def test_real_cifar10() -> None:
    folder = Path(os.environ.get("TWOPLAYER_DATA", "missing")) / "cifar10"
    if not folder.is_dir():
        pytest.skip("needs TWOPLAYER_DATA with cifar10/")
    data = open_source("cifar10").load("test", Form())
    assert data.images.shape == (10_000, 3, 32, 32)
    assert data.labels is not None
    assert data.labels.bincount().tolist() == [1000] * 10
    assert data.images.float().mean((0, 2, 3)).tolist() == pytest.approx([125.5, 123.0, 113.9], abs=1.5)
