"""Figures of several runs side by side, ranked only where they were made in the same way."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import Any

from twoplayer.core.metric import Better, badness
from twoplayer.evaluation.game import Figures

MADE_OF = ("data", "data_sha256", "split", "floor_split", "image_shape", "n_real", "n_fake", "metric")
"""What has to agree before two values of a figure may be ranked, beside the extractor."""

OF_EXTRACTOR = ("id", "weights_sha256")
SHOWN_DIGITS = 12


@dataclass(frozen=True)
class Cell:
    """One entry's value of a figure.

    Attributes:
        value: the mean over evaluations or over training runs; None when it is infinite.
        spread: population deviation over the same.
        runs: training runs behind it.
        least: of these runs' values.
        most: of these runs' values.
    """

    value: float | None
    spread: float | None
    runs: int = 1
    least: float | None = None
    most: float | None = None


@dataclass(frozen=True)
class Line:
    """One figure over all entries.

    Attributes:
        figure: its name.
        better: which value is the better one.
        cells: one for each entry; None where the entry does not have the figure.
        best: places of the best entries; several where spreads do not tell them apart, none where they are not ranked.
        floor: what real images get, where that is the same thing for all.
        not_ranked: why, in words; empty when ranked.
    """

    figure: str
    better: Better
    cells: tuple[Cell | None, ...]
    best: tuple[int, ...]
    floor: float | None
    not_ranked: str


def compared(entries: Sequence[Sequence[Figures]]) -> list[Line]:
    """All figures with a value that any entry has.

    Args:
        entries: for each row of the comparison the figures of its training runs, which differ by seed only.
    """
    names = dict.fromkeys(
        name for runs in entries for run in runs for name, figure in run.items() if "better" in figure
    )
    return [_line(name, [[run[name] for run in runs if name in run] for runs in entries]) for name in names]


def _line(name: str, entries: list[list[dict[str, Any]]]) -> Line:
    every = [figure for figures in entries for figure in figures]
    better: Better = every[0]["better"]
    cells = tuple(_cell(figures) if figures else None for figures in entries)
    why = differences(every)
    if not why and sum(cell is not None for cell in cells) < 2:
        why = "only one has it"
    floors = [figure["floor"] for figure in every if figure["floor"] is not None]
    floor = fmean(floors) if floors and not differences(every) else None
    return Line(name, better, cells, () if why else _best(better, cells), floor, why)


def _cell(figures: list[dict[str, Any]]) -> Cell:
    if len(figures) == 1:
        return Cell(figures[0]["value"], figures[0]["spread"])
    values = [figure["value"] for figure in figures]
    if any(value is None for value in values):
        return Cell(None, None, len(values))
    return Cell(fmean(values), pstdev(values), len(values), min(values), max(values))


def _best(better: Better, cells: Sequence[Cell | None]) -> tuple[int, ...]:
    """The best value, and every other that is not further from it than the two spreads together."""
    known = {place: cell for place, cell in enumerate(cells) if cell is not None and cell.value is not None}
    if not known:
        return ()
    marks = {place: badness(better, cell.value) for place, cell in known.items() if cell.value is not None}
    first = min(marks, key=lambda place: marks[place])

    def tied(place: int) -> bool:
        room = (known[place].spread or 0.0) + (known[first].spread or 0.0)
        return marks[place] - marks[first] <= room

    return tuple(place for place in known if tied(place))


def differences(figures: Sequence[Mapping[str, Any]]) -> str:
    """What differs in how values of one figure were made, in words; empty when nothing does."""
    found = []
    for key in MADE_OF:
        found += _difference(key, [figure.get(key) for figure in figures])
    for key in OF_EXTRACTOR:
        found += _difference(f"extractor {key}", [figure.get("extractor", {}).get(key) for figure in figures])
    return "; ".join(found)


def _difference(key: str, values: Sequence[Any]) -> list[str]:
    texts = dict.fromkeys(value if isinstance(value, str) else json.dumps(value) for value in values)
    if len(texts) < 2:
        return []
    short = (text[:SHOWN_DIGITS] if key.endswith("sha256") else text for text in texts)
    return [f"{key.replace('_', ' ')} differs ({' / '.join(short)})"]


def line_as_json(line: Line, names: Sequence[str]) -> dict[str, Any]:
    """A line for `--json`."""
    cells = {
        name: None if cell is None else {key: value for key, value in vars(cell).items() if value is not None}
        for name, cell in zip(names, line.cells, strict=True)
    }
    assert line.floor is None or math.isfinite(line.floor)
    return {
        "better": line.better,
        "floor": line.floor,
        "runs": cells,
        "best": [names[place] for place in line.best],
        "not_ranked": line.not_ranked,
    }
