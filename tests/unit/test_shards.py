"""Streamed pictures shared by several processes: each makes its own rows, and all together what one would."""

from __future__ import annotations

import io
import tarfile
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

import twoplayer as tp
from tests.conftest import random_images
from tests.ranks_together import TRAIN, launched
from tests.unit.test_archives import encoded, tar
from tests.unit.test_prepared import own_cache  # noqa: F401  (a fixture)
from tests.unit.test_streaming import CPU, FORM, PICTURES, WRITERS, batches_of, write_parquet
from twoplayer.core.batch import Batch
from twoplayer.core.cache import cache_folder
from twoplayer.core.errors import UserError
from twoplayer.core.ranks import Ranks
from twoplayer.core.rng import Stream
from twoplayer.data import batches as batches_module
from twoplayer.data import lanes, shards, streamed
from twoplayer.data.batches import StreamedBatches
from twoplayer.data.collection import Group
from twoplayer.data.images import ImageData
from twoplayer.data.source import Wanted, open_source
from twoplayer.data.streamed import OnHost

WANTED = Wanted(form=FORM, cache="none")


def open_streamed(text: str) -> ImageData:
    data = open_source(text).images(WANTED)
    assert data.streamed is not None
    return data


def write_shards(place: Path) -> str:
    for shard in range(4):
        files = {f"{n:03}.png": encoded(PICTURES[n]) for n in range(10 * shard, 10 * shard + 10)}
        tar(Path(f"{place}-{shard}.tar"), files)
    return f"{place}-{{0..3}}.tar"


