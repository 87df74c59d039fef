"""A run at a glance: what its folder says, for a terminal and for a notebook.

Whatever state the folder is in, there is something to show: what cannot be read is left out. The HTML is self-contained
and sets no colors, so that it can be read in light and dark themes.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from twoplayer.core.tables import Table
from twoplayer.runs.cards import measured, number, single_figures
from twoplayer.runs.folder import RunFolder
from twoplayer.runs.grid import encoded
from twoplayer.runs.log import Row, read_rows
from twoplayer.runs.report import picture

MOST_PIXELS = 640
"""Of the longer side of the grid; a larger one is shown smaller."""

MOST_BYTES = 2**19
"""Of the grid as PNG; else it is WebP."""

MOST_FIGURES = 6
DAMAGED = "damaged"


@dataclass(frozen=True)
class Glance:
    """What there is to see.

    Attributes:
        path: the run's folder.
        facts: in the order in which they are shown, by name.
        figures: those that `evaluate` took, by name.
        grid: the newest grid as PNG, or WebP where that was too large; empty without one.
        grid_step: the step after which it was made.
        report: whether there is a report.
    """

    path: Path
    facts: dict[str, str]
    figures: dict[str, str] = field(default_factory=dict)
    grid: bytes = b""
    grid_step: int = 0
    report: bool = False

    @property
    def line(self) -> str:
        """On one line."""
        return f"Run({str(self.path)!r}: {'; '.join(f'{name} {value}' for name, value in self.facts.items())})"

    def text(self) -> str:
        """On several lines."""
        facts = {"run": str(self.path)} | self.facts | self.figures
        facts |= {"grid": f"after step {self.grid_step:,}"} if self.grid else {}
        facts |= {"report": str(self.path / "report.html")} if self.report else {}
        width = max(map(len, facts))
        return "\n".join(f"{name.ljust(width)}  {value}" for name, value in facts.items())

    def html(self) -> str:
        """For a notebook; below a MB, with everything in it."""
        link = _link(self.path / "report.html") if self.report else ""
        title = f"<strong>{html.escape(str(self.path))}</strong> {link}"
        words = Table(("", ""), list((self.facts | self.figures).items()), words=(0, 1)).html()
        name = f"samples after step {self.grid_step:,}"
        grid = f"<figure>{picture(self.grid, name)}<figcaption>{name}</figcaption></figure>"
        return f"<div><div>{title}</div>{words}{grid if self.grid else ''}</div>"


def glance(folder: RunFolder, recipe: Callable[[], str], verdict: Callable[[], str]) -> Glance:
    """Look at a run's folder.

    Args:
        folder: the run; it may be damaged, empty or gone.
        recipe: its recipe's name.
        verdict: what the doctor says.
    """
    if not folder.path.is_dir():
        return Glance(folder.path, {"state": "the folder is not there"})
    if not folder.exists():
        return Glance(folder.path, {"state": "no run has begun here"})
    facts = {"recipe": _tried(recipe)}
    rows = _tried(lambda: read_rows(folder.metrics), ())
    facts |= {"log": DAMAGED} if rows == () else _tried(lambda: _from_log(list(rows)), {"log": DAMAGED})
    facts |= {"doctor": said} if (said := _tried(verdict)) else {}
    figures = _tried(lambda: _from_figures(folder), {"figures": DAMAGED})
    step, grid = _tried(lambda: _newest_grid(folder), (0, b""))
    return Glance(folder.path, facts, figures, grid, step, folder.report.is_file())


def _tried(look: Callable[[], Any], otherwise: Any = DAMAGED) -> Any:
    """What can be seen. A run that is shown never raises, and there is no end of ways in which a file is damaged."""
    try:
        return look()
    except Exception:
        return otherwise


def _from_log(rows: list[Row]) -> dict[str, str]:
    if not rows:
        return {"step": "0, nothing was logged yet"}
    last = rows[-1]
    level = "" if last.get("level") is None else f"level {last['level']}, "
    facts = {"step": f"{level}{last['step']:,}, epoch {last['epoch']:.1f}, {last['seconds']:,.0f} s"}
    for kind in ("loss", "score"):
        of = [last.get(f"{kind}/{player}") for player in ("generator", "discriminator")]
        if all(value is not None for value in of):
            facts[kind] = f"G {number(of[0])}, D {number(of[1])}"
    return facts


def _from_figures(folder: RunFolder) -> dict[str, str]:
    """The first few of those that `evaluate` took."""
    if not folder.evaluation.is_file():
        return {}
    found = single_figures(json.loads(folder.evaluation.read_text(encoding="utf-8")))
    shown = {
        name: f"{measured(each['value'])} +- {measured(each['spread'])} (floor {measured(each['floor'])})"
        for name, each in list(found.items())[:MOST_FIGURES]
    }
    more = len(found) - len(shown)
    return shown | ({"more figures": f"{more} in evaluation.json"} if more else {})


def _newest_grid(folder: RunFolder) -> tuple[int, bytes]:
    """The newest that can be read, made small enough."""
    for step in reversed(folder.sample_steps()):
        try:
            with Image.open(folder.sample_grid(step)) as grid:
                content = encoded(grid, MOST_PIXELS)
                small = len(content) <= MOST_BYTES
                return step, content if small else encoded(grid.convert("RGB"), MOST_PIXELS, "WEBP")
        except OSError:
            continue
    return 0, b""


def _link(report: Path) -> str:
    """To a file below the present folder by its relative name, which a notebook's server can open."""
    place = report.resolve()
    here = Path.cwd().resolve()
    address = place.relative_to(here).as_posix() if place.is_relative_to(here) else place.as_uri()
    return f'<a href="{html.escape(address)}" target="_blank">report.html</a>'
