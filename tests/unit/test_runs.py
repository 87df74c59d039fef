"""A run's folder: layout, lock, log, grids, sampling, snapshot, checkpoints, report."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import twoplayer as tp
from tests.conftest import TINY, random_images
from twoplayer.core.errors import UserError
from twoplayer.core.rng import Stream
from twoplayer.core.verdict import Verdict
from twoplayer.latents.normal import NormalLatents
from twoplayer.runs.files import write_atomically
from twoplayer.runs.folder import RunFolder, claim_next_run
from twoplayer.runs.grid import save_png, tile
from twoplayer.runs.grids import epochs_of, grids_of
from twoplayer.runs.log import append_row, cut_after, read_rows
from twoplayer.runs.report import write_report
from twoplayer.runs.sampling import BLOCK, sample, sample_best
from twoplayer.training.checkpoint import (
    DamagedCheckpoint,
    digest_of,
    prune,
    read_checkpoint,
    read_newest,
    write_checkpoint,
)


def test_the_layout_of_a_finished_run(tiny_run: tp.Run) -> None:
    for name in (
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        "report.html",
        "samples/step-0000000.png",
        "samples/step-0000003.png",
        "samples/step-0000006.png",
        "checkpoints/step-0000004/manifest.json",
        "checkpoints/step-0000006/state.safetensors",
        "generator/generator.safetensors",
        "generator/config.json",
        "generator/README.md",
    ):
        assert (tiny_run.path / name).is_file(), name
    environment = json.loads((tiny_run.path / "environment.json").read_text())
    assert environment["data"]["images"] == 1797
    assert environment["packages"]["torch"] == torch.__version__


def test_the_metrics_log(tiny_run: tp.Run) -> None:
    rows = tiny_run.metrics
    assert [row["step"] for row in rows] == [2, 4, 6]
    keys = {"step", "kimg", "epoch", "seconds", "images_per_second", "loss/generator", "loss/discriminator"}
    keys |= {"loss/real", "loss/fake", "score/generator", "score/discriminator", "penalty/gradient-penalty"}
    keys |= {"gradient/generator", "gradient/discriminator"}
    assert set(rows[0]) == keys
    assert rows[-1]["kimg"] == 6 * 16 / 1000
    assert rows[-1]["epoch"] == pytest.approx(6 / 112)
    for row in rows:
        parts = row["loss/real"] + row["loss/fake"] + row["penalty/gradient-penalty"]
        assert row["loss/discriminator"] == pytest.approx(parts, rel=1e-5)
        assert 0 <= row["score/generator"] <= 1


def test_scores_are_null_where_d_has_no_probability(tmp_path: Path) -> None:
    run = tp.train(
        "digits", *TINY, "steps=2", "objective.name=wasserstein", out=tmp_path / "w", device="cpu", quiet=True
    )
    assert run.metrics[-1]["score/generator"] is None
    assert run.metrics[-1]["score/discriminator"] is None
    assert "Scores" not in (run.path / "report.html").read_text(encoding="utf-8")


def test_the_report_is_one_file_with_everything(tiny_run: tp.Run) -> None:
    page = (tiny_run.path / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") >= 3
    for part in (
        "<h2>Samples",
        "<h3>Losses",
        "<h3>Scores",
        "<h2>Recipe",
        "learning_rate",
        "<h2>Environment",
    ):
        assert part in page, part
    assert "src='http" not in page


@pytest.mark.slow
def test_a_report_stays_small_however_many_and_large_grids_there_are(tmp_path: Path, tiny_run: tp.Run) -> None:
    shutil.copytree(tiny_run.path, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    noise = tile(random_images(16, (3, 300, 300)))
    for step in range(1, 100):
        save_png(noise if step % 10 == 0 else tile(random_images(4)), folder.sample_grid(step), {"step": step})
    write_report(folder)
    assert folder.report.stat().st_size < 5 * 2**20
    shown = grids_of(folder)
    assert len(shown) > 2
    assert (shown[0].step, shown[-1].step) == (0, 99)
    assert any(grid.picture[8:12] == b"WEBP" for grid in shown)


@pytest.mark.slow
def test_figures_stand_in_the_report_with_floor_and_provenance(tmp_path: Path, tiny_run: tp.Run) -> None:
    shutil.copytree(tiny_run.path, tmp_path / "run")
    tp.load(tmp_path / "run").evaluate(n=50, seeds=1)
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    figure = tp.load(tmp_path / "run").figures["sliced-wasserstein"]
    assert f"<th>sliced-wasserstein<td>{figure['value']:.4g}" in page
    assert f"<td>{figure['floor']:.4g}" in page
    assert f"{figure['n_fake']} fakes, {figure['n_real']} real of digits {figure['split']}, 1 seeds" in page


def test_the_recipe_in_a_report_can_be_saved_and_trained_from(tmp_path: Path, tiny_run: tp.Run) -> None:
    page = (tiny_run.path / "report.html").read_text(encoding="utf-8")
    link = page.split("href='data:text/yaml;base64,")[1].split("'")[0]
    assert base64.b64decode(link) == tiny_run.folder.config.read_bytes()


def test_epoch_grids_are_found_by_what_is_written_in_them(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.samples.mkdir()
    for step, epoch in ((0, ""), (10, "1"), (20, "2"), (30, "3"), (40, "4"), (45, "")):
        save_png(tile(random_images(1)), folder.sample_grid(step), {"epoch_ended": epoch} if epoch else {})
    assert epochs_of(folder) == {0: 0, 10: 1, 20: 2, 30: 3, 40: 4, 45: 0}


def test_steps_are_ordered_as_numbers(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for step in (9, 10, 12_345_678):
        folder.checkpoint(step).mkdir(parents=True)
    (folder.checkpoints / ".step-0000011.123.tmp").mkdir()
    assert folder.checkpoint_steps() == [9, 10, 12_345_678]


def test_a_claimed_run_is_not_given_to_another() -> None:
    names = [claim_next_run(Path("runs"), "digits").path.name for _ in range(3)]
    assert names == ["digits-001", "digits-002", "digits-003"]


def test_a_folder_is_locked_against_a_second_writer(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from twoplayer.runs.folder import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).locked(): print('mine')"
    )
    call = [sys.executable, "-c", code, str(tmp_path)]
    with RunFolder(tmp_path).locked():
        refused = subprocess.run(call, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "is being written by another process" in refused.stderr
    assert subprocess.run(call, capture_output=True, text=True, check=True).stdout == "mine\n"


def test_atomic_writing_leaves_the_old_file_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_log_forgets_what_comes_after_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for step in (10, 20, 30):
        append_row(path, {"step": step})
    with path.open("a") as file:
        file.write('{"step": 4')  # a process was killed while writing
    assert [row["step"] for row in read_rows(path)] == [10, 20, 30]
    cut_after(path, 20)
    assert path.read_text() == '{"step": 10}\n{"step": 20}\n'
    path.write_text('{"step": 10}\nnonsense\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 2 is damaged"):
        read_rows(path)


def test_a_grid_has_every_image_in_its_place(tmp_path: Path) -> None:
    images = torch.arange(6, dtype=torch.uint8).mul(40).view(6, 1, 1, 1).expand(6, 1, 64, 64)
    picture = tile(images, columns=3)
    assert picture.size == (3 * 70 + 6, 2 * 70 + 6)
    assert [picture.getpixel((70 * (i % 3) + 30, 70 * (i // 3) + 30)) for i in range(6)] == [0, 40, 80, 120, 160, 200]
    assert tile(random_images(9, (3, 8, 8))).size == (3 * 70 + 6, 3 * 70 + 6), "small images are enlarged"
    save_png(picture, tmp_path / "grid.png", {"step": 5})
    with Image.open(tmp_path / "grid.png") as reopened:
        assert reopened.info["step"] == "5"


class Flat(nn.Module):
    """A generator whose images are one tone each: the first latent."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self.batches: list[int] = []

    def forward(self, z: Tensor) -> Tensor:
        self.batches.append(len(z))
        assert not self.training
        return z[:, :1, None, None].tanh().expand(-1, 1, 2, 2)


