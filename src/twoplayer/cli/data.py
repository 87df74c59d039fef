"""`twoplayer data`."""

from __future__ import annotations

from typing import Annotated

import typer


def data(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="digits, mnist, folder:PATH, FILE.npz, ...")],
) -> None:
    """Say what a data source is, what would be used of it, and what is wrong with it."""
    from twoplayer.data.inspect import describe, problems, train_command
    from twoplayer.data.source import open_source

    loaded = open_source(source).load("train", None, None)
    facts = describe(loaded)
    for label, text in facts.items():
        typer.echo(f"{label:8} {text}")
    for problem in problems(loaded):
        typer.echo(f"warning  {problem}")
    typer.echo(f"train    {train_command(loaded)}")
