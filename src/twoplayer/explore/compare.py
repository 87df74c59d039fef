"""The tab that puts runs side by side: the same latents, and figures with spread and floor."""

from __future__ import annotations

from typing import Any

import gradio as gr
import pandas as pd

from twoplayer.comparison import cell_text
from twoplayer.core.errors import UserError
from twoplayer.evaluation.compare import Line, compared
from twoplayer.explore.checked import MOST_SEED, whole
from twoplayer.explore.entry import Entry
from twoplayer.explore.page import COMPUTED, QUIETLY, Page, Runs, alone, in_words, shown_picture, teller
from twoplayer.runs.cards import number

MOST_RUNS = 4
MOST_EACH = 36


def tab(page: Page, chosen: gr.Dropdown, blocks: gr.Blocks) -> None:
    """Two to four runs."""
    words = page.words
    places: dict[str, Any] = {"label": words("compare-runs"), "elem_id": "compared", "interactive": True}
    runs = Runs([], multiselect=True, max_choices=MOST_RUNS, **places)
    with gr.Row():
        seed = gr.Number(0, precision=0, minimum=0, maximum=MOST_SEED, label=words("seed"), elem_id="compare-seed")
        count = gr.Slider(4, MOST_EACH, 16, step=1, label=words("count"), elem_id="compare-count")
        show = gr.Button(words("compare-show"), variant="primary", elem_id="compare-show")
    said = gr.Markdown(elem_id="compare-said")
    columns, titles, pictures = [], [], []
    with gr.Row():
        for place in range(MOST_RUNS):
            with gr.Column(min_width=260, visible=place < 2) as column:
                columns.append(column)
                titles.append(gr.Markdown())
                pictures.append(shown_picture(f"compared-{place}"))
    table = gr.Dataframe(interactive=False, visible=False, wrap=True, elem_id="compare-table", show_label=False)

    def offer(now: list[str] | None) -> Any:
        names = [entry.name for entry in page.library.entries()]
        kept = [name for name in now or [] if name in names]
        return gr.update(choices=names, value=kept or names[:2])

    @in_words
    @alone(page)
    def drawn(names: Any, seed: Any, count: Any, request: gr.Request) -> tuple[Any, ...]:
        tell = teller(request)
        if not isinstance(names, list) or not 2 <= len(names) <= MOST_RUNS:
            raise UserError(tell("compare-how-many", most=MOST_RUNS))
        entries = [page.entry(name) for name in names]
        seed, count = whole(seed, 0, MOST_SEED, "seed"), whole(count, 1, MOST_EACH, "pictures")
        grids = [entry.run.grid(count, seed) for entry in entries]
        empty = [None] * (MOST_RUNS - len(entries))
        figures = figures_table(entries)
        about = [f"**{entry.name}** · {entry.recipe.name}" for entry in entries]
        return (
            tell("same-latents" if same_latents(entries) else "other-latents")
            + ("" if figures is not None else "\n\n" + tell("no-figures")),
            *(gr.update(visible=place < len(entries)) for place in range(MOST_RUNS)),
            *[*about, *empty],
            *[*grids, *empty],
            gr.update(value=figures, visible=figures is not None),
        )

    blocks.load(offer, runs, runs, **QUIETLY)
    runs.focus(offer, runs, runs, **QUIETLY)
    show.click(drawn, [runs, seed, count], [said, *columns, *titles, *pictures, table], **COMPUTED)


def same_latents(entries: list[Entry]) -> bool:
    """Whether the same seed is the same z for all."""
    return len({repr(entry.run.info.latents) for entry in entries}) == 1


def figures_table(entries: list[Entry]) -> pd.DataFrame | None:
    """Every figure that `evaluate` took of any of them; None where it took none."""
    lines = compared([[figures] if (figures := figures_now(entry)) else [] for entry in entries])
    if not lines:
        return None
    names = [entry.name for entry in entries]
    return pd.DataFrame([row_of(line) for line in lines], columns=["figure", *names, "floor", "better", "not ranked"])


def figures_now(entry: Entry) -> dict[str, dict[str, Any]]:
    """Those of the newest generator; what was taken of an older one is not what its pictures show."""
    return {name: each for name, each in entry.figures.items() if each.get("step") == entry.run.info.step}


def row_of(line: Line) -> list[str]:
    """One figure: the best values are marked where they are ranked."""
    cells = [("★ " if place in line.best else "") + cell_text(cell) for place, cell in enumerate(line.cells)]
    return [line.figure, *cells, number(line.floor), line.better, line.not_ranked]
