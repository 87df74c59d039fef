"""Pictures that are decoded for each batch: the same batches, in bounded memory, from any of them on."""

from __future__ import annotations

import tarfile
import time
from itertools import islice
from pathlib import Path
from statistics import median

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from tests.conftest import TINY, random_images
from tests.unit.test_archives import encoded
from tests.unit.test_prepared import own_cache  # noqa: F401  (a fixture)
from twoplayer import session
from twoplayer.core.batch import to_uint8
from twoplayer.core.errors import UserError
from twoplayer.core.ranks import Ranks
from twoplayer.core.rng import Stream
from twoplayer.data import encoded as encoded_module
from twoplayer.data import lanes, streamed
from twoplayer.data.batches import Batches, IndexedBatches, StreamedBatches
from twoplayer.data.collection import Group
from twoplayer.data.form import Form
from twoplayer.data.hub import _label_of, content_of
from twoplayer.data.images import ImageData
from twoplayer.data.source import Wanted, open_source
from twoplayer.data.streamed import OnHost
from twoplayer.data.tables import class_ids
from twoplayer.recipes.load import load_recipe, parse_overrides

CPU = torch.device("cpu")
PICTURES = random_images(40, (3, 6, 6))
FORM = Form(6, 3)


def write_folder(place: Path) -> str:
    place.mkdir()
    for number, image in enumerate(PICTURES):
        (place / f"{number:02}.png").write_bytes(encoded(image))
    return str(place)


def write_tar(place: Path) -> str:
    write_folder(place)
    with tarfile.open(f"{place}.tar", "w") as archive:
        archive.add(place, "pictures")
    return f"{place}.tar"


def write_parquet(place: Path, pictures: Tensor = PICTURES, rows: int = 7) -> str:
    table = pa.table({"image": [encoded(each) for each in pictures], "label": list(range(len(pictures)))})
    pq.write_table(table, f"{place}.parquet", row_group_size=rows)
    return f"{place}.parquet"


WRITERS = {"folder": write_folder, "tar": write_tar, "parquet": write_parquet}


def batches_of(data: ImageData, size: int = 8, **how: object) -> Batches:
    if data.streamed is None:
        return IndexedBatches(data, size, Stream(0), CPU, **how)  # type: ignore[arg-type]
    return StreamedBatches(data, data.streamed, size, Stream(0), CPU, **how)  # type: ignore[arg-type]


def as_rows(images: Tensor) -> list[bytes]:
    return [image.numpy().tobytes() for image in images]


@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_streamed_batches_are_those_of_prepared_pictures(kind: str, tmp_path: Path) -> None:
    source = open_source(WRITERS[kind](tmp_path / "pictures"))
    prepared, found = (source.images(Wanted(form=FORM, cache=cache)) for cache in ("auto", "none"))
    assert prepared.streamed is None
    assert found.streamed is not None
    assert torch.equal(prepared.images, found.images)
    for flip, halvings in ((False, 0), (True, 1)):
        one, other = (batches_of(data.halved(halvings), flip=flip) for data in (prepared, found))
        assert one.per_epoch == other.per_epoch == 5
        for number in (0, 1, 2, 9, 10, 3):
            assert torch.equal(one[number].images, other[number].images)
        assert torch.equal(one.some(50, Stream(3)).images, other.some(50, Stream(3)).images)


