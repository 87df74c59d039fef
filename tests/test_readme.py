"""The README's Python runs as it is printed (with fewer steps), and its commands exist."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from tests.contract.test_catalogue import assert_objective_keeps_its_laws
from twoplayer.cli.main import run
from twoplayer.recipes.load import recipe_names

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=["train", "own loop"])
def test_python_runs_as_printed(block: str, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    exec(compile(block.replace("steps=500", "steps=3"), "README.md", "exec"), names)  # our own text
    if "run" in names:
        assert names["images"].shape == (16, 1, 8, 8)
        assert Path("best.png").is_file()
    else:
        assert names["loss_d"].isfinite()


def test_every_recipe_has_its_row() -> None:
    assert re.findall(r"^\| `([\w-]+)`", README, re.MULTILINE) == recipe_names()


def test_pictures_and_figures_are_there() -> None:
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / link).exists(), link
    assert not re.search(r"[A-Z]_ROW", README)


def test_the_example_of_a_new_piece_keeps_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "pearson_example.py").write_text(block, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert_objective_keeps_its_laws(importlib.import_module("pearson_example").Pearson)


@pytest.mark.parametrize("line", re.findall(r"^twoplayer (train [^\n]*=\S+)", README, re.MULTILINE))
def test_overrides_in_the_readme_are_valid(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The recipe resolves; the missing folder after it is what stops the command."""
    words = re.split(r"\s{2,}", line)[0].split()
    words = [word for word in words if word not in ("--data", "MY_PICTURES")]
    assert run([*words, "--data", "folder:nowhere"]) == 2
    assert "nowhere: no such folder" in capsys.readouterr().err


def test_every_promise_names_a_test_that_is_there() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", page))
    there = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        there |= set(re.findall(r"^def (test_\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE))
    assert named
    assert named <= there, named - there


def test_both_languages_say_the_same_commands() -> None:
    """The text of README.zh-CN.md is its own; programs, commands, recipes, links and figures are those of README.md."""
    chinese = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")
    assert re.findall(r"```python\n(.*?)```", chinese, re.DOTALL) == BLOCKS
    commands = r"^(?:twoplayer|make|\.venv/bin/\S+|python3) [^\n]*?(?=\s{2,}|$)"
    assert re.findall(commands, chinese, re.MULTILINE) == re.findall(commands, README, re.MULTILINE)
    assert re.findall(r"^\| `([\w-]+)`", chinese, re.MULTILINE) == recipe_names()
    own = {"README.md", "README.zh-CN.md"}
    links = r"\]\(([^)#]+)\)"
    assert set(re.findall(links, chinese)) - own == set(re.findall(links, README)) - own
