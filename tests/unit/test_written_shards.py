"""Pictures written as shards: the same bytes whoever writes them, whole or not there, readable as a data source."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import twoplayer as tp
from tests.conftest import untrained
from tests.ranks_together import SECONDS, free_port, together
from twoplayer.cli.main import run
from twoplayer.core.errors import UserError
from twoplayer.core.ranks import ALONE, Ranks
from twoplayer.data.form import Form
from twoplayer.data.source import open_source
from twoplayer.drawing import Exported
from twoplayer.recipes.load import load_recipe
from twoplayer.runs.folder import locked
from twoplayer.runs.shards import MANIFEST, Plan, write_shards
from twoplayer.runs.snapshot import write_snapshot

N, PER_SHARD = 230, 100
"""Shards that begin in the middle of the blocks in which pictures are drawn, and a shorter last one."""


def files_of(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in sorted(folder.iterdir()) if not each.name.startswith(".")}


def pictures_of(folder: Path) -> np.ndarray:
    """All pictures, read with nothing of ours: uint8 [N, H, W]."""
    found = []
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as archive:
            for entry in archive:
                assert (entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname) == (0, 0, 0, "", "")
                if entry.name.endswith(".png"):
                    assert entry.name == f"{len(found):09d}.png"
                    content = archive.extractfile(entry)
                    assert content is not None
                    found.append(np.asarray(Image.open(io.BytesIO(content.read()))))
    return np.stack(found)


@pytest.fixture(scope="module")
def conditional(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A generator of ten classes that was never trained."""
    folder = tmp_path_factory.mktemp("generator")
    write_snapshot(folder, *untrained(load_recipe("digits-cgan")))
    return Exported(folder)