@pytest.mark.parametrize("buffer", [4096, 10])
def test_a_pass_over_row_groups_has_every_picture_once(buffer: int, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(lanes, "BUFFER", buffer)
    data = open_source(write_parquet(tmp_path / "a")).images(Wanted(form=FORM, cache="none"))
    batches = batches_of(data)
    passes = []
    for epoch in range(2):
        seen = [batches[number] for number in range(5 * epoch, 5 * epoch + 5)]
        passes.append([label for batch in seen for label in batch.labels.tolist()])  # type: ignore[union-attr]
        assert sorted(passes[-1]) == list(range(40))
        for batch in seen:
            assert as_rows(to_uint8(batch.images)) == as_rows(PICTURES[batch.labels])
    assert passes[0] != passes[1]
    assert passes[0] != sorted(passes[0])


@pytest.mark.parametrize("kind", list(WRITERS))
def test_any_batch_is_where_a_run_can_go_on(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "BUFFER", 10)
    data = open_source(WRITERS[kind](tmp_path / "a")).images(Wanted(form=FORM, cache="none"))
    through = batches_of(data, 6)
    all_of_them = [through[number].images for number in range(15)]
    for number in (0, 3, 5, 6, 11):
        begun = batches_of(data, 6)
        assert all(torch.equal(begun[number + k].images, all_of_them[number + k]) for k in range(3))


def test_row_groups_are_read_once_and_not_before_they_are_needed(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(lanes, "BUFFER", 10)
    monkeypatch.setattr(encoded_module, "SAMPLE", 1)
    data = open_source(write_parquet(tmp_path / "a")).images(Wanted(form=FORM, cache="none"))
    assert data.streamed is not None
    collection = data.streamed.collection  # type: ignore[attr-defined]
    read: list[int] = []
    inner = type(collection).read
    monkeypatch.setattr(type(collection), "read", lambda self, number: read.append(number) or inner(self, number))
    tasks = data.streamed.batches(Stream(0), 3, 7)
    next(tasks)()
    assert len(read) <= 2 * 7
    list(tasks)
    assert 19 <= len(read) == len(set(read)) <= 19 + 7  # none of the groups before the batch


def test_parts_of_row_groups(tmp_path: Path) -> None:
    data = open_source(write_parquet(tmp_path / "a")).images(Wanted(form=FORM, cache="none", limit=20))
    batch = batches_of(data, 20)[0]
    assert data.count == 20
    assert len(set(batch.labels.tolist())) == 20  # type: ignore[union-attr]
    assert as_rows(to_uint8(batch.images)) == as_rows(PICTURES[batch.labels])


def test_figures_come_from_some_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoded_module, "SAMPLE", 10)
    monkeypatch.setattr(streamed, "SAMPLED", 5)
    for kind, write in WRITERS.items():
        data = open_source(write(tmp_path / kind)).images(Wanted(form=FORM, cache="none"))
        assert (len(data), data.count) == (10, 40)
        assert set(as_rows(data.images)) < set(as_rows(PICTURES))
        assert any("10 of the 40" in note for note in data.notes)
        assert batches_of(data).per_epoch == 5
        assert len(set(as_rows(to_uint8(batches_of(data).some(10, Stream(0)).images)))) == 10


def test_what_changed_has_another_fingerprint(tmp_path: Path) -> None:
    source = open_source(write_folder(tmp_path / "a"))
    wanted = Wanted(form=FORM, cache="none")
    first = source.images(wanted)
    for path in (tmp_path / "a").iterdir():
        path.touch()
    assert first.fingerprint == source.images(wanted).fingerprint, "a copy of the same pictures is the same data"
    assert first.fingerprint != first.halved(1).fingerprint
    (tmp_path / "a" / "00.png").write_bytes(encoded(PICTURES[1] // 2))
    assert first.fingerprint != source.images(wanted).fingerprint


def test_what_cannot_be_streamed_is_said(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "a")
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.add(folder, "a")
    for source, wanted, words in (
        (folder, Wanted(cache="none"), "data.image_size and data.channels"),
        (folder, Wanted(form=FORM, cache="none", bad_images="skip"), "bad_images=skip"),
        (f"{folder}.tar.gz", Wanted(form=FORM, cache="none"), "from its start only"),
    ):
        with pytest.raises(UserError, match=words):
            open_source(source).images(wanted)
    data = open_source(write_parquet(tmp_path / "b")).images(Wanted(form=FORM, cache="none"))
    recipe = load_recipe("digits-semi-supervised", parse_overrides(["batch_size=4"]))
    with pytest.raises(UserError, match="labeled_per_class"):
        session.batches_of(recipe, data, CPU)


def test_a_broken_picture_is_named_when_it_comes(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "a")
    data = open_source(folder).images(Wanted(form=FORM, cache="none"))
    (tmp_path / "a" / "07.png").write_bytes(b"text")
    batches = batches_of(data)
    with pytest.raises(UserError, match=r"07\.png"):
        [batches[number] for number in range(5)]
    batches.close()


def test_a_small_device_changes_nothing() -> None:
    labels = torch.arange(40) % 4
    data = ImageData(PICTURES, "forty", "all", labels, tuple("abcd"))
    for how in ({}, {"flip": True, "condition_on_coarse": True}, {"labeled_per_class": 3}):
        resident = IndexedBatches(data, 8, Stream(0), CPU, **how)  # type: ignore[arg-type]
        on_host = StreamedBatches(data, OnHost(data), 8, Stream(0), CPU, **how)  # type: ignore[arg-type]
        for number in (0, 1, 7, 4):
            one, other = resident[number], on_host[number]
            assert torch.equal(one.images, other.images)
            assert torch.equal(one.labels, other.labels)  # type: ignore[arg-type]
            if one.condition is not None:
                assert torch.equal(one.condition, other.condition)  # type: ignore[arg-type]
            if one.labeled is not None:
                assert torch.equal(one.labeled.images, other.labeled.images)  # type: ignore[union-attr]
        assert torch.equal(resident.some(5, Stream(1)).images, on_host.some(5, Stream(1)).images)
        on_host.close()


def test_what_fits_on_a_device_is_kept_there(monkeypatch: pytest.MonkeyPatch) -> None:
    images, gpu = torch.zeros(100, 1, 10, 10, dtype=torch.uint8), torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (20_000, 40_000))
    assert session.fits_on(gpu, images)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (19_999, 40_000))
    assert not session.fits_on(gpu, images)
    assert session.fits_on(CPU, images)


def test_the_time_of_a_step_does_not_grow_with_the_data() -> None:
    """1,000 against 1,000,000 images; the order of a pass is drawn once, with its first batch."""
    seconds: dict[int, float] = {}
    for n in (1_000, 1_000_000):
        batches = IndexedBatches(ImageData(torch.zeros(n, 1, 8, 8, dtype=torch.uint8), "many"), 64, Stream(0), CPU)
        batches[0]
        times = []
        for number in range(200):
            begun = time.perf_counter()
            batches[1 + number % (batches.per_epoch - 1)]
            times.append(time.perf_counter() - begun)
        seconds[n] = median(times)
    assert seconds[1_000_000] < 3 * seconds[1_000]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_data(tmp_path: Path) -> None:
    """No more pictures are in memory than those of a block and a few batches, however many a file has."""
    one = encoded(PICTURES[0])
    n, most = 20_000, 0
    path = tmp_path / "many.parquet"
    pq.write_table(pa.table({"image": [one] * n}), path, row_group_size=1_000)
    source = Counting(open_source(str(path)).images(Wanted(form=FORM, cache="none")).streamed)
    for task in islice(source.inner.batches(Stream(0), 0, 100), 150):
        source.given += len(task().images)
        most = max(most, source.read - source.given)
    assert 0 < most <= lanes.BUFFER


class Counting:
    """How many pictures were read, and how many of them were given on."""

    def __init__(self, inner) -> None:  # type: ignore[no-untyped-def]
        self.inner, self.read, self.given = inner, 0, 0
        read = inner.collection.read

        def counted(number: int) -> bytes:
            self.read += 1
            return bytes(read(number))

        inner.collection.read = counted


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A set in the hub's layout, whose card says how many pictures it has."""
    import datasets

    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0)  # else 5 s for each pass
    kinds = datasets.ClassLabel(num_classes=40)
    columns = {"image": [{"bytes": encoded(each), "path": None} for each in PICTURES], "label": list(range(40))}
    rows = datasets.Dataset.from_dict(columns, datasets.Features({"image": datasets.Image(), "label": kinds}))
    (tmp_path / "set" / "data").mkdir(parents=True)
    datasets.disable_progress_bars()
    rows.to_parquet(str(tmp_path / "set" / "data" / "train-00000-of-00001.parquet"))
    card = "---\ndataset_info:\n  splits:\n  - name: train\n    num_bytes: 1\n    num_examples: 40\n---\n"
    (tmp_path / "set" / "README.md").write_text(card)
    return tmp_path / "set"


