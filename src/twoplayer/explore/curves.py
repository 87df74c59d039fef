"""Curves over steps as SVG.

A page that is open draws them anew with nearly each line of the log of a run that trains beside it, on the same
processor: they have to cost next to nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from twoplayer.runs.log import Row

MOST_POINTS = 200
"""Of a curve: more are not told apart on a screen."""

WIDTH, HEIGHT = 1000.0, 260.0
"""Of the drawing in its own units; the page stretches it, lines and words keep their size."""


def chart(
    rows: Sequence[Row],
    keys: Mapping[str, tuple[str, str]],
    limits: tuple[float, float] | None = None,
    level: float | None = None,
) -> str:
    """HTML of some figures of a log, with axes, and a legend that says the last values.

    Args:
        rows: the log.
        keys: for each figure its name in words and its CSS color, in the order of the legend.
        limits: of the vertical axis; None for the smallest and largest value.
        level: where a dashed line is drawn across.

    Returns:
        an empty text when none of the figures is in the log.
    """
    curves = {key: points for key in keys if (points := _points(rows, key))}
    if not curves:
        return ""
    steps = [step for points in curves.values() for step, _ in points]
    values = [value for points in curves.values() for _, value in points]
    first, last = min(steps), max(steps)
    low, high = limits or _room(min(values), max(values))
    across, up = WIDTH / max(last - first, 1), HEIGHT / (high - low)

    def path(points: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{(step - first) * across:.1f},{(high - value) * up:.1f}" for step, value in points)

    marks = ticks(low, high)
    lines = [_line(f"0,{(high - each) * up:.1f} {WIDTH},{(high - each) * up:.1f}", "chart-rule") for each in marks]
    if level is not None:
        lines.append(_line(f"0,{(high - level) * up:.1f} {WIDTH},{(high - level) * up:.1f}", "chart-level"))
    lines += [_line(path(_drawn(points)), "chart-curve", keys[key][1]) for key, points in curves.items()]
    sides = "".join(f'<span style="top:{(high - each) / (high - low):.1%}">{each:.10g}</span>' for each in marks)
    legend = "".join(
        f'<span class="plane-key"><i class="plane-line" style="--mark:{keys[key][1]}"></i>'
        f"{escape(keys[key][0])} {points[-1][1]:.3g}</span>"
        for key, points in curves.items()
    )
    size = f'viewBox="0 0 {WIDTH:g} {HEIGHT:g}" preserveAspectRatio="none"'
    box = f'<svg {size} aria-hidden="true">{"".join(lines)}</svg>'
    return (
        f'<div class="chart"><div class="chart-sides">{sides}</div><div class="chart-box">{box}</div>'
        f'<div class="chart-steps"><span>{first:,}</span><span>{last:,}</span></div></div>'
        f'<div class="plane-legend">{legend}</div>'
    )


def ticks(low: float, high: float) -> list[float]:
    """Round numbers from low to high, two to five steps apart, the ends included where they are round."""
    most = (high - low) / 2
    power = 10.0 ** math.floor(math.log10(most) + 1e-9)
    step = next(each * power for each in (5.0, 2.0, 1.0) if each * power <= 1.001 * most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(place * step, 1 - math.floor(math.log10(step))) for place in range(first, last + 1)]


def _points(rows: Sequence[Row], key: str) -> list[tuple[float, float]]:
    every = -(-len(rows) // MOST_POINTS) or 1
    found = [(row["step"], row.get(key)) for row in rows[::-every][::-1]]
    return [(step or 0, value) for step, value in found if value is not None and math.isfinite(value)]


def _room(low: float, high: float) -> tuple[float, float]:
    """Both ends with a little room; a constant stands in the middle."""
    edge = 0.04 * (high - low) or 0.1 * abs(high) or 1.0
    return low - edge, high + edge


def _drawn(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """A single point is drawn as a dot: a line of no length with round ends."""
    return points * 2 if len(points) == 1 else points


def _line(points: str, kind: str, color: str | None = None) -> str:
    ink = f' style="--mark:{color}"' if color else ""
    return f'<polyline class="{kind}"{ink} points="{points}" vector-effect="non-scaling-stroke"/>'
