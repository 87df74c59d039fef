"""report.html: one self-contained document about a run, worth sending: at most 5 MB, and it can be printed.

What it says comes from the run's folder alone: log, grids, figures of `twoplayer evaluate`, recipe, environment, and
what the doctor said when it was asked.
"""

from __future__ import annotations

import base64
import html
import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from twoplayer.runs.cards import measured, provenance, single_figures
from twoplayer.runs.files import write_text
from twoplayer.runs.folder import RunFolder
from twoplayer.runs.grids import Grid, grids_of
from twoplayer.runs.log import Row, read_rows
from twoplayer.runs.plots import classifier_plot, has_classifier, has_scores, loss_plot, score_plot

STYLE = files("twoplayer.runs").joinpath("report.css").read_text(encoding="utf-8")
SCRIPT = files("twoplayer.runs").joinpath("report.js").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Note:
    """What the doctor found.

    Attributes:
        title: what goes wrong.
        text: the evidence.
        remedies: overrides to try, each with why.
    """

    title: str
    text: str
    remedies: tuple[str, ...]


@dataclass(frozen=True)
class Notes:
    """The doctor's page.

    Attributes:
        verdict: in a few words.
        found: one note for each finding.
        not_examined: what could not be looked at, and why.
    """

    verdict: str
    found: tuple[Note, ...]
    not_examined: tuple[str, ...]


def write_report(folder: RunFolder, notes: Notes | None = None) -> None:
    """Make the report from what lies in the folder.

    Args:
        folder: the run.
        notes: of the doctor, where it was asked.
    """
    rows = read_rows(folder.metrics)
    config = folder.config.read_text(encoding="utf-8")
    environment = json.loads(folder.environment.read_text(encoding="utf-8"))
    figures = json.loads(folder.evaluation.read_text(encoding="utf-8")) if folder.evaluation.is_file() else {}
    name = html.escape(folder.path.resolve().name)
    grids = grids_of(folder)
    sections = {
        "Samples": _samples(grids),
        "Levels": _levels(rows),
        "Curves": "" if _levels(rows) else _curves(rows),
        "Figures": _figures(figures),
        "Doctor": _doctor(notes),
        "Recipe": _recipe(config),
        "Environment": f"<pre>{html.escape(json.dumps(environment, indent=2))}</pre>",
    }
    shown = {title: text for title, text in sections.items() if text}
    links = " ".join(f"<a href='#{_place(title)}'>{title}</a>" for title in shown)
    body = "".join(f"<section id={_place(title)}><h2>{title}</h2>{text}</section>" for title, text in shown.items())
    head = f"<h1>{name}</h1>{_verdict(notes)}{_summary(rows, environment)}<nav>{links}</nav>"
    write_text(folder.report, page(name, head + body, SCRIPT))


def page(title: str, body: str, script: str = "", style: str = "") -> str:
    """A self-contained HTML page; the title is HTML."""
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<style>{STYLE}{style}</style><body>{body}" + (f"<script>{script}</script>" if script else "") + "</html>"
    )


def _place(title: str) -> str:
    return title.lower().replace(" ", "-")


def _verdict(notes: Notes | None) -> str:
    if notes is None:
        return ""
    kind = "ill" if notes.found else "well"
    return f"<p class='verdict {kind}'><a href='#doctor'>{html.escape(notes.verdict)}</a></p>"


def _summary(rows: list[Row], environment: dict[str, Any]) -> str:
    if not rows:
        return "<p>Nothing was logged.</p>"
    last = rows[-1]
    facts = {
        "steps": f"{last['step']:,}",
        "epochs": f"{last['epoch']:.1f}",
        "real images shown": f"{last['kimg']:,.1f} thousand",
        "time": f"{last['seconds']:,.0f} s",
        "speed": f"{last['images_per_second']:,.0f} images/s",
    }
    if last.get("level") is not None:  # a pyramid: how far each level is stands in a table of its own
        facts = {}
    data = environment["data"]
    facts |= {
        "device": str(environment["device"]),
        "data": f"{data['source']}, {data['images']:,} images of {'x'.join(map(str, data['shape'][1:]))}",
    }
    parameters = environment.get("parameters", {})
    facts |= {f"parameters of the {player}": f"{count:,}" for player, count in parameters.items()}
    cells = "".join(f"<div><dt>{key}</dt><dd>{html.escape(value)}</dd></div>" for key, value in facts.items())
    return f"<dl class=facts>{cells}</dl>"