def test_a_set_on_the_hub_is_streamed(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, wanted = open_source(f"hub:{repository}"), Wanted(form=FORM, cache="none")
    monkeypatch.setattr(encoded_module, "SAMPLE", 10)
    data = source.images(wanted)
    assert (data.count, len(data.class_names)) == (40, 40)
    assert data.fingerprint == source.images(wanted).fingerprint
    through = batches_of(data, 6)
    found = [through[number] for number in range(12)]
    labels = [label for batch in found[:6] for label in batch.labels.tolist()]  # type: ignore[union-attr]
    assert len(set(labels)) == 36
    assert as_rows(to_uint8(found[7].images)) == as_rows(PICTURES[found[7].labels])
    begun = batches_of(data, 6)
    assert all(torch.equal(begun[number].images, found[number].images) for number in (3, 4, 8))
    assert torch.equal(begun.part(9, Ranks(1, 2)).images, found[9].images[3:])
    assert source.images(Wanted(form=FORM, cache="none", limit=12)).count == 12


def test_a_set_without_a_test_split_is_trained_on(repository: Path, tmp_path: Path) -> None:
    from twoplayer.cli.main import run

    words = ["digits", "data.split=train", "data.image_size=8", "data.channels=1", *TINY]
    assert run(["train", *words, "--data", f"hub:{repository}", "--quiet", "--out", str(tmp_path / "run")]) == 0
    assert not open_source(f"hub:{repository}").has_test()


def test_which_columns_of_a_set_are_class_ids() -> None:
    import datasets

    kinds = {"image": datasets.Image(), "label": datasets.Value("string"), "labels": datasets.ClassLabel(names=["a"])}
    assert _label_of(kinds) == "labels"
    assert _label_of({"image": datasets.Image(), "label": datasets.Value("string")}) is None
    assert class_ids([0, 2, 1], "set").tolist() == [0, 2, 1]
    for wrong, said in ((None, "an empty cell"), (-1, "-1"), (10**9, "1000000000")):
        with pytest.raises(UserError, match=f"not {said}"):
            class_ids([0, wrong], "set")


def test_files_beside_a_set_are_not_its_pictures(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(encoded(PICTURES[0]))
    with pytest.raises(UserError, match="did not come with the set"):
        content_of({"bytes": None, "path": str(secret)}, "row 0", (tmp_path / "set",))
    assert content_of({"bytes": None, "path": str(secret)}, "row 0", (tmp_path,)) == secret.read_bytes()


def test_no_more_is_read_ahead_than_a_few_batches(tmp_path: Path) -> None:
    source = Counting(open_source(write_folder(tmp_path / "a")).images(Wanted(form=FORM, cache="none")).streamed)
    data = ImageData(PICTURES, "forty")
    batches = StreamedBatches(data, source.inner, 2, Stream(0), CPU)
    batches[0]
    batches.close()
    assert source.read <= 2 * (2 * batches.workers + 1)


def test_windows_are_bounded_in_bytes() -> None:
    groups = [Group(range(10 * k, 10 * k + 10), 2**27) for k in range(6)]
    assert [len(window) for window in lanes.windows(groups, 1)] == [2, 2, 2]
    large = [Group(range(k, k + 1), 2**30) for k in range(3)]
    assert [len(window) for window in lanes.windows(large, 1)] == [1, 1, 1]


def test_a_set_that_does_not_say_how_much_it_has(repository: Path) -> None:
    card = repository / "README.md"
    card.write_text(card.read_text().replace("40", "50"))
    batches = batches_of(open_source(f"hub:{repository}").images(Wanted(form=FORM, cache="none")), 10)
    with pytest.raises(UserError, match="fewer than the 50"):
        [batches[number] for number in range(5)]
    card.unlink()
    with pytest.raises(UserError, match="does not say how many"):
        open_source(f"hub:{repository}").images(Wanted(form=FORM, cache="none"))
