"""`twoplayer sample`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def sample(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")],
    n: Annotated[int, typer.Option(help="How many pictures.")] = 25,
    seed: Annotated[int, typer.Option(help="Which pictures.")] = 0,
    best_of: Annotated[int, typer.Option(metavar="K", help="Draw K times as many, keep those D finds most real.")] = 1,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="L", help="A class of a conditional run, by name or id; more than once for several."),
    ] = None,
    truncation: Annotated[float, typer.Option(metavar="PSI", help="Below 1: nearer to the average picture.")] = 1.0,
    grid: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Write one tiled picture here.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Write single pictures here.")] = None,
) -> None:
    """Draw pictures from a trained generator. The same seed gives the same pictures."""
    import twoplayer as tp
    from twoplayer.core.errors import UserError
    from twoplayer.runs.grid import save_png, write_pictures

    trained = tp.load_generator(run)
    labels = [class_said(text, trained.info.class_names) for text in label] if label else None
    if grid is not None and out is not None:
        raise UserError("say either --grid FILE.png or --out FOLDER")
    if out is not None:
        write_pictures(trained.sample_blocks(n, seed, best_of, labels, truncation), out)
        typer.echo(str(out))
        return
    grid = grid or Path(f"{run.resolve().name}-seed-{seed}.png")
    if grid.suffix.lower() != ".png":
        raise UserError(f"--grid {grid}: the name has to end in .png")
    facts: dict[str, str | int | float] = {"run": run.name, "seed": seed, "best_of": best_of, "truncation": truncation}
    if label:
        facts["labels"] = " ".join(label)
    save_png(trained.grid(n, seed, best_of, labels, truncation), grid, facts)
    typer.echo(str(grid))


def class_said(text: str, names: tuple[str, ...]) -> str | int:
    """A name, or the id that a number means where no class has that name."""
    return int(text) if text not in names and text.isdecimal() else text
