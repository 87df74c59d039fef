"""Two parallel lines at distance theta, and what four distances say about them; `docs/distances.md` explains it.

    python examples/parallel_lines.py --out parallel-lines.png

Both lines are one unit high and hold evenly spaced points with equal mass: one at 0, the other at theta. The numbers
are computed, none is put in by hand.

Source: Arjovsky, Chintala and Bottou 2017, https://arxiv.org/abs/1701.07875, example 1.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twoplayer.metrics.distances import common_support, earth_mover, jensen_shannon, kullback_leibler, total_variation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

COLORS = {"TV": "#66a182", "KL": "#d1495b", "JS": "#c98a00", "EM": "#00798c"}
TITLES = {"TV": "total variation", "KL": "Kullback-Leibler", "JS": "Jensen-Shannon", "EM": "earth mover's"}
LESSONS = {
    "TV": "flat: no slope to follow",
    "KL": "infinite wherever θ is not 0:\nno slope to follow",
    "JS": "flat: no slope to follow",
    "EM": "slope 1 on either side:\nfollow it down to 0",
}
INK = "0.25"


def line(place: float, n_points: int) -> Array:
    """Evenly spaced points on a vertical line of height 1, [n_points, 2]."""
    return np.column_stack([np.full(n_points, place), np.linspace(0.0, 1.0, n_points)])


def distances(thetas: ArrayLike, n_points: int = 16) -> dict[str, Array]:
    """TV, KL, JS and EM between the line at 0 and the line at theta, each with the shape of `thetas`, [T].

    Where theta is 0 the lines share their points; elsewhere they share none.
    """
    rows = []
    for theta in np.asarray(thetas, dtype=np.float64):
        p, q, points = common_support(line(0.0, n_points), line(theta, n_points))
        rows.append((total_variation(p, q), kullback_leibler(p, q), jensen_shannon(p, q), earth_mover(p, q, points)))
    return dict(zip(("TV", "KL", "JS", "EM"), np.array(rows).T, strict=True))


def table(thetas: ArrayLike, values: dict[str, Array]) -> str:
    """The numbers as text, one line for each theta."""
    lines = [f"{'theta':>6}" + "".join(f"{name:>9}" for name in values)]
    for theta, *row in zip(np.asarray(thetas), *values.values(), strict=True):
        lines.append(f"{theta:>6.2f}" + "".join(f"{value:>9.4f}" for value in row))
    return "\n".join(lines) + f"\nlog 2 = {math.log(2):.4f}\n"


def draw(thetas: Array, values: dict[str, Array]) -> Figure:
    """The two lines, and each distance against theta. `thetas` ascend and have 0 among them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(10, 5.2), dpi=120, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08))
    FigureCanvasAgg(figure)
    panels = figure.subplot_mosaic([["lines", "TV", "KL"], ["lines", "JS", "EM"]], width_ratios=[0.8, 1, 1])
    _draw_lines(panels["lines"])
    for name in values:
        _draw_distance(panels[name], name, thetas, values[name])
    return figure


def _draw_lines(axes: Axes, theta: float = 0.6) -> None:
    for place, color, label in ((0.0, INK, "real"), (theta, COLORS["EM"], "fake")):
        points = line(place, 16)
        axes.plot(*points.T, color=color, linewidth=1.2, marker="o", markersize=4.5)
        axes.text(place, 1.05, label, color=color, ha="center", va="bottom", fontsize=11)
    arrow = {"arrowstyle": "<->", "color": INK, "shrinkA": 4, "shrinkB": 4}
    axes.annotate("", (0.0, 0.5), (theta, 0.5), arrowprops=arrow)
    axes.text(theta / 2, 0.53, "θ", color=INK, ha="center", va="bottom", fontsize=14)
    axes.set(xlim=(-0.25, theta + 0.25), ylim=(-0.1, 1.18))
    axes.set_title("two parallel lines", loc="left", fontsize=11)
    axes.set_axis_off()


def _draw_distance(axes: Axes, name: str, thetas: Array, values: Array) -> None:
    ceiling = 1.0
    infinite = np.isinf(values)
    heights = np.where(infinite, ceiling, values)
    style: dict[str, Any] = {"color": COLORS[name], "linewidth": 2.2}
    (zero,) = np.nonzero(thetas == 0.0)[0]
    jumps = abs(heights[zero + 1] - heights[zero]) > ceiling / 2
    if jumps:
        for side in (thetas < 0, thetas > 0):
            axes.plot(thetas[side], heights[side], linestyle=":" if infinite.any() else "-", **style)
        axes.plot(0.0, heights[zero + 1], marker="o", markersize=7, markerfacecolor="white", **style)
        axes.plot(0.0, heights[zero], marker="o", markersize=7, **style)
    else:
        axes.plot(thetas, heights, **style)
    ticks = {"JS": {0.0: "0", math.log(2.0): "log 2"}, "KL": {0.0: "0", ceiling: "∞"}}.get(name, {0.0: "0", 1.0: "1"})
    axes.set_yticks(list(ticks), list(ticks.values()))
    axes.set(ylim=(-0.1, 1.2), xticks=[-1, 0, 1], xlabel="θ")
    axes.set_title(f"{TITLES[name]} ({name})", loc="left", fontsize=11)
    middle = heights.max() / 2 if jumps else 0.82
    axes.text(0.0, middle, LESSONS[name], color=INK, ha="center", va="center", fontsize=9, backgroundcolor="white")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table and writes the picture."""
    parser = argparse.ArgumentParser(description="Four distances between two parallel lines.")
    parser.add_argument("--out", type=Path, default=Path("parallel-lines.png"), help="the picture (PNG)")
    out = parser.parse_args(argv).out
    if not out.parent.is_dir():
        parser.error(f"{out.parent}: no such folder")
    thetas = np.linspace(-1.0, 1.0, 41)
    values = distances(thetas)
    draw(thetas, values).savefig(out, format="png")
    some = slice(None, None, 5)
    sys.stdout.write(table(thetas[some], {name: row[some] for name, row in values.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
