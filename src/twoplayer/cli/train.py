"""`twoplayer train`."""

from __future__ import annotations

import os
import shlex
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RECIPE|FILE.yaml] [KEY=VALUE ...]",
        help="A recipe (default: digits; auto: made for --data) and what to change in it.",
    ),
]


def train(
    words: Words = None,
    data: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="Images instead of the recipe's: a name, folder or file.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="RUN", help="The run's folder (default: the next free runs/NAME-001).")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    other_processes: Annotated[
        bool,
        typer.Option("--other-processes", help="With --resume: by another number of processes than before."),
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    seed: Annotated[int | None, typer.Option(help="Of every random stream (default: the recipe's, usually 0).")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Train a GAN; everything about it goes into a run folder.

    Without arguments: the real handwritten digits inside scikit-learn, no download.
    """
    from twoplayer import api
    from twoplayer.core.errors import TrainingStopped

    recipe, overrides = split_words(words or [])
    if seed is not None:
        overrides.append(f"seed={seed}")
    try:
        run = api.train(
            recipe,
            *overrides,
            data=data,
            out=out,
            resume=resume,
            other_processes=other_processes,
            device=device,
            quiet=quiet,
        )
    except TrainingStopped as stopped:
        with suppress(OSError):  # whoever read stderr may be gone; the exit code still tells
            typer.echo(f"twoplayer: {stopped}", err=True)
        raise typer.Exit(stopped.exit_code) from None
    if os.environ.get("RANK", "0") != "0":
        return  # the first of several processes speaks for all
    typer.echo(f"run      {run.path}")
    if steps := run.folder.sample_steps():
        typer.echo(f"pictures {run.folder.sample_grid(steps[-1])}")
    typer.echo(f"report   {run.folder.report}")
    typer.echo(f"next     twoplayer sample {shlex.quote(str(run.path))} --n 100 --best-of 5")


def split_words(words: list[str]) -> tuple[str | None, list[str]]:
    """The recipe, if the first word names one, and the overrides."""
    if words and "=" not in words[0]:
        return words[0], words[1:]
    return None, words
