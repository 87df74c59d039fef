"""The tab of all runs: what each is, how far, how well, and what the doctor says."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd
from PIL import Image

from twoplayer.core.errors import UserError
from twoplayer.explore.entry import Entry
from twoplayer.explore.page import QUIETLY, Page, teller
from twoplayer.runs.cards import measured, number
from twoplayer.runs.grid import encoded
from twoplayer.runs.report import picture

SECONDS_BETWEEN_LOOKS = 3.0
THUMBNAIL_PIXELS = 72
WIDTHS = ("90px", "120px", "130px", "100px", "90px", "90px", "150px", "170px", "210px")
TYPES: list[Any] = ["html", *["str"] * (len(WIDTHS) - 1)]
FIGURE = "fid_"
"""Of what `evaluate` took, the one that the table shows: the Frechet distance."""


def tab(page: Page, chosen: gr.Dropdown, blocks: gr.Blocks) -> gr.Timer:
    """All runs; a click on one chooses it for the other tabs."""
    empty = gr.Markdown(page.words("empty"), visible=False, elem_id="empty")
    table = gr.Dataframe(
        datatype=TYPES,
        column_widths=list(WIDTHS),
        interactive=False,
        show_search="filter",
        elem_id="table",
        wrap=True,
        max_height=700,
        label=page.words("runs"),
    )
    gr.Markdown(page.words("runs-hint"), elem_classes="hint")
    seen = gr.State()

    def look(now: str | None, before: Any, request: gr.Request) -> tuple[Any, ...]:
        entries = page.library.entries()
        names = [entry.name for entry in entries]
        lines = [entry.kept("row", entry.stamp, partial(row_of, entry)) for entry in entries]
        if lines == before:
            return (gr.skip(),) * 4
        frame = pd.DataFrame(lines, columns=["", *teller(request)("columns").split("|")])
        chosen: dict[str, Any] = {} if now in names else {"value": next(iter(names), None)}
        return (
            gr.update(value=frame, visible=bool(lines)),
            gr.update(visible=not lines),
            gr.update(choices=names, **chosen),
            lines,
        )

    def choose(picked: gr.SelectData) -> Any:
        return picked.row_value[1]

    outputs = [table, empty, chosen, seen]
    blocks.load(look, [chosen, seen], outputs, **QUIETLY)
    timer = gr.Timer(SECONDS_BETWEEN_LOOKS)
    timer.tick(look, [chosen, seen], outputs, **QUIETLY)
    table.select(choose, None, chosen, **QUIETLY)
    return timer


def row_of(entry: Entry) -> tuple[str, ...]:
    """A run in the table; one that cannot be read says so, and there is no end of ways in which a file is damaged."""
    try:
        rows, best = entry.rows, entry.best
        last: dict[str, Any] = dict(rows[-1]) if rows else {}
        return (
            thumbnail(entry.grid),
            entry.name,
            entry.recipe.name,
            f"{100 * entry.progress:.0f} %" + (" ▶" if entry.is_training else ""),
            number(last.get("loss/generator")),
            number(last.get("loss/discriminator")),
            "-" if best is None else f"{number(best[1])} (step {best[0]:,})",
            figure_of(entry),
            entry.diagnosis.words,
        )
    except Exception as error:
        said = str(error) if isinstance(error, UserError) else "its files are damaged"
        return ("", entry.name, "", "", "", "", "", "", said)


def figure_of(entry: Entry) -> str:
    """The Frechet distance that `evaluate` took, with its spread and floor."""
    for name, each in entry.figures.items():
        if name.startswith(FIGURE):
            return f"{name} {measured(each['value'])} ± {measured(each['spread'])}, floor {measured(each['floor'])}"
    return "-"


def thumbnail(grid: Path | None) -> str:
    """A small picture as HTML; empty where there is none yet."""
    if grid is None:
        return ""
    with Image.open(grid) as opened:
        return picture(encoded(opened, THUMBNAIL_PIXELS), grid.stem)
