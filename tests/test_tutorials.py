"""The tutorials: every notebook runs, with less of everything, and is in step with its Markdown."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.unit.test_notebook_display import Frontend

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("jupytext")

ROOT = Path(__file__).parents[1]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
NAMES = [path.stem for path in TUTORIALS if path.stem != "index"]

PICTURES = sorted((ROOT / "docs" / "images" / "tutorials").glob("*"))

TINY = {
    "PLANE_STEPS": 2,
    "STEPS": 4,
    "COARSE_STEPS": 4,
    "LABEL_STEPS": 4,
    "TURNS": 10,
    "N": 60,
    "SEEDS": 1,
    "PIECES": 40,
}
"""What stands at the top of the tutorials, and how little of it is enough here."""

CONSTANT = re.compile(r"^([A-Z_]+) = \d+$", re.MULTILINE)


@pytest.fixture(scope="module")
def make() -> ModuleType:
    """notebooks/make.py as a module."""
    spec = importlib.util.spec_from_file_location("make_notebooks", ROOT / "notebooks" / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shortened(name: str) -> Any:
    """A notebook with less of everything, and figures by features of an extractor that need not be trained."""
    book = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    first = next(cell for cell in book.cells if cell.cell_type == "code")
    found = CONSTANT.findall(first.source)
    assert found, "the first block begins with the constants"
    first.source = CONSTANT.sub(lambda match: f"{match[1]} = {TINY[match[1]]}", first.source)
    for cell in book.cells:
        cell.source = cell.source.replace("evaluate(n=N", "evaluate(extractor='random-cnn', n=N")
    return book


def test_there_is_one_for_every_section() -> None:
    assert len(NAMES) == 9


def test_notebooks_are_in_step_with_the_markdown(make: ModuleType) -> None:
    """After a change in docs/tutorials: make notebooks."""
    assert {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")} == set(NAMES)
    for source in make.tutorials():
        text = (ROOT / "notebooks" / f"{source.stem}.ipynb").read_text(encoding="utf-8")
        assert text == make.notebook_of(source), source.stem
        assert all(not cell.get("outputs") for cell in json.loads(text)["cells"])
        nbformat.validate(nbformat.reads(text, as_version=4))


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere_from_both_places(name: str) -> None:
    markdown = ROOT / "docs" / "tutorials" / f"{name}.md"
    book = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    words = "\n".join(cell.source for cell in book.cells if cell.cell_type == "markdown")
    for place, text in ((markdown.parent, markdown.read_text(encoding="utf-8")), (ROOT / "notebooks", words)):
        links = re.findall(r"\]\((?!https?:)([^)#]*)(#[^)]+)?\)", text)
        for target, heading in links:
            path = place / target if target else markdown
            assert path.exists(), (name, target)
            if heading and path.suffix == ".md":
                assert heading[1:] in headings(path), (name, target, heading)
    assert "@@" not in words


def headings(path: Path) -> set[str]:
    """The places in a page that a link can name."""
    titles = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize(
    "picture", sorted((ROOT / "docs" / "images" / "tutorials").glob("*")), ids=lambda path: path.name
)
def test_pictures_are_small_and_used(picture: Path) -> None:
    assert picture.stat().st_size < 100_000
    assert any(picture.name in path.read_text(encoding="utf-8") for path in TUTORIALS)


@pytest.fixture(scope="module")
def shell() -> Iterator[Any]:
    """IPython in this process: cells run as in a notebook, without the seconds that a kernel takes to start."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    made = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    yield made
    InteractiveShell.clear_instance()


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name != "wgan-gp"])
@pytest.mark.filterwarnings("default")
def test_every_cell_runs(name: str, shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "Agg")
    frontend = Frontend()
    monkeypatch.setattr("twoplayer.training.progress.in_notebook", lambda: True)
    monkeypatch.setattr("twoplayer.training.live.show", frontend.show)
    monkeypatch.setattr("twoplayer.session.write_report", lambda *_: None)  # half of the time of so short a training
    shell.reset()
    for cell in shortened(name).cells:
        if cell.cell_type == "code":
            shell.run_cell(cell.source).raise_error()
    assert frontend.shown or name == "improved-techniques"


@pytest.mark.slow
def test_one_of_them_runs_in_a_real_kernel(tmp_path: Path) -> None:
    book = shortened("wgan-gp")
    nbclient.NotebookClient(book, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("text/html" in output.get("data", {}) for output in outputs)
    assert (tmp_path / "runs" / "wgan-gp" / "report.html").is_file()
