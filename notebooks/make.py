"""Makes notebooks/NAME.ipynb of each docs/tutorials/NAME.md; `make notebooks` calls it.

The Markdown is the source. Blocks marked `python` become code cells, everything else text. Links are rewritten, so that
they lead to the same places from here.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jupytext

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "docs" / "tutorials"
NOTEBOOKS = ROOT / "notebooks"
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)(#[^)]*)?\)")
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def tutorials() -> list[Path]:
    """The sources, by name."""
    return sorted(path for path in SOURCES.glob("*.md") if path.stem != "index")


def notebook_of(source: Path) -> str:
    """The text of the notebook of one tutorial, the same each time."""
    book: dict[str, Any] = jupytext.reads(source.read_text(encoding="utf-8"), fmt="md")
    cells = [_cell(place, cell) for place, cell in enumerate(book["cells"])]
    made = {"cells": cells, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def _cell(place: int, cell: dict[str, Any]) -> dict[str, Any]:
    code = cell["cell_type"] == "code"
    text = cell["source"] if code else LINK.sub(_relinked, cell["source"])
    made = {"cell_type": cell["cell_type"], "id": f"cell-{place}", "metadata": {}, "source": text.splitlines(True)}
    return made | ({"execution_count": None, "outputs": []} if code else {})


def _relinked(found: re.Match[str]) -> str:
    """A link from docs/tutorials as one from notebooks; to another tutorial as one to its notebook."""
    target, place = found[1], found[2] or ""
    absolute = (SOURCES / target).resolve()
    if absolute.parent == SOURCES and absolute in tutorials():
        return f"]({absolute.stem}.ipynb{place})"
    return f"](../{absolute.relative_to(ROOT).as_posix()}{place})"


def main() -> None:
    """Write them all, and remove those whose tutorial is gone."""
    names = {source.stem for source in tutorials()}
    for old in NOTEBOOKS.glob("*.ipynb"):
        if old.stem not in names:
            old.unlink()
    for source in tutorials():
        (NOTEBOOKS / f"{source.stem}.ipynb").write_text(notebook_of(source), encoding="utf-8")


if __name__ == "__main__":
    main()
