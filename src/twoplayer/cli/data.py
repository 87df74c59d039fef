"""`twoplayer data`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer


def data(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="digits, mnist, folder:PATH, FILE.zip, shards-{000..009}.tar, ...")
    ],
    sheet: Annotated[
        Path | None, typer.Option(help="Where to draw some of the pictures (default: NAME-pictures.png here).")
    ] = None,
) -> None:
    """Say what a data source holds, what would be used of it, and what is wrong with it; nothing is prepared."""
    import torch

    from twoplayer.core.errors import UserError
    from twoplayer.data.inspect import describe, problems
    from twoplayer.data.source import open_source, title_of
    from twoplayer.recipes.load import AUTO
    from twoplayer.runs.grid import save_png, tile

    opened = open_source(source)
    survey = opened.survey("train")
    for label, text in describe(survey, opened.text).items():
        typer.echo(f"{label:8} {text}")
    for problem in problems(survey):
        typer.echo(f"warning  {problem}")
    if not survey.n:
        raise UserError(f"{source} cannot be used before that is mended")
    place = sheet or Path(f"{title_of(opened.text)}-pictures.png")
    save_png(tile(torch.from_numpy(survey.sheet)), place)
    typer.echo(f"sheet    {place}")
    typer.echo(f"train    {shlex.join(['twoplayer', 'train', AUTO, '--data', source])}")
