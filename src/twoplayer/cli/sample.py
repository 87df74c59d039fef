"""`twoplayer sample`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from twoplayer.drawing import Sampler

SHARDS = "shards:"


def sample(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")],
    n: Annotated[int, typer.Option("--n", "-n", help="How many pictures.")] = 25,
    seed: Annotated[int, typer.Option(help="Which pictures.")] = 0,
    best_of: Annotated[int, typer.Option(metavar="K", help="Draw K times as many, keep those D finds most real.")] = 1,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="L", help="A class of a conditional run, by name or id; more than once for several."),
    ] = None,
    truncation: Annotated[float, typer.Option(metavar="PSI", help="Below 1: nearer to the average picture.")] = 1.0,
    grid: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Write one tiled picture here.")] = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER|shards:FOLDER",
            help="Write single pictures here; with shards: as tar files, by one process or several (torchrun).",
        ),
    ] = None,
    per_shard: Annotated[int, typer.Option(metavar="N", help="Pictures in each of the shards.")] = 10_000,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "cpu",
) -> None:
    """Draw pictures from a trained generator. The same seed gives the same pictures."""
    import twoplayer as tp
    from twoplayer.core.errors import UserError
    from twoplayer.core.ranks import are_several
    from twoplayer.runs.grid import save_png, write_pictures

    if grid is not None and out is not None:
        raise UserError("say either --grid FILE.png or --out FOLDER")
    how: dict[str, Any] = {"best_of": best_of, "truncation": truncation}
    if out is not None and out.startswith(SHARDS):
        folder = Path(out.removeprefix(SHARDS)).expanduser()
        shards(lambda: tp.load_generator(run, device), folder, n, seed, label, per_shard=per_shard, **how)
        return
    if are_several():
        raise UserError("several processes draw together with --out shards:FOLDER only")
    trained = tp.load_generator(run, device)
    how["labels"] = classes_said(label, trained.info.class_names)
    if out is not None:
        write_pictures(trained.sample_blocks(n, seed, **how), Path(out))
        typer.echo(out)
        return
    grid = grid or Path(f"{run.resolve().name}-seed-{seed}.png")
    if grid.suffix.lower() != ".png":
        raise UserError(f"--grid {grid}: the name has to end in .png")
    facts: dict[str, str | int | float] = {"run": run.name, "seed": seed, "best_of": best_of, "truncation": truncation}
    if label:
        facts["labels"] = " ".join(label)
    save_png(trained.grid(n, seed, **how), grid, facts)
    typer.echo(str(grid))


def shards(load: Callable[[], Sampler], folder: Path, n: int, seed: int, label: list[str] | None, **how: Any) -> None:
    """Write shards, together with the other processes where there are some; the first one says where they are.

    The generator is loaded when all are there: who cannot load it ends the others.
    """
    import torch

    from twoplayer.core.joining import joined
    from twoplayer.data.prepared import nobody
    from twoplayer.loading import counted

    with (
        joined(torch.device("cpu")) as ranks,
        counted("drawing pictures") if ranks.writes else nullcontext(nobody) as told,
    ):
        trained = load()
        labels = classes_said(label, trained.info.class_names)
        trained.write_shards(folder, n, seed, labels=labels, **how, ranks=ranks, told=told)
        if ranks.writes:
            typer.echo(f"{SHARDS}{folder}")


def class_said(text: str, names: tuple[str, ...]) -> str | int:
    """A name, or the id that a number means where no class has that name."""
    return int(text) if text not in names and text.isdecimal() else text


def classes_said(texts: list[str] | None, names: tuple[str, ...]) -> list[str | int] | None:
    """The same of several; None where nothing was said."""
    return [class_said(text, names) for text in texts] if texts else None
