"""Sources, conversion, batches."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import random_images
from twoplayer.core.errors import UserError
from twoplayer.core.rng import Stream
from twoplayer.data.batches import IndexedBatches
from twoplayer.data.form import Form
from twoplayer.data.hub import load_from_hub
from twoplayer.data.images import ImageData
from twoplayer.data.inspect import describe, problems
from twoplayer.data.pictures import header
from twoplayer.data.source import open_source
from twoplayer.data.survey import survey_of_images

CPU = torch.device("cpu")


def write_idx(path: Path, values: np.ndarray) -> None:
    header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    opener = gzip.open if path.suffix == ".gz" else Path.open
    with opener(path, "wb") as file:
        file.write(header + values.astype(np.uint8).tobytes())


@pytest.fixture
def idx_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "root" / "mnist"
    folder.mkdir(parents=True)
    for part, n, ending in (("train", 6, ".gz"), ("t10k", 4, "")):
        write_idx(folder / f"{part}-images-idx3-ubyte{ending}", np.arange(n * 9).reshape(n, 3, 3))
        write_idx(folder / f"{part}-labels-idx1-ubyte{ending}", np.arange(n))
    monkeypatch.setenv("TWOPLAYER_DATA", str(folder.parent))
    return folder


def test_digits_are_the_digits_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    data = open_source("digits").load("all", Form())
    assert data.images.shape == (1797, 1, 8, 8)
    assert data.labels is not None
    assert data.labels.tolist() == load_digits().target.tolist()
    assert np.abs(data.images[:, 0].numpy() / 255 * 16 - load_digits().images).max() < 0.04
    train, test = (open_source("digits").load(split, Form()) for split in ("train", "test"))
    assert torch.equal(torch.cat([train.images, test.images]), data.images)


def test_idx_files_gzipped_or_not(idx_root: Path) -> None:
    train, test, both = (open_source("mnist").load(split, Form()) for split in ("train", "test", "all"))
    assert train.images.flatten().tolist() == list(range(54))
    assert len(test) == 4
    assert len(both) == 10
    assert test.labels is not None
    assert test.labels.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("damage", ["cut", "not idx", "missing", "labels"])
def test_damaged_idx_files_are_named(idx_root: Path, damage: str) -> None:
    images = idx_root / "train-images-idx3-ubyte.gz"
    if damage == "cut":
        images.write_bytes(images.read_bytes()[:-9])
    elif damage == "not idx":
        images.write_bytes(gzip.compress(b"hello"))
    elif damage == "missing":
        images.unlink()
    else:
        write_idx(idx_root / "train-labels-idx1-ubyte.gz", np.arange(5))
    with pytest.raises(UserError, match="images-idx3" if damage != "labels" else "labels"):
        open_source("mnist").load("train", Form())


def test_real_mnist(mnist_folder: Path) -> None:
    data = open_source("mnist").load("train", Form())
    assert data.images.shape == (60_000, 1, 28, 28)
    assert data.labels is not None
    assert data.labels[:5].tolist() == [5, 0, 4, 1, 9]


@pytest.mark.parametrize("name", ["letters-images-idx3-ubyte", "letters-images.idx3-ubyte.gz", "letters.idx3-ubyte"])
def test_own_idx_files(name: str, tmp_path: Path) -> None:
    pixels = np.arange(5 * 16).reshape(5, 4, 4)
    write_idx(tmp_path / name, pixels)
    data = open_source(str(tmp_path / name)).load("all", Form())
    assert torch.equal(data.images[:, 0], torch.from_numpy(pixels.astype(np.uint8)))
    assert data.labels is None
    if "images" in name:
        write_idx(tmp_path / name.replace("images", "labels").replace("idx3", "idx1"), np.array([0, 2, 1, 2, 0]))
        data = open_source(str(tmp_path / name)).load("all", Form())
        assert (data.labels.tolist(), data.class_names) == ([0, 2, 1, 2, 0], ("0", "1", "2"))  # type: ignore[union-attr]
        write_idx(tmp_path / name.replace("images", "labels").replace("idx3", "idx1"), np.array([0]))
        with pytest.raises(UserError, match="1 labels lie beside it"):
            open_source(str(tmp_path / name)).load("all", Form())


def test_without_files_or_network_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TWOPLAYER_DATA", raising=False)

    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("no route")

    import datasets

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(UserError, match=r"TWOPLAYER_DATA is not set.*ConnectionError.*set TWOPLAYER_DATA"):
        open_source("mnist").load("train", Form())


def test_hub_loading_on_local_parquet(tmp_path: Path) -> None:
    """The hub's own layout, made here: the code that reads a downloaded set runs whole."""
    import datasets

    pictures = [Image.fromarray(array[0]) for array in random_images(3).numpy()]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    table = datasets.Dataset.from_dict({"image": pictures, "label": [0, 1, 1]}, features=features)
    folder = tmp_path / "hub"
    folder.mkdir()
    table.to_parquet(str(folder / "train-00000-of-00001.parquet"))
    table.to_parquet(str(folder / "test-00000-of-00001.parquet"))
    data = load_from_hub(str(folder), "toy", "train", ("a", "b"), "")
    assert torch.equal(data.images, random_images(3))
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1, 1]
    assert len(load_from_hub(str(folder), "toy", "all", ("a", "b"), "")) == 6


