"""One self-contained page that shows runs side by side: their grids, their curves, their figures."""

from __future__ import annotations

import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from twoplayer.runs.files import write_text
from twoplayer.runs.log import Row
from twoplayer.runs.report import page, picture

CURVES = {
    "loss/generator": "loss of the generator",
    "loss/discriminator": "loss of the discriminator",
    "score/generator": "generator score",
    "score/discriminator": "discriminator score",
}
WIDER = """
body { max-width: 84rem; }
.runs { display: grid; grid-template-columns: repeat(auto-fit, minmax(14rem, 1fr)); gap: 1rem; }
td.best { font-weight: 700; } td, th { white-space: nowrap; }
"""


@dataclass(frozen=True)
class Shown:
    """One entry of the page.

    Attributes:
        name: what it is called.
        grid: its last grid, PNG.
        rows: its log.
        about: what is worth knowing at a glance.
        made_from: where its figures come from.
    """

    name: str
    grid: bytes
    rows: Sequence[Row]
    about: str
    made_from: str


def write_compare_page(
    path: Path, entries: Sequence[Shown], head: Sequence[str], table: Sequence[Sequence[str]], spreads: str
) -> None:
    """Write the page.

    Args:
        path: of the file.
        entries: the runs.
        head: titles of the table's columns.
        table: its cells as HTML.
        spreads: what the spreads in it are, in words.
    """
    grids = "".join(
        f"<figure>{picture(entry.grid, entry.name)}<figcaption>{html.escape(entry.name)}<br>{html.escape(entry.about)}"
        "</figcaption></figure>"
        for entry in entries
    )
    origins: dict[str, list[str]] = {}
    for entry in entries:
        origins.setdefault(entry.made_from, []).append(entry.name)
    made_from = "".join(
        f"<li>{html.escape(', '.join(names) if len(origins) > 1 else 'all')}: {html.escape(text)}"
        for text, names in origins.items()
    )
    cells = "".join(f"<tr>{''.join(row)}" for row in table)
    titles = "".join(f"<th>{html.escape(title)}" for title in head)
    curves = "".join(
        picture(_curves(entries, key, title), title, "plot") for key, title in CURVES.items() if _has(entries, key)
    )
    body = [
        f"<h1>{len(entries)} runs</h1>",
        f"<h2>Samples</h2><div class=runs>{grids}</div>",
        "<h2>Figures</h2><p>Bold: the best, and what the spreads do not tell apart from it. The floor is what real "
        f"images get in the place of fakes. +-: {html.escape(spreads)}. Made from:</p><ul>{made_from}</ul>",
        f"<div class=wide><table><tr>{titles}{cells}</table></div>",
        f"<h2>Curves</h2>{curves}" if curves else "",
    ]
    write_text(path, page("twoplayer compare", "\n".join(body), style=WIDER))


def _has(entries: Sequence[Shown], key: str) -> bool:
    return any(row.get(key) is not None for entry in entries for row in entry.rows)


def _curves(entries: Sequence[Shown], key: str, title: str) -> bytes:
    """One curve for each run over thousands of real images, so that batch sizes do not matter. PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for entry in entries:
        points = [(row["kimg"], row[key]) for row in entry.rows if row.get(key) is not None]
        if points:
            kimg, values = zip(*points, strict=True)
            axes.plot(kimg, values, label=entry.name, linewidth=1.4, marker="o" if len(points) == 1 else None)
    axes.set(xlabel="thousand real images shown to the discriminator", ylabel=title)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
