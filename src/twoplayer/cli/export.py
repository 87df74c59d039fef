"""`twoplayer export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run, or of an exported generator.")],
    format: Annotated[str, typer.Option(help="safetensors (a folder with a model card), onnx, html (one page).")],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Where to; a folder for safetensors.")] = None,
    licence: Annotated[
        str, typer.Option("--license", metavar="ID", help="For the model card, as an SPDX id such as cc-by-4.0.")
    ] = "",
    push: Annotated[
        str | None, typer.Option(metavar="ORG/NAME", help="Also put the safetensors folder on the hub; it is private.")
    ] = None,
) -> None:
    """Let the trained generator leave in a format that others use."""
    import twoplayer as tp
    from twoplayer.core.console import say
    from twoplayer.core.errors import UserError
    from twoplayer.export.format import Leaving, format_called, require_free
    from twoplayer.export.push import pushed
    from twoplayer.runs.cards import generator_card

    chosen = format_called(format)
    if push is not None and chosen.ending:
        raise UserError(f"--push takes a folder: say --format safetensors, not {format}")
    found = tp.load_generator(run)
    out = out or Path(f"{run.resolve().name}-generator{chosen.ending}")
    require_free(out, chosen.ending)
    card = generator_card(found.info, found.figures, licence)
    for line in chosen.write(Leaving(found.generator, found.info, card), out):
        say(line)
    typer.echo(str(out))
    if push is not None:
        typer.echo(pushed(out, push))