@pytest.mark.parametrize("layout", ["NHW", "NHWC", "NCHW"])
def test_npz_layouts(tmp_path: Path, layout: str) -> None:
    images = random_images(5, (3, 6, 6) if layout != "NHW" else (1, 6, 6))
    stored = {"NHW": images[:, 0], "NHWC": images.permute(0, 2, 3, 1), "NCHW": images}[layout]
    np.savez(tmp_path / "set.npz", images=stored.numpy(), labels=np.arange(5) % 2)
    data = open_source(str(tmp_path / "set.npz")).load("train", Form())
    assert torch.equal(data.images, images)
    assert data.class_names == ("0", "1")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": np.zeros((2, 4, 4), np.uint8)}, "no array 'images'"),
        ({"images": np.zeros((2, 4, 4))}, "must be uint8"),
        ({"images": np.zeros((2, 4, 4, 2), np.uint8)}, r"\[N, H, W\]"),
        ({"images": np.zeros((0, 4, 4), np.uint8)}, "no images"),
        ({"images": np.zeros((2, 4, 4), np.uint8), "labels": np.zeros(3, int)}, "'labels'"),
        ({"images": np.array([object()])}, "not a readable"),
        ({"images": np.zeros((9, 0, 4), np.uint8)}, "no images"),
        ({"images": np.zeros((2, 4, 4), np.uint8), "labels": np.array([0, 3_000_000])}, "too large"),
        ({"images": np.zeros((2, 4, 4), np.uint8), "labels": np.array(["cat", "dog"])}, "'labels'"),
    ],
)
def test_bad_npz(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(UserError, match=message):
        open_source(str(tmp_path / "bad.npz")).load("train", Form())


def test_files_that_are_no_npz(tmp_path: Path) -> None:
    np.save(tmp_path / "plain.npy", np.zeros(3))
    (tmp_path / "plain.npy").rename(tmp_path / "plain.npz")
    with pytest.raises(UserError, match="not a readable"):
        open_source(str(tmp_path / "plain.npz")).load("train", Form())


def save_pictures(folder: Path, names: list[str], mode: str = "RGB", size: tuple[int, int] = (10, 10)) -> None:
    for index, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        color = (40 * index, 20, 30) if mode == "RGB" else 40 * index
        Image.new(mode, size, color).save(path)


def test_folder_with_class_subfolders(tmp_path: Path) -> None:
    save_pictures(tmp_path, ["cat/a.png", "dog/b.png", "dog/deep/c.png"])
    (tmp_path / "cat" / "notes.txt").write_text("not a picture")
    data = open_source(f"folder:{tmp_path}").load("train", Form())
    assert data.images.shape == (3, 3, 10, 10)
    assert data.class_names == ("cat", "dog")
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1, 1]
    assert data.images[2, 0].unique().tolist() == [80]


