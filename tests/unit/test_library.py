"""The runs that a page may show."""

from __future__ import annotations

import json
import os
import shutil
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch
from gradio.data_classes import FileData
from PIL import Image

import twoplayer as tp
from twoplayer.core.errors import UserError
from twoplayer.explore.growing import Log
from twoplayer.explore.library import MOST_LOADED, Library
from twoplayer.explore.page import Page, alone, picture_place, uploaded
from twoplayer.explore.runs import WIDTHS, row_of
from twoplayer.explore.sample import ZIPS_KEPT, zipped
from twoplayer.explore.words import say
from twoplayer.recipes.load import load_recipe, to_yaml


@pytest.fixture
def library(tmp_path: Path, tiny_run: tp.Run) -> Library:
    for name in ("a", "deep/er/b", ".hidden"):
        shutil.copytree(tiny_run.path, tmp_path / "runs" / name)
    shutil.copytree(tiny_run.path, tmp_path / "outside")
    (tmp_path / "runs" / "link").symlink_to(tmp_path / "outside")
    return Library(tmp_path / "runs")


def test_runs_are_found_below_the_root_and_nowhere_else(library: Library, tmp_path: Path) -> None:
    assert {entry.name for entry in library.entries()} == {"a", "deep/er/b"}
    for name in ("../outside", str(tmp_path / "outside"), "link", "a/../../outside", ".hidden", "", ".", "a\0"):
        with pytest.raises(UserError, match="no run"):
            library.entry(name)
    assert Library(library.root / "a").entries()[0].name == "a"


def test_what_an_entry_says_is_what_the_run_says(library: Library, tiny_run: tp.Run) -> None:
    entry = library.entry("a")
    assert entry.rows == tiny_run.metrics
    assert (entry.steps, entry.progress, entry.is_training, entry.seconds_left) == (6, 1.0, False, 0.0)
    assert entry.diagnosis.words == tiny_run.diagnose().words
    assert entry.grid is not None
    assert entry.grid.name == "step-0000006.png"


def test_a_run_that_is_deleted_meanwhile_is_said(library: Library) -> None:
    entry = library.entry("a")
    shutil.rmtree(entry.folder.path)
    assert entry.rows == []
    with pytest.raises(UserError, match="no run 'a' here any more"):
        library.entry("a")
    assert [each.name for each in library.entries()] == ["deep/er/b"]


def test_a_log_is_read_on(tmp_path: Path) -> None:
    log = Log(tmp_path / "metrics.jsonl")
    assert log.read_on() == []
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 1}) + "\n" + '{"step": 2')
        file.flush()
        assert log.read_on() == [{"step": 1}]
        file.write("}\nnonsense\n" + json.dumps({"step": 3}) + "\n")
        file.flush()
        assert [row["step"] for row in log.read_on()] == [1, 2, 3]
    other = tmp_path / "other"
    other.write_text(json.dumps({"step": 1}) + "\n" + json.dumps({"step": 9}) + "\n")
    other.replace(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in log.read_on()] == [1, 9]


def test_a_log_that_grows_is_a_training(library: Library) -> None:
    entry = library.entry("a")
    lines = entry.folder.metrics.read_text().splitlines(keepends=True)
    entry.folder.metrics.write_text("".join(lines[:1]))
    assert entry.progress == pytest.approx(2 / 6)
    assert entry.is_training
    assert (entry.seconds_left or 0) > 0
    os.utime(entry.folder.metrics, (0, 0))
    assert not entry.is_training


def test_a_run_that_its_goal_has_ended_is_finished(library: Library) -> None:
    entry = library.entry("a")
    lines = entry.folder.metrics.read_text().splitlines(keepends=True)
    entry.folder.metrics.write_text("".join(lines[:1]))
    assert entry.is_training
    reached = float(json.loads(lines[0])["loss/generator"]) + 1e-3
    goal = f"stop: {{metric: loss/generator, below: {reached}}}\n"
    entry.folder.config.write_text(entry.folder.config.read_text() + goal)
    os.utime(entry.folder.config, ns=(0, 2))
    assert (entry.progress, entry.is_training) == (1.0, False)


def test_a_run_that_is_made_longer_is_training_again(library: Library) -> None:
    entry = library.entry("a")
    assert (entry.steps, entry.progress) == (6, 1.0)
    text = entry.folder.config.read_text().replace("steps: 6", "steps: 600")
    entry.folder.config.write_text(text)
    os.utime(entry.folder.config, ns=(0, 1))
    os.utime(entry.folder.metrics)
    assert (entry.steps, entry.progress, entry.is_training) == (600, 0.01, True)


