"""`twoplayer latents`: walks between pictures, sums of pictures, the latents of a given picture."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twoplayer.cli.sample import class_said

if TYPE_CHECKING:
    from torch import Tensor

    from twoplayer.drawing import Sampler

MOST_FRAMES = 10_000

app = typer.Typer(help="What a generator's latents mean: walks, sums, recovery.", no_args_is_help=True)

RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")]
Seed = Annotated[int, typer.Option(help="Which pictures: those of `twoplayer sample RUN --seed SEED`.")]
Label = Annotated[str | None, typer.Option(metavar="L", help="A class of a conditional run, by name or id.")]
PngPath = Annotated[Path, typer.Option(metavar="FILE.png", help="Write the picture here.")]
Numbers = Annotated[
    str, typer.Option(metavar="I,J,K", help="Numbers of pictures, counted from 0, whose latents are averaged.")
]


@app.command()
def walk(
    run: RunPath,
    out: Annotated[Path, typer.Option(metavar="FILE.gif|FILE.png", help="An animation, or a picture of all frames.")],
    stops: Annotated[int, typer.Option(help="How many pictures to pass: the first ones of the seed.")] = 5,
    frames: Annotated[int, typer.Option(help="Frames from each stop to the next.")] = 12,
    spherical: Annotated[
        bool | None,
        typer.Option(
            "--spherical/--linear",
            help="Keep the length of typical latents, or go straight (default: spherical for normal latents).",
            show_default=False,
        ),
    ] = None,
    seed: Seed = 0,
    label: Label = None,
) -> None:
    """Walk from picture to picture: a .gif goes round and round, a .png has one row for each way between two stops."""
    import twoplayer as tp
    from twoplayer.core.errors import UserError
    from twoplayer.runs.animation import write_gif
    from twoplayer.runs.grid import save_png, tile

    ending = _require_ending(out, ".gif", ".png")
    if stops < 2 or frames < 1 or stops * frames > MOST_FRAMES:
        raise UserError(
            f"--stops {stops} --frames {frames}: stops start at 2, frames at 1, their product ends at {MOST_FRAMES:,}"
        )
    trained = tp.load_generator(run)
    latents = trained.walk(range(stops), frames, seed, spherical=spherical, loop=ending == ".gif")
    pictures = trained.draw(latents, _label(trained, label))
    if ending == ".gif":
        write_gif(pictures, out)
    else:
        rows = pictures.unfold(0, frames + 1, frames).movedim(-1, 1)  # each begins where the one before ends
        facts: dict[str, str | int | float] = {
            "run": run.name,
            "seed": seed,
            "stops": stops,
            "frames": frames,
        }
        save_png(tile(rows.flatten(0, 1), frames + 1), out, facts)
    typer.echo(str(out))


@app.command()
def arithmetic(
    run: RunPath, plus: Numbers, minus: Numbers, plus_again: Numbers, out: PngPath, seed: Seed = 0, label: Label = None
) -> None:
    """Draw A - B + C of averaged latents, for example smiling woman - neutral woman + neutral man.

    The columns A, B, C show the exemplars and, a row apart, their averages. In the 3x3 the result is in the middle,
    around it are small variations.
    """
    import twoplayer as tp
    from twoplayer.core.rng import Stream
    from twoplayer.evaluation.latents import variations
    from twoplayer.runs.grid import save_png, tile

    _require_ending(out, ".png")
    options = {"--plus": plus, "--minus": minus, "--plus-again": plus_again}
    first, second, third = (_numbers(option, text) for option, text in options.items())
    trained = tp.load_generator(run)
    chosen = _label(trained, label)
    columns = [_with_average(trained, trained.latents_of(numbers, seed), chosen) for numbers in (first, second, third)]
    around = variations(trained.arithmetic(first, second, third, seed), Stream(seed).child("variations"))
    titles = ("A", "- B", "+ C", "", "", "result", "")
    picture = tile(_sum_tiles(columns, trained.draw(around, chosen)), len(titles), titles)
    save_png(picture, out, {"run": run.name, "seed": seed, "plus": plus, "minus": minus, "plus_again": plus_again})
    typer.echo(str(out))


def _with_average(trained: Sampler, exemplars: Tensor, label: str | int | None) -> Tensor:
    """Pictures of latents [K, latent_dim] and of their average: uint8 [K + 1, C, H, W]."""
    import torch

    return trained.draw(torch.cat([exemplars, exemplars.mean(0, keepdim=True)]), label)


def _sum_tiles(columns: list[Tensor], nine: Tensor) -> Tensor:
    """A grid of 7 columns: the concepts, a row apart their averages, a column apart the 3x3."""
    import torch

    from twoplayer.runs.grid import GAP_TONE

    rows = max(*map(len, columns), 4) + 1
    tiles = torch.full((rows, 7, *nine.shape[1:]), GAP_TONE, dtype=torch.uint8)
    for place, pictures in enumerate(columns):
        tiles[: len(pictures) - 1, place] = pictures[:-1]
        tiles[-1, place] = pictures[-1]
    tiles[:3, 4:] = nine.unflatten(0, (3, 3))
    return tiles.flatten(0, 1)


@app.command()
def recover(
    run: RunPath,
    picture: Annotated[Path, typer.Argument(metavar="PICTURE", help="Any picture; it is resized to the run's size.")],
    out: PngPath,
    steps: Annotated[int, typer.Option(help="Steps of the search.")] = 500,
    restarts: Annotated[int, typer.Option(help="Random beginnings of the search.")] = 8,
    seed: Annotated[int, typer.Option(help="Which beginnings.")] = 0,
    label: Label = None,
) -> None:
    """Search the latents of a given picture; draws the picture and, right of it, the nearest one found."""
    import torch

    import twoplayer as tp
    from twoplayer.core.errors import UserError
    from twoplayer.data.form import Form
    from twoplayer.data.pictures import read_picture
    from twoplayer.runs.grid import save_png, tile

    _require_ending(out, ".png")
    if steps < 1 or not 1 <= restarts <= 1024 or seed < 0:
        raise UserError(
            f"--steps {steps} --restarts {restarts} --seed {seed}: steps start at 1, restarts are 1 to 1024, "
            "the seed starts at 0"
        )
    trained = tp.load_generator(run)
    channels, height, width = trained.info.image_shape
    if not picture.is_file():
        raise UserError(f"{picture}: no such file")
    target = torch.tensor(read_picture(picture, Form(height if height == width else None, channels)))
    with _progress(steps) as watch:
        found = trained.recover(target, _label(trained, label), restarts=restarts, steps=steps, seed=seed, watch=watch)
    both = tile(torch.stack([target, found.picture]), 2, ("given", "found"))
    save_png(both, out, {"run": run.name, "picture": picture.name, "steps": steps, "seed": seed, "error": found.error})
    typer.echo(f"error    {found.error:.6f} (mean squared, pixels in [-1, 1])")
    if len(ids := trained.label_ids(_label(trained, label))) > 1:
        typer.echo(f"label    {trained.info.class_names[ids[found.row % len(ids)]]}")
    typer.echo(str(out))


@contextmanager
def _progress(steps: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr where that is a terminal; yields what is to be told each finished step."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("search", total=steps)
        yield lambda step: bar.update(task, completed=step)


def _label(trained: Sampler, text: str | None) -> str | int | None:
    return None if text is None else class_said(text, trained.info.class_names)


def _numbers(option: str, text: str) -> list[int]:
    """The numbers in "3,17,40". Raises UserError."""
    from twoplayer.core.errors import UserError

    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and part.isascii() for part in parts):
        raise UserError(f"{option} {text}: has to be numbers of pictures with commas between, for example 3,17,40")
    return [int(part) for part in parts]


def _require_ending(path: Path, *endings: str) -> str:
    """The ending of a file to write, in lower case. Raises UserError when it is another."""
    from twoplayer.core.errors import UserError

    if path.suffix.lower() not in endings:
        raise UserError(f"--out {path}: the name has to end in {' or '.join(endings)}")
    return path.suffix.lower()