def _samples(grids: list[Grid]) -> str:
    """A slider through time on the screen; on paper, and where no script runs, all grids."""
    if not grids:
        return ""
    words = "<p>Fixed latents, evaluation mode: the same places of the same grid through the training.</p>"
    shown = "".join(
        f"<figure>{picture(grid.picture, grid.title)}<figcaption>{grid.title}</figcaption></figure>" for grid in grids
    )
    slider = (
        f"<p class=slider><input type=range id=time min=0 max={len(grids) - 1} value={len(grids) - 1} "
        "aria-label='time'><output for=time></output><button id=play type=button>Play</button></p>"
    )
    return f"{words}{slider if len(grids) > 1 else ''}<div class=grids>{shown}</div>"


def _levels(rows: list[Row]) -> str:
    """How far a pyramid's levels are, with links to their reports."""
    last = {row["level"]: row for row in rows if row.get("level") is not None}
    if not last:
        return ""
    cells = "".join(
        f"<tr><td><a href='levels/{level}/report.html'>level {level}</a><td>{row['step']:,}<td>{row['epoch']:.1f}"
        f"<td>{row['seconds']:,.0f} s"
        for level, row in last.items()
    )
    head = "<tr><th><th>steps<th>epochs<th>time"
    return f"<p>Coarsest first; each is a run of its own.</p><table>{head}{cells}</table>"


def _curves(rows: list[Row]) -> str:
    if not rows:
        return ""
    text = "<h3>Losses</h3>" + picture(loss_plot(rows), "losses by step and epoch", "plot")
    if has_scores(rows):
        text += "<h3>Scores</h3><p>Generator: mean D(fake). Discriminator: mean of D(real) and 1 - D(fake).</p>"
        text += picture(score_plot(rows), "scores by step and epoch", "plot")
    if has_classifier(rows):
        text += "<h3>Classifier</h3><p>Errors of the averaged discriminator on the test split.</p>"
        text += picture(classifier_plot(rows), "test error by step and epoch", "plot")
    return text


def _figures(figures: dict[str, Any]) -> str:
    """With spread, floor and where they come from."""
    found = single_figures(figures)
    if not found:
        return ""
    cells = "".join(
        f"<tr><th>{html.escape(name)}<td>{measured(each['value'])}<td>+- {measured(each['spread'])}"
        f"<td>{measured(each['floor'])}<td>{each['better']}<td class=why>{html.escape(provenance(each))}"
        for name, each in found.items()
    )
    warnings = {words for each in found.values() for words in each.get("warnings", ())}
    said = "".join(f"<li>{html.escape(words)}" for words in sorted(warnings))
    head = "<tr><th><th>value<th>spread<th>floor<th>better<th>from"
    return (
        "<p>The floor is the same figure between two halves of real images: no generator gets beyond it.</p>"
        f"<div class=wide><table>{head}{cells}</table></div>" + (f"<ul>{said}</ul>" if said else "")
    )


def _doctor(notes: Notes | None) -> str:
    if notes is None:
        return ""
    text = f"<p>{html.escape(notes.verdict.capitalize())}.</p>"
    for note in notes.found:
        remedies = "".join(f"<li><code>{html.escape(remedy)}</code>" for remedy in note.remedies)
        text += (
            f"<p><strong>{html.escape(note.title)}</strong>: {html.escape(note.text)}. Worth a try:<ul>{remedies}</ul>"
        )
    if notes.not_examined:
        text += f"<p>Not examined: {html.escape('; '.join(notes.not_examined))}.</p>"
    return text


def _recipe(config: str) -> str:
    """The resolved recipe, as text and as a file to save, and how to train from it."""
    link = f"data:text/yaml;base64,{base64.b64encode(config.encode()).decode()}"
    return (
        f"<p>Repeat this run: save <a download=config.yaml href='{link}'>config.yaml</a>, then "
        f"<code>twoplayer train config.yaml</code>.</p><pre>{html.escape(config)}</pre>"
    )


def picture(content: bytes, alt: str, style: str = "") -> str:
    """An image, PNG or WebP, inside the page itself."""
    kind = "webp" if content[8:12] == b"WEBP" else "png"
    data = base64.b64encode(content).decode()
    return f"<img class='{style}' alt='{html.escape(alt)}' src='data:image/{kind};base64,{data}'>"
