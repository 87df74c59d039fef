"""The pages of docs/: all are found, links lead somewhere, Python runs as printed with fewer steps, commands exist."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

import twoplayer as tp
from twoplayer.cli.main import app
from twoplayer.cli.main import run as run_command
from twoplayer.cli.train import split_words
from twoplayer.recipes.load import AUTO, load_recipe, parse_overrides

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
GUIDES = [DOCS / "index.md", DOCS / "quick-start.md", *sorted((DOCS / "how-to").glob("*.md"))]
OWN = ("pearson", "tiny", "drift", "brightness")
"""Programs that the pages make of their Python."""


def name_of(page: Path) -> str:
    return page.relative_to(DOCS).as_posix()


def in_nav(entry: Any) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    else:
        for inner in entry.values() if isinstance(entry, dict) else entry:
            yield from in_nav(inner)


def hooks() -> Any:
    spec = importlib.util.spec_from_file_location("docs_hooks", DOCS / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    """Lines of blocks without a language, and code within a line, that call twoplayer or a page's own program."""
    text = page.read_text(encoding="utf-8")
    plain = "\n".join(re.findall(r"^```\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    outside = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    said = plain.splitlines() + [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", outside)]
    known = re.compile(rf"(?:twoplayer|python (?:{'|'.join(OWN)})\.py) ([a-z].*)")
    return [shlex.split(found[1]) for line in said if (found := known.match(line))]


def test_nav_names_every_page_and_no_other() -> None:
    nav = list(in_nav(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
    assert sorted(nav) == sorted([*map(name_of, PAGES), *hooks().VIRTUAL])


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_and_pictures_are_there(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for link in re.findall(r"\]\((?![a-z]+:|#)([^)#\s]+)", text):
        assert (page.parent / link).is_file(), link


PYTHON = [
    pytest.param(page, block, id=f"{name_of(page)}-{n}")
    for page in GUIDES
    for n, block in enumerate(blocks(page))
    if not re.search("^class |digits.onnx", block, re.MULTILINE)  # these are slow, and tested below
]


def shortened(text: str) -> str:
    """The same with a tenth of small numbers of steps and a hundredth of large ones."""

    def fewer(found: re.Match[str]) -> str:
        number = int(found[2])
        return f"{found[1]}={number // (10 if number < 100 else 100)}"

    return re.sub(r"(steps|checkpoint_every|\bn)=(\d{2,})", fewer, text)


@pytest.mark.parametrize(("page", "block"), PYTHON)
def test_python_runs_as_printed(page: Path, block: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(shortened(block), page.name, "exec"), {"__name__": "example"})  # our own text


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in GUIDES if "\nclass " in page.read_text("utf-8")], ids=name_of)
def test_own_pieces_work_as_printed(page: Path, tiny_run: tp.Run) -> None:
    """Each in a process of its own: a piece has to be there before recipes are read."""
    Path("runs").mkdir()
    Path("runs/digits-001").symlink_to(tiny_run.path)
    programs = []
    for block in blocks(page):
        name = re.search(r"python (\w+)\.py", block)
        file = Path(f"{name[1] if name else 'program'}.py")
        file.write_text(shortened(block), encoding="utf-8")
        programs += [] if name else [file.name]
    lines = re.findall(r"^(?:python|twoplayer) .*", page.read_text(encoding="utf-8"), re.MULTILINE)
    asked = [as_test(shlex.split(shortened(line))) for line in lines]
    by_file = {words[0]: [each for each in asked if each[0] in (words[0], "twoplayer")] for words in asked}
    for file, each in by_file.items():
        if file != "twoplayer":
            subprocess.run([sys.executable, "-c", IN_TURN, json.dumps(each)], check=True, capture_output=True)
    for file in programs:
        subprocess.run([sys.executable, file], check=True, capture_output=True)


IN_TURN = """
import json, runpy, sys
(file, *words), *others = json.loads(sys.argv[1])
sys.argv = [file, *words]
try:
    runpy.run_path(file, run_name="__main__")
except SystemExit as ended:
    assert not ended.code, words
from twoplayer.cli.main import run
for _, *words in others:
    assert run(words) == 0, words
"""
"""A page's commands in one process: the first runs its file, which defines the piece, the others find it there."""


def as_test(words: list[str]) -> list[str]:
    """A command without its `python`, with little to do."""
    words = words[1:] if words[0] == "python" else words
    if "train" in words and not any("steps" in word for word in words):
        words = [*words, "steps=3"]
    return [*words, "--n", "20", "--seeds", "1", "--extractor", "random-cnn"] if "evaluate" in words else words


@pytest.mark.slow
def test_the_exported_file_draws_as_printed(tiny_run: tp.Run) -> None:
    (block,) = (block for block in blocks(DOCS / "how-to" / "export.md") if "digits.onnx" in block)
    assert run_command(["export", str(tiny_run.path), "--format", "onnx", "--out", "digits.onnx"]) == 0
    exec(compile(block.replace("(25, 32)", "(25, 8)"), "export.md", "exec"), {})  # the tiny run has 8 latents
    assert Path("digit.png").is_file()


COMMANDS = [
    pytest.param(words, id=f"{name_of(page)}: {' '.join(words)}")
    for page in PAGES
    for words in commands(page)
    if page.name != "results.md"  # made by a benchmark, whose recipes have their own tests
]


@pytest.mark.parametrize("words", COMMANDS)
def test_commands_exist(words: list[str]) -> None:
    """The verb is there and takes these options; what is changed in a recipe resolves."""
    command: Any = typer.main.get_command(app)
    context = command.context_class(command)
    while hasattr(command, "get_command"):
        if not words or words[0].isupper():
            return  # a verb alone, or VERB
        found = command.get_command(context, words[0])
        assert found is not None, words
        command, words = found, words[1:]
    if not words or {"...", "--help"} & set(words):
        return  # a verb that is only named
    said = command.make_context(command.name, words).params
    if "words" in said:
        recipe, overrides = split_words(said["words"] or [])
        recipe = said.get("recipe") or recipe
        own = [word for word in overrides if any(name in word for name in OWN)]
        if not own and not (recipe or "").endswith(".yaml") and command.name in ("train", "step", "sample", "data"):
            load_recipe("mnist-auto" if recipe == AUTO else recipe or "digits", parse_overrides(overrides))


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(
        words, cwd=ROOT, check=False, capture_output=True, text=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    assert (tmp_path / "site" / "reference" / "networks.html").is_file()
    pages = [page.read_text(encoding="utf-8") for page in (tmp_path / "site").rglob("*.html")]
    assert not any(re.search(r'(?:src|href)="https?://[^"]*\.(?:js|css|woff2?)"', page) for page in pages)
    assert not any("<!-- made:" in page for page in pages)
