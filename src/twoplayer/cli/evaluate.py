"""`twoplayer evaluate`."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

PATIENCE = timedelta(days=7)
"""Of several processes: the others wait while the first one fits an extractor or compares a million images."""


def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")],
    n: Annotated[int, typer.Option("--n", "-n", help="Fakes, and real images, in each figure.")] = 2000,
    seeds: Annotated[int, typer.Option(help="How often each random figure is taken anew.")] = 3,
    extractor: Annotated[
        str, typer.Option(help="Whose features are compared: auto, classifier-cnn, random-cnn, inception.")
    ] = "auto",
    every: Annotated[bool, typer.Option("--every", help="Also each checkpoint that is still there.")] = False,
    gan_train: Annotated[
        bool, typer.Option("--gan-train", help="Of a conditional run: also train classifiers on fakes, test on reals.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Judge a run on images that it was not trained on, where its data has a test split. Writes RUN/evaluation.json."""
    import torch
    from rich.console import Console

    import twoplayer as tp
    from twoplayer.core.joining import joined
    from twoplayer.evaluation.figure_table import remarks
    from twoplayer.evaluation.figures import provenance

    with joined(torch.device("cpu"), PATIENCE) as ranks:
        figures = tp.load(run).evaluate(n, seeds, extractor, every, gan_train, ranks)
    if not ranks.writes:
        return
    if as_json:
        typer.echo(json.dumps(figures))
        return
    console = Console(highlight=False)
    for line in provenance(figures):
        console.print(line, soft_wrap=True, markup=False)
    console.print(table(figures))
    for line in remarks(figures):
        console.print(line, soft_wrap=True, markup=False)
    console.print(f"written  {run / 'evaluation.json'}", soft_wrap=True, markup=False)


def table(figures: dict[str, dict[str, Any]]) -> Table:
    """Figures in rows; the floor is what real images would get in the place of the fakes."""
    from rich import box
    from rich.table import Table

    from twoplayer.evaluation.figure_table import HEAD, rows

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for place, name in enumerate(HEAD):
        made.add_column(name, justify="right" if 0 < place < len(HEAD) - 1 else "left", overflow="fold")
    for row in rows(figures):
        made.add_row(*row)
    return made