@pytest.fixture(scope="module")
def whole(tiny_run: tp.Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process writes. Tests read it, none writes to it."""
    folder = tmp_path_factory.mktemp("shards") / "whole"
    tiny_run.write_shards(folder, N, per_shard=PER_SHARD)
    return folder


def test_shards_hold_the_pictures_of_sample(tiny_run: tp.Run, whole: Path) -> None:
    assert [name for name in files_of(whole) if name != MANIFEST] == [f"shard-{i:05d}.tar" for i in range(3)]
    assert np.array_equal(pictures_of(whole), tiny_run.sample(N)[:, 0].numpy())


@pytest.mark.parametrize("text", ["shards:{}", "{}/shard-{{00000..00002}}.tar"])
def test_shards_are_a_data_source(text: str, tiny_run: tp.Run, whole: Path) -> None:
    data = open_source(text.format(whole)).load("train", Form())
    assert torch.equal(data.images, tiny_run.sample(N))
    assert data.labels is None
    assert open_source(open_source(text.format(whole)).text) == open_source(data.source)


@pytest.mark.parametrize("count", [2, 4])
def test_the_number_of_processes_changes_no_byte(count: int, tiny_run: tp.Run, whole: Path, tmp_path: Path) -> None:
    def work(ranks: Ranks) -> None:
        tiny_run.write_shards(tmp_path / "out", N, per_shard=PER_SHARD, ranks=ranks)

    together(count, tmp_path / "ranks", work)
    assert files_of(tmp_path / "out") == files_of(whole)


def test_each_shard_is_written_by_one_rank(tmp_path: Path) -> None:
    def work(ranks: Ranks) -> list[range]:
        drawn = []

        def draw(numbers: range) -> Iterator[Tensor]:
            drawn.append(numbers)
            yield torch.zeros(len(numbers), 1, 2, 2, dtype=torch.uint8)

        write_shards(tmp_path / "out", plan(n=11, per_shard=2), draw, ranks)
        return drawn

    parts = together(2, tmp_path / "ranks", work)
    assert [len(part) for part in parts] == [3, 3]
    assert sorted(number for part in parts for numbers in part for number in numbers) == list(range(11))


def plan(**changes: Any) -> Plan:
    return Plan(**{"n": 6, "image_shape": (1, 2, 2), "recipe": "none", "step": 1, "generator_sha256": "0"} | changes)


def blank(numbers: range) -> Iterator[Tensor]:
    yield torch.zeros(len(numbers), 1, 2, 2, dtype=torch.uint8)


def test_only_what_is_missing_is_written_again(tiny_run: tp.Run, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    tiny_run.write_shards(out, N, per_shard=PER_SHARD)
    kept = (out / "shard-00000.tar").stat()  # a new file would have another number and time
    (out / "shard-00001.tar").unlink()
    (out / ".shard-00001.tar.77.tmp").write_bytes(b"what a killed process leaves")
    heard: list[tuple[int, int]] = []
    tiny_run.write_shards(out, N, per_shard=PER_SHARD, told=lambda done, n: heard.append((done, n)))
    assert files_of(out) == files_of(whole)
    now = (out / "shard-00000.tar").stat()
    assert (now.st_ino, now.st_mtime_ns) == (kept.st_ino, kept.st_mtime_ns)
    assert heard[-1] == (PER_SHARD, PER_SHARD)
    assert not list(out.glob(".shard*"))


def test_a_shard_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    def broken(numbers: range) -> Iterator[Tensor]:
        yield from blank(numbers)
        if numbers.start:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        write_shards(tmp_path / "out", plan(per_shard=2), broken)
    assert sorted(files_of(tmp_path / "out")) == [MANIFEST, "shard-00000.tar"]
    write_shards(tmp_path / "out", plan(per_shard=2), blank)
    assert len(files_of(tmp_path / "out")) == 4


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"n": 7}, "n is 6, not 7"),
        ({"seed": 1}, "seed is 0, not 1"),
        ({"per_shard": 5}, "per_shard is 10000, not 5"),
        ({"best_of": 2, "truncation": 0.5}, "best_of is 1, not 2; truncation is 1.0, not 0.5"),
        ({"labels": (1,)}, r"labels is \[\], not \[1\]"),
        ({"generator_sha256": "f" * 64}, r"generator_sha256 is \"0\", not \"f{11}\.\.\."),
        ({"device": "cuda"}, 'device is "cpu", not "cuda"'),
    ],
)
def test_shards_of_something_else_are_refused(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    write_shards(tmp_path / "out", plan(), blank)
    before = files_of(tmp_path / "out")
    with pytest.raises(UserError, match=f"holds other shards .*{said}"):
        write_shards(tmp_path / "out", plan(**changes), blank)
    assert files_of(tmp_path / "out") == before


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    with pytest.raises(UserError, match="is not empty"):
        write_shards(tmp_path / "full", plan(), blank)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / MANIFEST).write_text("[1")
    with pytest.raises(UserError, match="is damaged"):
        write_shards(tmp_path / "damaged", plan(), blank)
    with pytest.raises(UserError, match="per_shard=0"):
        write_shards(tmp_path / "none", plan(per_shard=0), blank)
    with pytest.raises(UserError, match="makes 500,000 shards"):
        write_shards(tmp_path / "none", plan(n=1_000_000, per_shard=2), blank)


def test_two_jobs_do_not_write_to_one_folder(tmp_path: Path) -> None:
    with locked(tmp_path / "out"), pytest.raises(UserError, match="is being written by another process"):
        write_shards(tmp_path / "out", plan(), blank)


class Elsewhere(Ranks):
    """A rank on a machine that does not share the folder."""

    def told(self, value: Any) -> Any:
        return [0]


def test_a_folder_that_not_all_share_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="rank 1 does not see"):
        write_shards(tmp_path / "out", plan(), blank, Elsewhere(1, 2))


def test_classes_stand_beside_the_pictures(conditional: Exported, tmp_path: Path) -> None:
    conditional.write_shards(tmp_path / "out", 150, labels=[7, 3, 5], per_shard=70)
    data = open_source(f"shards:{tmp_path / 'out'}").load("train", Form())
    assert data.labels is not None
    assert data.labels.tolist() == [7, 3, 5] * 50
    assert torch.equal(data.images, conditional.sample(150, labels=[7, 3, 5]))
    with tarfile.open(tmp_path / "out" / "shard-00001.tar") as archive:
        assert archive.getnames()[:2] == ["000000070.cls", "000000070.png"]


def test_best_of_and_truncation(tiny_run: tp.Run, conditional: Exported, tmp_path: Path) -> None:
    tiny_run.write_shards(tmp_path / "best", 150, best_of=3, per_shard=100)
    best = pictures_of(tmp_path / "best")
    judged = [
        tiny_run.discriminator(torch.from_numpy(each)[:, None] / 127.5 - 1.0).logits
        for each in (best[:100], best[100:])
    ]
    for logits in judged:  # of each shard, best first
        assert (logits.diff() <= 1e-4).all()
    plain = tiny_run.discriminator(tiny_run.sample(150) / 127.5 - 1.0).logits
    assert torch.cat(judged).mean() > plain.mean()
    tiny_run.write_shards(tmp_path / "near", 70, truncation=0.5)
    assert np.array_equal(pictures_of(tmp_path / "near"), tiny_run.sample(70, truncation=0.5)[:, 0].numpy())
    with pytest.raises(UserError, match="without the discriminator"):
        conditional.write_shards(tmp_path / "alone", 5, best_of=2)
    assert not (tmp_path / "alone").exists()


def test_threads_change_no_byte(tiny_run: tp.Run, whole: Path, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        tiny_run.write_shards(tmp_path / "out", N, per_shard=PER_SHARD, ranks=ALONE)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
    assert files_of(tmp_path / "out") == files_of(whole)


def test_the_command_line_writes_shards(
    tiny_run: tp.Run, whole: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["sample", str(tiny_run.path), "-n", str(N), "--per-shard", "100", "--out", "shards:many"]) == 0
    assert capsys.readouterr().out == "shards:many\n"
    assert files_of(Path("many")) == files_of(whole)
    assert run(["sample", str(tiny_run.path), "-n", "9", "--out", "shards:many"]) == 2
    assert "n is 230, not 9" in capsys.readouterr().err
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run(["sample", str(tiny_run.path), "--out", "folder"]) == 2
    assert "several processes draw together with --out shards:FOLDER only" in capsys.readouterr().err


def launched(count: int, words: list[str]) -> list[subprocess.Popen[str]]:
    """`twoplayer` in several processes, as a launcher starts them."""
    common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return [
        subprocess.Popen(
            [sys.executable, "-m", "twoplayer", *words],
            env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]


@pytest.mark.gpu
def test_a_gpu_writes_shards(tiny_run: tp.Run, tmp_path: Path) -> None:
    on_gpu = tp.load_generator(tiny_run.path, "cuda")
    for name in ("one", "other"):
        on_gpu.write_shards(tmp_path / name, 150, best_of=2, per_shard=100)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "other")
    assert json.loads((tmp_path / "one" / MANIFEST).read_text())["device"] == "cuda"
    assert (on_gpu.sample(150).int() - tiny_run.sample(150).int()).abs().max() <= 2  # of 255


@pytest.mark.slow
def test_a_killed_process_ends_the_others_and_the_rest_is_written_later(tiny_run: tp.Run, tmp_path: Path) -> None:
    words = ["sample", str(tiny_run.path), "-n", "1000000", "--per-shard", "500", "--out", f"shards:{tmp_path / 'out'}"]
    ranks = launched(2, words)
    try:
        deadline = time.monotonic() + SECONDS
        while not (tmp_path / "out" / "shard-00003.tar").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        ranks[1].send_signal(signal.SIGKILL)
        _, said = ranks[0].communicate(timeout=SECONDS)
        assert ranks[0].returncode == 1
        assert f"rank 1 (process {ranks[1].pid} on" in said
    finally:
        for rank in ranks:
            rank.kill()
            rank.communicate()
    manifest = tmp_path / "out" / MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"n": 4000}))  # what is left would take long
    for path in (tmp_path / "out").glob("*.tar"):
        if path.name > "shard-00007.tar":
            path.unlink()
    words[words.index("1000000")] = "4000"
    ranks = launched(2, words)
    said = [rank.communicate(timeout=2 * SECONDS) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], said
    assert [out for out, _ in said] == [f"shards:{tmp_path / 'out'}\n", ""]
    assert np.array_equal(pictures_of(tmp_path / "out"), tiny_run.sample(4000)[:, 0].numpy())
