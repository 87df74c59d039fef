"""The runs that a page may show."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

import twoplayer as tp
from twoplayer.core.errors import UserError
from twoplayer.explore.library import Library, Log


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
