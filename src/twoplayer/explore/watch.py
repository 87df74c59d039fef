"""The tab that lives while a run trains. It reads the run's folder and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr
from PIL import Image

from twoplayer.core.errors import UserError
from twoplayer.explore.curves import MOST_POINTS, chart
from twoplayer.explore.entry import Entry
from twoplayer.explore.page import QUIETLY, Page, shown_picture, teller
from twoplayer.runs.log import Row
from twoplayer.training.progress import clock

SECONDS_BETWEEN_LOOKS = 1.0
COLORS = {"generator": "#0d9488", "discriminator": "#c2410c", "real": "#6366f1", "fake": "#d97706"}
LOSSES, SCORES = ("generator", "discriminator", "real", "fake"), ("generator", "discriminator")
IDEAL = 0.5
"""The score at which neither player wins."""


def tab(page: Page, chosen: gr.Dropdown, blocks: gr.Blocks) -> gr.Timer:
    """State, newest grid, curves and the doctor's words."""
    words = page.words
    said = gr.Markdown(words("choose"), elem_id="said")
    with gr.Row():
        with gr.Column(min_width=320):
            grid = shown_picture("grid", ["fullscreen"])
            step = gr.Slider(0, 1, 1, step=1, label=words("time"), elem_id="time", visible=False)
            follow = gr.Checkbox(True, label=words("follow"), elem_id="follow")
        with gr.Column(min_width=320):
            gr.Markdown(words("losses"))
            losses = gr.HTML(elem_id="loss")
            gr.Markdown(words("scores"))
            scores = gr.HTML(elem_id="score")
    seen = gr.State()
    outputs = [said, grid, step, losses, scores, seen]

    def look(name: str | None, place: float, follows: bool, before: Any, request: gr.Request) -> tuple[Any, ...]:
        if not name:
            return (gr.skip(),) * len(outputs)
        try:
            return shown(page.entry(name), place, follows, before, teller(request))
        except Exception as error:  # there is no end of ways in which a file is damaged; it is said once
            why = str(error) if isinstance(error, UserError) else type(error).__name__
            said = (teller(request)("damaged", name=name, why=why), *[gr.skip()] * (len(outputs) - 2), (None, why))
            return (gr.skip(),) * len(outputs) if before == said[-1] else said

    def stop_following() -> bool:
        return False

    inputs = [chosen, step, follow, seen]
    timer = gr.Timer(SECONDS_BETWEEN_LOOKS, active=False)
    timer.tick(look, inputs, outputs, **QUIETLY)
    gr.on([chosen.change, follow.input], look, inputs, outputs, **QUIETLY)
    step.input(stop_following, None, follow, **QUIETLY).then(look, inputs, outputs, **QUIETLY)
    return timer


def shown(entry: Entry, place: float, follows: bool, before: Any, tell: Callable[..., str]) -> tuple[Any, ...]:
    """What the tab shows of a run now; only what is new since `before`, the last of it."""
    rows, steps = entry.rows, entry.folder.sample_steps()
    newest = max(len(steps) - 1, 0)
    at = newest if follows else nearest(steps, place)
    lately = len(rows) % max(len(rows) // MOST_POINTS, 1) if entry.is_training else 0
    drawn = len(rows) - lately  # what is less than a point is not drawn anew
    state = (entry.name, drawn, steps[at] if steps else None, newest, entry.is_training, len(rows))
    before = before if before and before[0] == entry.name else (entry.name, *[None] * 5)
    if state == before:
        return (gr.skip(),) * 6
    new_log, new_grid = state[1] != before[1], state[2] != before[2]
    rows = [row for row in rows if row.get("level") == rows[-1].get("level")]  # of a pyramid, what trains now
    return (
        state_of(entry, tell),
        opened(entry, state[2]) if new_grid else gr.skip(),
        time_slider(steps, at),
        chart(rows, named("loss", LOSSES, tell)) if new_log else gr.skip(),
        (chart(rows, named("score", SCORES, tell), (0.0, 1.0), IDEAL) or missing(rows, tell)) if new_log else gr.skip(),
        state,
    )


def named(kind: str, parts: tuple[str, ...], tell: Callable[..., str]) -> dict[str, tuple[str, str]]:
    """The figures of a chart, with their names and colors."""
    return {f"{kind}/{part}": (tell(f"curve-{part}"), COLORS[part]) for part in parts}


def missing(rows: list[Row], tell: Callable[..., str]) -> str:
    """What stands in place of scores where a game has none."""
    return tell("no-scores") if rows else ""


def time_slider(steps: list[int], shown: int) -> Any:
    """Over all grids; there is nothing to slide with fewer than two."""
    if len(steps) < 2:
        return gr.update(visible=False)
    return gr.update(minimum=steps[0], maximum=steps[-1], value=steps[shown], visible=True)


def nearest(steps: list[int], step: float) -> int:
    """The place of the grid that is nearest to a step."""
    return min(range(len(steps)), key=lambda place: abs(steps[place] - step), default=0)


def opened(entry: Entry, step: int | None) -> Image.Image | None:
    """The grid of a step."""
    if step is None:
        return None
    try:
        with Image.open(entry.folder.sample_grid(step)) as picture:
            return picture.copy()
    except OSError:  # removed or damaged meanwhile
        return None


def state_of(entry: Entry, tell: Callable[..., str]) -> str:
    """How far a run is, how fast, and what the doctor says: Markdown."""
    rows = entry.rows
    if not rows:
        return tell("nothing-yet", name=entry.name)
    last, left = rows[-1], entry.seconds_left
    step, steps = f"{last['step']:,}", entry.steps
    words = [f"**{entry.name}**"]
    words += [tell("at-level", level=entry.level[0] + 1, levels=entry.level[1])] if entry.level else []
    words += [tell("at-step", step=step, steps=f"{steps:,}") if steps else tell("at-step-only", step=step)]
    if entry.is_training:
        words.append(tell("speed", speed=f"{last['images_per_second']:,.0f}"))
        words += [] if left is None else [tell("left", time=clock(left))]
    else:
        words.append(tell("ended" if entry.progress >= 1.0 else "stopped"))
    return " · ".join(words) + "\n\n" + doctor_says(entry, tell)


def doctor_says(entry: Entry, tell: Callable[..., str]) -> str:
    """The verdict, and what each finding rests on."""
    diagnosis = entry.diagnosis
    lines = [f"**{tell('doctor')}**: {diagnosis.words}"]
    lines += [f"- **{finding.name}**: {finding.evidence}" for finding in diagnosis.findings]
    return "\n".join(lines)
