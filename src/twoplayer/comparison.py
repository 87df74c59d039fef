"""Runs side by side: a table, a page, one JSON object."""

from __future__ import annotations

import html
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twoplayer.core.errors import UserError
from twoplayer.core.tables import Table
from twoplayer.evaluation.compare import Cell, Line, compared, line_as_json
from twoplayer.evaluation.figures import provenance
from twoplayer.evaluation.game import Figures
from twoplayer.runs.compare_page import Shown, write_compare_page
from twoplayer.runs.folder import RunFolder
from twoplayer.trained import Run

BEST = "* the best, and what the spreads do not tell apart from it"
SPREADS = (
    "over samplings of one training; of an entry with several seeds, over its trainings, [least, most]. What sampling "
    "tells apart another training may not"
)

logger = logging.getLogger("twoplayer")


@dataclass(frozen=True, repr=False)
class Comparison:
    """Entries and their figures; shows itself as a table.

    Attributes:
        names: of the entries.
        runs: behind each entry: one, or those of several seeds.
        lines: one for each figure.
        made_from: where the figures of each entry come from, in words.
    """

    names: tuple[str, ...]
    runs: tuple[tuple[Run, ...], ...]
    lines: tuple[Line, ...]
    made_from: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Everything as plain data."""
        entries = {name: [str(run.path) for run in runs] for name, runs in zip(self.names, self.runs, strict=True)}
        return {"runs": entries, "figures": {line.figure: line_as_json(line, self.names) for line in self.lines}}

    def notes(self) -> list[str]:
        """What the figures were made from, and why some are not ranked, as lines for a person."""
        reasons: dict[str, list[str]] = {}
        for line in self.lines:
            if line.not_ranked:
                reasons.setdefault(line.not_ranked, []).append(line.figure)
        made_from = [f"made from {text}" for text in dict.fromkeys(self.made_from)]
        return made_from + [f"not ranked: {', '.join(names)}: {text}" for text, names in reasons.items()]

    @property
    def table(self) -> Table:
        """One row per figure, one column per entry."""
        rows = [
            [line.figure, *(f"{text} *" if best else text for text, best in _texts(line)), _floor(line)]
            for line in self.lines
        ]
        head, notes = ["figure", *self.names, "floor"], [BEST, f"+- {SPREADS}", *self.notes()]
        return Table(head, rows, below=notes)

    def __repr__(self) -> str:
        return self.table.text()

    def _repr_html_(self) -> str:
        return self.table.html()

    def write_page(self, path: Path) -> None:
        """One self-contained HTML file with grids, figures and curves."""
        shown = [
            Shown(name, _last_grid(runs[0]), runs[0].metrics, _about(runs), made_from)
            for name, runs, made_from in zip(self.names, self.runs, self.made_from, strict=True)
        ]
        table = [_html_row(line) for line in self.lines]
        write_compare_page(path, shown, ["figure", *self.names, "floor", ""], table, SPREADS)


def compare(runs: Sequence[str | Path | Run]) -> Comparison:
    """Put runs, or their folders, side by side; a folder that `seeds=3` made is one entry.

    Figures come from each run's evaluation.json; a run that has none, or an older one, is evaluated first.

    Raises:
        UserError: a path is no run, a run is not at its newest checkpoint, or there are fewer than two.
    """
    for run in runs:
        if isinstance(run, Run) and run.checkpoint != "newest":
            raise UserError(f"compare shows the newest checkpoint of a run, not {run.checkpoint!r} of {run.path}")
    paths = [run.path if isinstance(run, Run) else run for run in runs]
    if len(paths) < 2:
        raise UserError("compare needs at least two runs")
    entries = [_runs_in(Path(path)) for path in paths]
    names = _names([Path(path) for path in paths])
    figures = [[figures_of(run) for run in runs] for runs in entries]
    made_from = tuple("; ".join(" ".join(line.split()) for line in provenance(several[0])) for several in figures)
    return Comparison(names, tuple(entries), tuple(compared(figures)), made_from)


def figures_of(run: Run) -> Figures:
    """What evaluation.json says of the run's newest generator; taken now where it says nothing of that."""
    try:
        figures: Figures = json.loads(run.folder.evaluation.read_text(encoding="utf-8"))
        if figures["sliced-wasserstein"]["step"] == run.info.step and "better" in figures["sliced-wasserstein"]:
            return figures
    except (OSError, ValueError, KeyError):
        pass
    logger.warning("%s is evaluated first, with the defaults of twoplayer evaluate", run.path)
    return run.evaluate()


def _runs_in(path: Path) -> tuple[Run, ...]:
    folder = RunFolder(path)
    folder.require()
    return tuple(Run(place.path) for place in folder.of_seeds()) or (Run(path),)


def _names(paths: Sequence[Path]) -> tuple[str, ...]:
    """Names of the folders, with as many of their parents as tell them apart."""
    parts = [path.resolve().parts for path in paths]
    for depth in range(1, max(map(len, parts)) + 1):
        names = tuple("/".join(part[-depth:]) for part in parts)
        if len(set(names)) == len(names):
            return names
    raise UserError(f"{paths[0]} is named more than once")


def _last_grid(run: Run) -> bytes:
    steps = run.folder.sample_steps()
    if not steps:
        raise UserError(f"{run.path} has no grid yet")
    return run.folder.sample_grid(steps[-1]).read_bytes()


def _about(runs: tuple[Run, ...]) -> str:
    info = runs[0].info
    seeds = f", {len(runs)} seeds (pictures: the first)" if len(runs) > 1 else ""
    return f"{info.recipe}, step {info.step:,}, {info.kimg:,.0f} thousand images{seeds}"


def _html_row(line: Line) -> list[str]:
    cells = [
        f"<td{' class=best' if place in line.best else ''}>{html.escape(cell_text(cell))}"
        for place, cell in enumerate(line.cells)
    ]
    why = f"not ranked: {line.not_ranked}" if line.not_ranked else ""
    return [f"<td>{html.escape(line.figure)}", *cells, f"<td>{_floor(line)}", f"<td class=why>{html.escape(why)}"]


def _texts(line: Line) -> list[tuple[str, bool]]:
    """Each entry's cell, and whether it is one of the best."""
    return [(cell_text(cell), place in line.best) for place, cell in enumerate(line.cells)]


def _floor(line: Line) -> str:
    return "" if line.floor is None else f"{line.floor:.4g}"


def cell_text(cell: Cell | None) -> str:
    """A value with its spread; over several training runs also the interval that they lie in."""
    if cell is None:
        return "-"
    if cell.value is None:
        return "inf"
    text = f"{cell.value:.4g} +- {cell.spread or 0.0:.2g}"
    if cell.least is not None and cell.most is not None:
        text += f" [{cell.least:.4g}, {cell.most:.4g}]"
    return text