def test_flat_gray_folder_as_bare_path(tmp_path: Path) -> None:
    save_pictures(tmp_path, ["a.png", "b.png"], mode="L")
    data = open_source(str(tmp_path)).load("train", Form())
    assert data.shape == (1, 10, 10)
    assert data.labels is None
    assert open_source(str(tmp_path)).load("train", Form(None, 3)).shape == (3, 10, 10)


def test_pictures_are_cropped_to_the_central_square_and_resized(tmp_path: Path) -> None:
    wide = Image.new("L", (30, 10), 0)
    wide.paste(255, (10, 0, 20, 10))
    wide.save(tmp_path / "wide.png")
    data = open_source(str(tmp_path)).load("train", Form(5, None))
    assert data.images.shape == (1, 1, 5, 5)
    assert data.images[..., 1:-1].min() == 255, "only the white centre is left"
    assert data.images.min() > 200, "Pillow's filter reads a little over the edge of the crop"


def test_modes_become_gray_or_rgb(tmp_path: Path) -> None:
    sixteen_bits = np.array([[65535, 0], [300, 257 * 100]], np.uint16).repeat(2, 0).repeat(2, 1)
    Image.fromarray(sixteen_bits).save(tmp_path / "a16.png")
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "b-transparent.png")
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "c.jpg", quality=100)
    Image.new("P", (4, 4)).save(tmp_path / "d.png")
    data = open_source(str(tmp_path)).load("train", Form(None, 3))
    assert data.images[0].unique().tolist() == [0, 1, 100, 255], "16 bits are divided by 257"
    assert data.images[1].unique().tolist() == [255], "transparency lies over white"
    assert data.images[2, 0].min() > 240
    assert data.images[2, 1:].max() < 15


def test_a_picture_turned_by_its_camera_is_turned_upright(tmp_path: Path) -> None:
    picture = Image.new("L", (8, 8), 0)
    picture.paste(255, (0, 0, 8, 4))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    picture.save(tmp_path / "turned.png", exif=exif)
    on_its_side = Image.Exif()
    on_its_side[0x0112] = 6
    Image.new("L", (9, 5)).save(tmp_path.parent / "lying.png", exif=on_its_side)
    assert header((tmp_path.parent / "lying.png").read_bytes(), "lying").size == (5, 9)
    data = open_source(str(tmp_path)).load("train", Form())
    assert data.images[0, 0, :4].max() == 0
    assert data.images[0, 0, 4:].min() == 255


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no pictures"):
        open_source(str(tmp_path)).load("train", Form())
    with pytest.raises(UserError, match="no such folder"):
        open_source("folder:missing").load("train", Form())
    save_pictures(tmp_path, ["a.png"], size=(4, 4))
    save_pictures(tmp_path, ["b.png"], size=(5, 5))
    with pytest.raises(UserError, match="image_size=64"):
        open_source(str(tmp_path)).load("train", Form())
    survey = open_source(str(tmp_path)).survey()
    assert survey.form == Form(4, 3)
    assert describe(survey, "x")["sizes"] == "2 different ones, 4 x 4 to 5 x 5 pixels, most often 4 x 4 (1)"
    (tmp_path / "c.jpg").write_text("text")
    assert "c.jpg cannot be read" in open_source(str(tmp_path)).survey().broken[0]
    with pytest.raises(UserError, match=r"c\.jpg cannot be read"):
        open_source(str(tmp_path)).load("train", Form(4, 3))


def test_unknown_sources() -> None:
    with pytest.raises(UserError, match="did you mean 'mnist'"):
        open_source("mnits")
    with pytest.raises(UserError, match="no such file or folder"):
        open_source("./missing")
    for text in ("", "folder:"):
        with pytest.raises(UserError, match="names nothing"):
            open_source(text)