class Tone(nn.Module):
    """A discriminator that likes bright images."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> Verdict:
        return Verdict(images.flatten(1).mean(1), images.flatten(1))


def test_a_sample_does_not_depend_on_how_many_are_drawn() -> None:
    generator, latents, stream = Flat(), NormalLatents(dim=3), Stream(4)
    many = sample(generator, latents, 3 * BLOCK + 5, stream)
    assert many.shape == (3 * BLOCK + 5, 1, 2, 2)
    for n in (1, 16, BLOCK, BLOCK + 1):
        assert torch.equal(sample(generator, latents, n, stream), many[:n])
    assert set(generator.batches) == {BLOCK}, "kernels never see another batch size"
    assert not torch.equal(sample(generator, latents, 5, Stream(5)), many[:5])


def test_best_of_keeps_what_d_finds_most_real() -> None:
    generator, latents, stream = Flat(), NormalLatents(dim=3), Stream(4)
    best = sample_best((generator, Tone()), latents, 7, 20, stream)
    tones = sample(generator, latents, 7 * 20, stream)[:, 0, 0, 0].sort(descending=True).values
    assert best[:, 0, 0, 0].tolist() == tones[:7].tolist()


def tree() -> dict[str, object]:
    return {
        "weights": {"a": torch.randn(3), 0: torch.arange(4)},
        "list": [1, None, "tensor"],
        "scalar": torch.tensor(2.5),
    }


@pytest.fixture
def saved(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.prepare("")
    for step in (9, 10):
        write_checkpoint(folder, step, {"step": step, "data": tree()}, {"fact": 1})
    return folder


def test_a_checkpoint_gives_back_what_was_put_in(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.prepare("")
    wanted = tree()
    write_checkpoint(folder, 5, wanted, {"fact": 1})
    found, facts = read_checkpoint(folder.checkpoint(5))
    assert facts == {"fact": 1}
    assert found["list"] == wanted["list"]
    assert torch.equal(found["weights"]["a"], wanted["weights"]["a"])
    assert found["weights"][0].dtype == torch.int64
    assert found["scalar"].shape == ()


@pytest.mark.parametrize("damage", ["cut", "bit", "missing", "manifest", "empty manifest", "a file"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(
    saved: RunFolder, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = saved.checkpoint(10) / "state.safetensors"
    content = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(content[:-1])
    elif damage == "bit":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "missing":
        path.unlink()
    else:
        path = saved.checkpoint(10) / "manifest.json"
        path.write_text("{}" if damage == "empty manifest" else "")
    if damage == "a file":
        shutil.rmtree(saved.checkpoint(10))
        saved.checkpoint(10).write_text("not a folder")
    found = read_newest(saved)
    assert found is not None
    assert found[0]["step"] == 9
    assert "step-0000010" in caplog.text
    with pytest.raises(DamagedCheckpoint):
        read_checkpoint(saved.checkpoint(10))
    (saved.checkpoint(9) / "manifest.json").unlink()
    with pytest.raises(UserError, match="every checkpoint"):
        read_newest(saved)


def test_no_flipped_bit_in_a_manifest_goes_unnoticed(saved: RunFolder) -> None:
    """Each of 400 bits, evenly over the file: what is read is what was written, or the checkpoint is left out."""
    path = saved.checkpoint(10) / "manifest.json"
    content = path.read_bytes()
    whole = read_checkpoint(saved.checkpoint(10))[1]
    noticed = 0
    for bit in range(0, 8 * len(content), max(8 * len(content) // 400, 1)):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bytes(changed))
        try:
            assert read_checkpoint(saved.checkpoint(10))[1] == whole
        except DamagedCheckpoint:
            noticed += 1
    assert noticed > 200


def test_a_newer_format_is_refused(saved: RunFolder) -> None:
    path = saved.checkpoint(10) / "manifest.json"
    manifest = json.loads(path.read_text()) | {"format": 2}
    manifest["self"] = digest_of({name: value for name, value in manifest.items() if name != "self"})
    path.write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="format 2; upgrade"):
        read_newest(saved)


def test_a_failed_save_leaves_the_old_checkpoints(saved: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    before = hashlib.sha256((saved.checkpoint(10) / "state.safetensors").read_bytes()).digest()
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_checkpoint(saved, 11, {"step": 11, "data": tree()}, {})
    assert sorted(path.name for path in saved.checkpoints.iterdir()) == ["step-0000009", "step-0000010"]
    assert hashlib.sha256((saved.checkpoint(10) / "state.safetensors").read_bytes()).digest() == before


def test_a_whole_checkpoint_is_left_alone_and_a_damaged_one_replaced(saved: RunFolder) -> None:
    path = saved.checkpoint(10) / "state.safetensors"
    before = path.stat().st_mtime_ns
    write_checkpoint(saved, 10, {"step": 10}, {})
    assert path.stat().st_mtime_ns == before
    path.write_bytes(b"damaged")
    write_checkpoint(saved, 10, {"step": 10}, {})
    assert read_checkpoint(saved.checkpoint(10))[0] == {"step": 10}


def test_pruning_keeps_the_newest_and_the_best(saved: RunFolder) -> None:
    for step in (20, 30):
        write_checkpoint(saved, step, {"step": step}, {})
    prune(saved, keep=1, newest_step=20, best_step=9)
    assert saved.checkpoint_steps() == [9, 20, 30], "30 is a damaged leftover and does not count"
    prune(saved, keep=1, newest_step=30, best_step=9)
    assert saved.checkpoint_steps() == [9, 30]


def test_loading_newest_and_best(tmp_path: Path) -> None:
    words = (*TINY, "steps=12", "checkpoint_every=2", "keep_checkpoints=1")
    tp.train("digits", *words, out=tmp_path / "run", device="cpu", quiet=True)
    folder = RunFolder(tmp_path / "run")
    newest = read_checkpoint(folder.checkpoint(12))[0]
    best_step = newest["best"]["step"]
    assert set(folder.checkpoint_steps()) == {best_step, 12}
    best = read_checkpoint(folder.checkpoint(best_step))[0]
    assert best["best"]["figure"] == newest["best"]["figure"], "no later checkpoint was better"
    loaded = tp.load(tmp_path / "run", checkpoint="best")
    assert torch.equal(loaded.generator.to_image.weight, best["average"]["module.to_image.weight"])
    assert torch.equal(
        tp.load(tmp_path / "run").generator.to_image.weight,
        newest["average"]["module.to_image.weight"],
    )


def test_a_damaged_snapshot_is_named(tmp_path: Path, tiny_run: tp.Run) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_run.path, copy)
    path = copy / "generator" / "generator.safetensors"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match="generator is damaged"):
        tp.load(copy).sample(1)
    path.unlink()
    with pytest.raises(UserError, match="has no generator yet"):
        tp.load(copy).sample(1)
    for content in (b"[]", b"{}", b"\xff", b'{"format": 99}'):
        (path.parent / "config.json").write_bytes(content)
        with pytest.raises(UserError, match=r"is damaged|upgrade"):
            tp.load(copy).sample(1)
