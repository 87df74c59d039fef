"""The plots of a run, drawn with matplotlib (imported here only, and only when a report is made)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import partial
from operator import mul

from twoplayer.runs.log import CLASSIFIER_ERROR, Row

PLAYERS = {"generator": "#d1495b", "discriminator": "#00798c", "real": "#66a182", "fake": "#edae49"}

MARGINS = {"left": 0.125, "right": 0.97, "bottom": 0.12, "top": 0.87}
"""Room for numbers of eight characters; a layout that measures them first is slower."""


def loss_plot(rows: Sequence[Row]) -> bytes:
    """Losses of both players and D's parts against steps, with the epochs on a second axis. PNG."""
    keys = [f"loss/{part}" for part in PLAYERS]
    return _plot(rows, keys, "loss", None)


def score_plot(rows: Sequence[Row]) -> bytes:
    """The scores in [0, 1] with the ideal 0.5 marked. PNG."""
    return _plot(rows, ["score/generator", "score/discriminator"], "score", (0.0, 1.0))


def classifier_plot(rows: Sequence[Row]) -> bytes:
    """The share of test images that the classifier names wrongly, against steps. PNG."""
    return _plot(rows, [CLASSIFIER_ERROR], "share of test images", None)


def has_classifier(rows: Sequence[Row]) -> bool:
    """Whether D names classes and was tested on the way."""
    return any(row.get(CLASSIFIER_ERROR) is not None for row in rows)


def has_scores(rows: Sequence[Row]) -> bool:
    """Whether D has a probability in this game."""
    return any(row.get("score/generator") is not None for row in rows)


def _plot(rows: Sequence[Row], keys: Sequence[str], label: str, limits: tuple[float, float] | None) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), dpi=110)
    FigureCanvasAgg(figure)
    axes = figure.subplots(gridspec_kw=MARGINS)
    for key in keys:
        points = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
        name = key.split("/")[1]
        title = f"discriminator on {name}" if name in ("real", "fake") else name.replace("_", " ")
        if points:
            steps, values = zip(*points, strict=True)
            marker = "o" if len(points) == 1 else None
            axes.plot(steps, values, label=title, color=PLAYERS.get(name, "#2f4858"), linewidth=1.4, marker=marker)
    if limits:
        axes.set_ylim(*limits)
        axes.axhline(0.5, color="0.6", linewidth=1, linestyle="--", label="ideal")
    axes.set(xlabel="step", ylabel=label)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, ncols=2, fontsize=9)
    ratio = _epochs_per_step(rows)
    if ratio:
        epochs = axes.secondary_xaxis("top", functions=(partial(mul, ratio), partial(mul, 1 / ratio)))
        epochs.set_xlabel("epoch")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _epochs_per_step(rows: Sequence[Row]) -> float:
    last = rows[-1] if rows else {}
    return float(last["epoch"] or 0) / float(last["step"] or 1) if last else 0.0