def test_a_name_wins_over_a_folder_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "digits").mkdir()
    assert open_source("digits").name == "digits"
    assert open_source("folder:digits").text == f"folder:{tmp_path / 'digits'}"


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    save_pictures(tmp_path, ["cat/a.png", "dog/b.png", ".trash/c.png", "dog/.d.png"])
    assert open_source(str(tmp_path)).load("train", Form()).class_names == ("cat", "dog")


def test_what_is_no_picture_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_pictures(tmp_path, ["bomb.png"], size=(100, 100))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UserError, match=r"bomb\.png cannot be read"):
        open_source(str(tmp_path)).load("train", Form())
    monkeypatch.undo()
    Image.new("F", (100, 100)).save(tmp_path / "bomb.tif")
    with pytest.raises(UserError, match="32-bit"):
        open_source(str(tmp_path)).load("train", Form(None, 1))


def test_resizing_and_channels() -> None:
    data = ImageData(torch.full((2, 1, 8, 8), 100, dtype=torch.uint8), "flat")
    assert data.resized(Form(16, 3)).images.unique().tolist() == [100]
    assert data.resized(Form(16, 3)).shape == (3, 16, 16)
    colors = ImageData(torch.tensor([255, 0, 0], dtype=torch.uint8).view(1, 3, 1, 1), "red")
    assert colors.resized(Form(None, 1)).images.flatten().tolist() == [76]
    wide = torch.zeros(1, 1, 4, 8, dtype=torch.uint8)
    wide[..., 2:6] = 200
    assert ImageData(wide, "wide").resized(Form(2, None)).images.unique().tolist() == [200], "the central square"


def test_the_fingerprint_knows_pixels_shape_and_labels() -> None:
    images = random_images(4)
    base = ImageData(images, "a").fingerprint
    assert ImageData(images.clone(), "another name").fingerprint == base
    changed = images.clone()
    changed[0, 0, 0, 0] ^= 1
    labels = torch.zeros(4, dtype=torch.int64)
    others = [ImageData(changed, "a"), ImageData(images.view(4, 1, 4, 16), "a"), ImageData(images, "a", labels=labels)]
    assert len({base, *(other.fingerprint for other in others)}) == 4


def test_batches_pass_over_everything_in_a_new_order_each_time() -> None:
    images = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1)
    batches = IndexedBatches(ImageData(images, "ten", labels=torch.arange(10)), 3, Stream(0), CPU)
    assert batches.per_epoch == 3
    passes = [torch.cat([batches[3 * epoch + i].labels for i in range(3)]).tolist() for epoch in range(2)]
    assert all(len(set(seen)) == 9 for seen in passes), "no image twice, the partial batch dropped"
    assert passes[0] != passes[1]
    again = IndexedBatches(ImageData(images, "ten", labels=torch.arange(10)), 3, Stream(0), CPU)
    assert torch.equal(again[4].images, batches[4].images), "a batch depends on its number only"


def test_flip_mirrors_about_half() -> None:
    images = torch.zeros(400, 1, 1, 2, dtype=torch.uint8)
    images[..., 0] = 255
    batch = IndexedBatches(ImageData(images, "left"), 400, Stream(0), CPU, flip=True)[0]
    mirrored = (batch.images[:, 0, 0, 1] == 1.0).float().mean()
    assert 0.4 < mirrored < 0.6


def test_a_batch_larger_than_the_data() -> None:
    with pytest.raises(UserError, match="batch_size=5 is larger than the data"):
        IndexedBatches(ImageData(random_images(4), "four"), 5, Stream(0), CPU)


def test_inspection_finds_what_is_wrong() -> None:
    images = random_images(20)
    images[1] = images[0]
    images[2] = 7
    data = ImageData(images, "odd", labels=torch.tensor([0] * 18 + [1] * 2), class_names=("many", "few"))
    survey = survey_of_images(data)
    found = "\n".join(problems(survey))
    assert "only 20 images" in found
    assert "1 images are exact copies" in found
    assert "1 of those looked at have one color only" in found
    assert "uneven" in found
    assert describe(survey, "odd")["classes"] == "many (18), few (2)"
    digits = open_source("digits").load("all", Form())
    assert problems(survey_of_images(digits)) == []
