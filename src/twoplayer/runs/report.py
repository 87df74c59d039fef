"""report.html: one self-contained file that shows what a run did."""

from __future__ import annotations

import base64
import html
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from twoplayer.runs.files import write_text
from twoplayer.runs.folder import RunFolder
from twoplayer.runs.log import Row, read_rows
from twoplayer.runs.plots import classifier_plot, has_classifier, has_scores, loss_plot, score_plot

logger = logging.getLogger("twoplayer")

SHOWN_EPOCHS = (1, 2, 4, 10, 50, 100)

STYLE = """
:root { color-scheme: light dark; --line: #8884; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.2rem; border-bottom: 1px solid var(--line); }
img { max-width: 100%; height: auto; image-rendering: pixelated; } img.plot { background: #fff; image-rendering: auto; }
table { border-collapse: collapse; } td, th { padding: .2rem .8rem .2rem 0; text-align: left; vertical-align: top; }
.epochs { display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); gap: 1rem; }
figure { margin: 0; } figcaption { color: gray; } pre { overflow: auto; background: #8881; padding: 1rem; }
"""


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
    name = html.escape(folder.path.resolve().name)
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{name}</title>",
        "<meta name=viewport content='width=device-width, initial-scale=1'>",
        f"<style>{STYLE}</style><h1>{name}</h1>",
        _summary(rows, environment),
        _samples(folder),
        _doctor(notes),
        _levels(folder, rows) or _plots(rows),
        "<h2>Recipe</h2><p>Repeat this run: <code>twoplayer train config.yaml</code></p>",
        f"<pre>{html.escape(config)}</pre>",
        f"<h2>Environment</h2><pre>{html.escape(json.dumps(environment, indent=2))}</pre></html>",
    ]
    write_text(folder.report, "\n".join(parts))


def epoch_grids(folder: RunFolder) -> dict[int, Path]:
    """The grid made at the end of each of the epochs 1, 2, 4, 10, 50, 100, as far as they were reached."""
    found: dict[int, Path] = {}
    for step in folder.sample_steps():
        path = folder.sample_grid(step)
        try:
            with Image.open(path) as picture:
                epoch = picture.info.get("epoch_ended", "")
        except OSError:
            logger.warning("grid left out of the report, it cannot be read: %s", path)
            continue
        if epoch and int(epoch) in SHOWN_EPOCHS:
            found[int(epoch)] = path
    return dict(sorted(found.items()))


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
    facts |= {
        "device": str(environment["device"]),
        "data": str(environment["data"]["source"]),
    }
    cells = "".join(f"<tr><th>{key}<td>{html.escape(value)}" for key, value in facts.items())
    return f"<table>{cells}</table>"


def _doctor(notes: Notes | None) -> str:
    if notes is None:
        return ""
    page = f"<h2>Doctor</h2><p>{html.escape(notes.verdict.capitalize())}.</p>"
    for note in notes.found:
        remedies = "".join(f"<li><code>{html.escape(remedy)}</code>" for remedy in note.remedies)
        page += (
            f"<p><strong>{html.escape(note.title)}</strong>: {html.escape(note.text)}. Worth a try:<ul>{remedies}</ul>"
        )
    if notes.not_examined:
        page += f"<p>Not examined: {html.escape('; '.join(notes.not_examined))}.</p>"
    return page


def _levels(folder: RunFolder, rows: list[Row]) -> str:
    """How far a pyramid's levels are, with links to their reports."""
    last = {row["level"]: row for row in rows if row.get("level") is not None}
    if not last:
        return ""
    cells = "".join(
        f"<tr><td><a href='levels/{number}/report.html'>level {number}</a><td>{row['step']:,}<td>{row['epoch']:.1f}"
        f"<td>{row['seconds']:,.0f} s"
        for number, row in last.items()
    )
    head = "<tr><th><th>steps<th>epochs<th>time"
    return f"<h2>Levels</h2><p>Coarsest first; each is a run of its own.</p><table>{head}{cells}</table>"


def _samples(folder: RunFolder) -> str:
    steps = folder.sample_steps()
    if not steps:
        return ""
    last = f"<h2>Samples</h2><p>Step {steps[-1]:,}, fixed latents, evaluation mode.</p>"
    last += picture(folder.sample_grid(steps[-1]).read_bytes(), "samples at the end")
    grids = "".join(
        f"<figure>{picture(path.read_bytes(), f'epoch {epoch}')}<figcaption>epoch {epoch}</figcaption></figure>"
        for epoch, path in epoch_grids(folder).items()
    )
    return last + (f"<h2>Epochs</h2><div class=epochs>{grids}</div>" if grids else "")


def _plots(rows: list[Row]) -> str:
    if not rows:
        return ""
    page = "<h2>Losses</h2>" + picture(loss_plot(rows), "losses by step and epoch", "plot")
    if has_scores(rows):
        page += "<h2>Scores</h2><p>Generator: mean D(fake). Discriminator: mean of D(real) and 1 - D(fake).</p>"
        page += picture(score_plot(rows), "scores by step and epoch", "plot")
    if has_classifier(rows):
        page += "<h2>Classifier</h2><p>Errors of the averaged discriminator on the test split.</p>"
        page += picture(classifier_plot(rows), "test error by step and epoch", "plot")
    return page


def picture(png: bytes, alt: str, style: str = "") -> str:
    """An image inside the page itself."""
    data = base64.b64encode(png).decode()
    return f"<img class='{style}' alt='{html.escape(alt)}' src='data:image/png;base64,{data}'>"