def test_a_log_in_the_place_of_another_is_another(tmp_path: Path) -> None:
    """Written into the same file, and longer: neither its number nor its size tells."""
    path = tmp_path / "metrics.jsonl"
    log = Log(path)
    for first, count in ((1, 3), (100, 9)):
        path.write_text("".join(json.dumps({"step": first + n}) + "\n" for n in range(count)))
        assert [row["step"] for row in log.read_on()] == list(range(first, first + count))


def test_runs_of_several_seeds_are_runs_and_their_folder_is_none(library: Library, tiny_run: tp.Run) -> None:
    for seed in (0, 1):
        shutil.copytree(tiny_run.path, library.root / "three" / f"seed-{seed}")
    shutil.copy(tiny_run.folder.config, library.root / "three" / "config.yaml")
    names = {entry.name for entry in library.entries()}
    assert {"three/seed-0", "three/seed-1"} <= names
    assert "three" not in names


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("samples/step-0000006.png", b""),
        ("metrics.jsonl", b'{"step": 6}\n'),
        ("metrics.jsonl", b'{"step": 6, "loss/generator": "low", "seconds": 1}\n'),
        ("evaluation.json", b"[]"),
        ("evaluation.json", b'{"fid_x": {"value": 1}}'),
        ("diverged.json", b"{}"),
        ("config.yaml", b"nonsense: ["),
    ],
)
def test_a_damaged_run_is_a_row_beside_the_others(library: Library, name: str, content: bytes) -> None:
    path = library.entry("a").folder.path / name
    path.write_bytes(content)
    entry = library.entry("a")
    row = row_of(entry)
    assert row[1] == "a"
    assert len(row) == len(row_of(library.entry("deep/er/b"))) == len(WIDTHS)
    assert row[-1]
    assert isinstance(entry.stamp, tuple)


def test_a_row_is_made_again_only_when_something_has_changed(library: Library) -> None:
    entry = library.entry("a")
    before = entry.stamp
    assert entry.stamp == before
    os.utime(entry.folder.metrics, ns=(0, 1))
    assert entry.stamp != before


def test_a_pyramid_is_at_one_of_its_levels(tmp_path: Path) -> None:
    recipe = load_recipe("digits-lapgan")
    (tmp_path / "config.yaml").write_text(to_yaml(recipe))
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 50, "seconds": 1.0, "level": 0}) + "\n")
    entry = Library(tmp_path).entries()[0]
    steps = recipe.level(0).steps
    assert entry.level == (0, len(recipe.levels))
    assert entry.steps == steps
    assert entry.progress == pytest.approx(50 / (steps or 1) / len(recipe.levels))
    assert not entry.diagnosis.examined


def test_only_some_runs_keep_what_they_loaded(library: Library, tiny_run: tp.Run) -> None:
    for number in range(MOST_LOADED + 2):
        shutil.copytree(tiny_run.path, library.root / f"run-{number}")
    entries = [library.entry(f"run-{number}") for number in range(MOST_LOADED + 2)]
    runs = []
    for entry in entries:
        library.loads(entry)
        runs.append(entry.run)
    kept = [entry.run is run for entry, run in zip(entries, runs, strict=True)]
    assert kept == [False, False, *[True] * MOST_LOADED]


def test_networks_of_a_run_are_used_by_one_visitor_at_a_time(library: Library) -> None:
    """What looks into a network hooks itself to it, and would see what another visitor asks."""
    inside, most = [], []

    @alone(Page(library, lambda key: key))  # type: ignore[arg-type]
    def used(name: object) -> None:
        inside.append(name)
        most.append(len(inside))
        time.sleep(0.02)
        inside.remove(name)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(used, ["a"] * 8))
    assert max(most) == 1


def test_an_uploaded_picture_is_decoded_by_nobody_else(library: Library, tmp_path: Path) -> None:
    entry, tell = library.entry("a"), partial(say, "en")
    place = picture_place("picture", "name", 100)
    (tmp_path / "text.png").write_text("no picture")
    Image.new("1", (5000, 5000)).save(tmp_path / "large.png")
    Image.new("LA", (30, 40), (200, 255)).save(tmp_path / "good.png")
    assert place.preprocess(None) is None
    assert place.preprocess(FileData(path=str(tmp_path / "text.png"))) == str(tmp_path / "text.png")
    assert uploaded(entry, str(tmp_path / "good.png"), tell).shape == (1, 8, 8)
    for path, why in (("text.png", "no known format"), ("large.png", "5000 by 5000"), ("gone.png", "Upload")):
        with pytest.raises(UserError, match=why):
            uploaded(entry, str(tmp_path / path), tell)


def test_zips_do_not_pile_up(tmp_path: Path) -> None:
    paths = [Path(zipped(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), tmp_path, "a.zip")) for _ in range(ZIPS_KEPT + 3)]
    assert [path.exists() for path in paths] == [False] * 3 + [True] * ZIPS_KEPT
    with zipfile.ZipFile(paths[-1]) as archive:
        assert archive.namelist() == ["000000.png", "000001.png"]