@pytest.fixture(params=[*WRITERS, "shards"])
def data(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageData:
    monkeypatch.setattr(lanes, "BUFFER", 24)
    return open_streamed((WRITERS | {"shards": write_shards})[request.param](tmp_path / "a"))


def joined(parts: list[Batch]) -> tuple[torch.Tensor, list[int]]:
    labels = [label for part in parts if part.labels is not None for label in part.labels.tolist()]
    return torch.cat([part.images for part in parts]), labels


@pytest.mark.parametrize(("count", "size"), [(1, 8), (2, 8), (4, 8), (8, 8), (3, 12), (5, 10)])
def test_ranks_make_the_rows_of_one_process(count: int, size: int, data: ImageData) -> None:
    whole = batches_of(data, size, flip=True)
    several = [batches_of(data, size, flip=True) for _ in range(count)]
    for number in (0, 1, 2, 3, 4, 7, 1):
        expected = whole[number]
        images, labels = joined([each.part(number, Ranks(rank, count)) for rank, each in enumerate(several)])
        assert torch.equal(images, expected.images)
        assert expected.labels is None or labels == expected.labels.tolist()
    for each in (whole, *several):
        each.close()


def test_each_picture_is_decoded_by_one_rank_once_in_a_pass(data: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Counter[str]] = [Counter(), Counter()]
    inner: Callable[..., object] = streamed.decode
    for rank in range(2):

        def counting(content: bytes, name: str, *rest: object, rank: int = rank) -> object:
            seen[rank][name] += 1
            return inner(content, name, *rest)

        monkeypatch.setattr(streamed, "decode", counting)
        assert data.streamed is not None
        for task in data.streamed.batches(Stream(3), 0, 8, Ranks(rank, 2).rows(8)):
            task()
    assert not seen[0].keys() & seen[1].keys()
    assert (seen[0] + seen[1]).total() == len(seen[0] | seen[1]) == 40


def test_ranks_read_their_own_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for those at the ends of lanes."""
    data = open_streamed(write_parquet(tmp_path / "a", random_images(160, (3, 6, 6)), 4))
    assert data.streamed is not None
    collection = data.streamed.collection  # type: ignore[attr-defined]
    read: list[set[int]] = [set() for _ in range(4)]
    for rank in range(4):
        inner = type(collection)._group

        def noting(self, group: int, inner=inner, rank: int = rank) -> object:  # type: ignore[no-untyped-def]
            read[rank].add(group)
            return inner(self, group)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(collection), "_group", noting)
            for _ in data.streamed.batches(Stream(0), 0, 16, Ranks(rank, 4).rows(16)):
                pass
    assert set.union(*read) == set(range(40))
    assert sum(map(len, read)) <= 40 + 3


def test_lanes_share_groups_of_any_size() -> None:
    ends = [0, 3, 4, 60, 61, 61, 90, 97]
    groups = [Group(range(start, end), 10 * (end - start)) for start, end in pairwise(ends)]
    for count in (1, 2, 8):
        found = [
            [row for each in lanes.pieces(groups, Stream(1), lane, count) for row in each.rows] for lane in range(count)
        ]
        assert [len(each) for each in found] == [(k + 1) * 97 // count - k * 97 // count for k in range(count)]
        assert sorted(row for each in found for row in each) == list(range(97))


def test_processes_of_one_machine_share_its_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = open_streamed(write_parquet(tmp_path / "a"))
    monkeypatch.setattr(batches_module, "cpu_count", lambda: 12)
    workers = []
    for count in ("1", "4", "100"):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", count)
        batches = batches_of(data)
        assert isinstance(batches, StreamedBatches)
        workers.append(batches.workers)
        batches.close()
    assert workers == [12, 3, 1]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_goes_on_from_any_batch(rank: int, data: ImageData) -> None:
    ranks = Ranks(rank, 2)
    through = batches_of(data, 8, flip=True)
    never_stopped = [through.part(number, ranks).images for number in range(12)]
    for number in (0, 3, 4, 7):
        begun = batches_of(data, 8, flip=True)
        assert all(torch.equal(begun.part(number + k, ranks).images, never_stopped[number + k]) for k in range(3))
        begun.close()
    through.close()


def test_what_does_not_fit_on_the_device_is_shared_too() -> None:
    data = ImageData(PICTURES, "forty", "all", torch.arange(40) % 4, tuple("abcd"))
    whole, *several = (
        StreamedBatches(data, OnHost(data), 8, Stream(0), CPU, flip=True, labeled_per_class=3) for _ in range(3)
    )
    for number in (0, 6):
        parts = [each.part(number, Ranks(rank, 2)) for rank, each in enumerate(several)]
        assert torch.equal(joined(parts)[0], whole[number].images)
        labeled = [part.labeled for part in parts]
        assert torch.equal(torch.cat([each.images for each in labeled]), whole[number].labeled.images)  # type: ignore[union-attr]
    for each in (whole, *several):
        each.close()


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    text = write_shards(tmp_path / "a")
    data, damaged = open_streamed(text), tmp_path / "a-2.tar"
    content = damaged.read_bytes()
    damaged.write_bytes(content[:3000])
    batches = batches_of(data)
    with pytest.raises(UserError, match=r"a-2\.tar: \d+\.png cannot be read .*a-2\.tar ends within it; copy it again"):
        [batches[number] for number in range(5)]
    batches.close()
    with pytest.raises(UserError, match=r"a-2\.tar is not a readable tar archive"):
        open_source(text).images(WANTED)
    place = content.index(b"024.png")
    damaged.write_bytes(content[:place] + bytes(8) + content[place + 8 :])
    with pytest.raises(UserError, match=r"a-2\.tar .* \(a header within it is damaged\)"):
        open_source(text).images(WANTED)
    place = content.index(b"IDAT")
    damaged.write_bytes(content[:place] + bytes(8) + content[place + 8 :])
    with pytest.raises(UserError, match=r"a-2\.tar: 020\.png cannot be read"):
        open_source(text).images(WANTED)


def test_headers_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = write_shards(tmp_path / "a")
    looked: list[str] = []
    inner = shards.headers
    monkeypatch.setattr(shards, "headers", lambda path: looked.append(path.name) or inner(path))
    first = open_streamed(text)
    assert len(looked) == 4
    again = open_streamed(text)
    assert len(looked) == 4
    assert again.fingerprint == first.fingerprint
    assert torch.equal(again.images, first.images)
    (index,) = cache_folder().glob("index/*/index.arrow")
    for damage in (b"", b"text", index.read_bytes()[:200]):
        index.write_bytes(damage)
        assert torch.equal(open_streamed(text).images, first.images)
    assert len(looked) == 16
    tar(tmp_path / "a-0.tar", {"new.png": encoded(PICTURES[0])})
    changed = open_streamed(text)
    assert (changed.count, len(looked)) == (31, 20)
    assert changed.fingerprint != first.fingerprint


def test_an_index_keeps_classes_and_names_that_are_no_utf8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [b"b/caf\xe9.png".decode("utf-8", "surrogateescape"), "a/图.png", "./b/2.png", "b/.hidden.png"]
    path = str(tar(tmp_path / "a.tar", {name: encoded(each) for name, each in zip(names, PICTURES, strict=False)}))
    for place in ("cache", "cache", "none/there"):
        monkeypatch.setenv("TWOPLAYER_CACHE", str(tmp_path / place))
        (tmp_path / "none").write_text("no folder can be made below a file")
        found = open_source(path).collection("all")
        assert list(found.names) == names[:3]
        assert list(found.names[1:]) == names[1:3]
        assert found.labels.tolist() == [1, 0, 1]
        assert found.class_names == ("a", "b")
        assert found.read(1) == encoded(PICTURES[1])


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_headers_of_every_form_are_those_that_tarfile_reads(form: int, tmp_path: Path) -> None:
    """Long names, links, folders and times that only extended headers can say, in the middle of plain ones."""
    path, draw = tmp_path / "a.tar", np.random.default_rng(0)
    kinds = {"link.png": tarfile.SYMTYPE, "hard.png": tarfile.LNKTYPE, "folder": tarfile.DIRTYPE}
    names = [
        "0.png",
        "1.cls",
        "d/" * 60 + "2.png",
        "图.png",
        *kinds,
        "3.cls",
        "late.png",
        "d" * 90 + "/" + "n" * 90 + ".png",
    ]
    for plain in (0, 3, len(names)):
        with tarfile.open(path, "w", format=form) as archive:
            for number, name in enumerate([*(f"plain-{n}.png" for n in range(plain)), *names]):
                member = tarfile.TarInfo(name)
                member.type = kinds.get(name, tarfile.REGTYPE)
                content = b"" if name in kinds else draw.bytes(1 + 300 * number)
                member.size, member.linkname = len(content), "0.png" if name in kinds else ""
                member.mtime = 1.5 if name == "late.png" and form == tarfile.PAX_FORMAT else 0
                archive.addfile(member, io.BytesIO(content))
        with tarfile.open(path) as archive:
            files = [each for each in archive if each.isfile()]
            expected = [(each.name, each.offset_data, each.size) for each in files]
            classes = [archive.extractfile(each).read() for each in files if each.name.endswith(".cls")]  # type: ignore[union-attr]
        found = list(shards.headers(path))
        assert [each[:3] for each in found] == expected
        assert [content for *_, content in found if content is not None] == [
            each for each in classes if len(each) <= 1024
        ]


@pytest.mark.slow
def test_two_processes_train_on_shards_as_one_does(tmp_path: Path) -> None:
    pictures = random_images(96, (1, 8, 8))
    for shard in range(2):
        files = {f"{n:03}.png": encoded(pictures[n]) for n in range(48 * shard, 48 * shard + 48)}
        tar(tmp_path / f"a-{shard}.tar", files)
    many = write_parquet(tmp_path / "b", pictures, 7)
    form = ["data.image_size=8", "data.channels=1", "data.cache=none", "data.flip=true"]
    words = ["digits", "batch_size=32", "generator.batch_norm=false", "log_every=5", "checkpoint_every=5", *form]
    for name, source in (("tar", f"{tmp_path}/a-{{0..1}}.tar"), ("parquet", many)):
        out = tmp_path / name
        for steps in (["steps=5", "--data", source], ["steps=10", "--resume"]):
            ranks = launched(2, [*TRAIN, *(words if "--data" in steps else []), *steps, "--out", str(out)])
            try:
                said = [rank.communicate(timeout=300) for rank in ranks]
                assert [rank.returncode for rank in ranks] == [0, 0], said
            finally:
                for rank in ranks:
                    rank.kill()
                    rank.communicate()
        tp.train(*words, "steps=10", data=source, out=tmp_path / f"{name}-alone", device="cpu", quiet=True)
        both = [tp.load(place) for place in (out, tmp_path / f"{name}-alone")]
        assert [row["step"] for row in both[0].metrics] == [5, 10]
        assert (both[0].sample(8).float() - both[1].sample(8).float()).abs().max() <= 1.0  # of 255
        losses = [[row["loss/discriminator"] for row in run.metrics] for run in both]
        assert losses[0] == pytest.approx(losses[1], abs=1e-4)
