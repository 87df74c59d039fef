"""`twoplayer compare`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN RUN ...", help="Folders of runs, or of runs with several seeds.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    page: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page with grids and curves.")
    ] = None,
) -> None:
    """Put runs side by side. Figures that were made in different ways are shown, but not ranked."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from twoplayer.comparison import BEST, SPREADS, cell_text
    from twoplayer.comparison import compare as put_side_by_side

    found = put_side_by_side(runs)
    if page is not None:
        found.write_page(page)
    if as_json:
        typer.echo(json.dumps(found.as_json()))
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("figure", no_wrap=True, overflow="fold")
    for name in (*found.names, "floor"):
        table.add_column(escape(name), justify="right", overflow="fold")
    for line in found.lines:
        cells = [
            f"[bold green]{cell_text(cell)} *[/]" if place in line.best else cell_text(cell)
            for place, cell in enumerate(line.cells)
        ]
        table.add_row(line.figure, *cells, "" if line.floor is None else f"{line.floor:.4g}")
    console = Console(highlight=False)
    console.print(table)
    console.print(BEST)
    console.print(f"+- {SPREADS}", soft_wrap=True, markup=False)
    for text in found.notes():
        console.print(text, soft_wrap=True, markup=False)
    if page is not None:
        console.print(f"page     {page}", soft_wrap=True, markup=False)
