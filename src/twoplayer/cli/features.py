"""`twoplayer features`: what a discriminator has learned to see."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import twoplayer as tp
    from twoplayer.evaluation.features import LabelProbe, Probe
    from twoplayer.evaluation.guided import Responses

MOST_IMAGES = 2048
"""Looked at for the strongest responses."""

SHOWN_IMAGES = 4
"""Of each channel."""

app = typer.Typer(help="What a discriminator has learned to see.", no_args_is_help=True)

RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")]


@app.command()
def probe(
    run: RunPath,
    train_size: Annotated[int, typer.Option(metavar="N", help="Labeled images to train the classifier on.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Which images.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Read classes off D's features with a linear SVM, and off the pixels to compare.

    Trains on the train split of the run's data and tests on the test split; without splits, a fifth is held out.
    """
    import twoplayer as tp

    trained = tp.load(run)
    result = trained.probe(train_size, seed)
    if json:
        from json import dumps

        typer.echo(dumps(_facts(trained, result, seed)))
        return
    typer.echo(f"features {_describe(result.features)}")
    typer.echo(f"pixels   {_describe(result.pixels)}")
    typer.echo(f"images   {result.train_images:,} to train on, {result.test_images:,} to test on")
    if _has_seen_test_images(trained, result):
        typer.echo("note     the discriminator was trained on the test images too")


def _describe(probe: Probe) -> str:
    scaled = ", standardized" if probe.standardized else ""
    return f"{probe.accuracy:.2%} right, from {probe.num_features:,} numbers (C = {probe.c:g}{scaled})"


def _facts(trained: tp.Run, result: LabelProbe, seed: int) -> dict[str, object]:
    from dataclasses import asdict

    about = {"run": str(trained.path), "step": trained.info.step, "data": trained.info.data_source, "seed": seed}
    return about | asdict(result) | {"discriminator_has_seen_test_images": _has_seen_test_images(trained, result)}


def _has_seen_test_images(trained: tp.Run, result: LabelProbe) -> bool:
    """Whether D was trained on more than the train split."""
    return trained.recipe.data.split != "train" or result.test_split != "test"


@app.command()
def show(
    run: RunPath,
    out: Annotated[Path, typer.Option(metavar="FILE.png", help="Write the picture here.")],
    layer: Annotated[int, typer.Option(help="Of D's convolution layers, from 0; -1 is the last.")] = -1,
    channels: Annotated[int, typer.Option(help="How many: those with the strongest responses.")] = 6,
    seed: Annotated[int, typer.Option(min=0, help="Which images of the run's data are looked at.")] = 0,
) -> None:
    """Draw the images that D's features respond to most and, right of each, to what in it (guided back-propagation)."""
    import twoplayer as tp
    from twoplayer.core.errors import UserError
    from twoplayer.runs.grid import save_png, tile

    if out.suffix.lower() != ".png":
        raise UserError(f"--out {out}: the name has to end in .png")
    found = _responses(tp.load(run), layer, channels, seed)
    titles = [title for channel in found.channels for title in (f"ch. {channel}", "")]
    facts: dict[str, str | int | float] = {
        "run": run.name,
        "layer": layer,
        "channels": " ".join(map(str, found.channels)),
        "seed": seed,
    }
    save_png(tile(found.tiles(), len(titles), titles), out, facts)
    typer.echo(str(out))


def _responses(trained: tp.Run, layer: int, channels: int, seed: int) -> Responses:
    from twoplayer.core.errors import UserError
    from twoplayer.core.rng import Stream
    from twoplayer.evaluation.guided import strongest_responses
    from twoplayer.loading import load_data

    told = trained.recipe.discriminator.takes
    if "condition" in told:
        raise UserError(
            f"{trained.path}: its discriminator is told a condition; call strongest_responses with your own"
        )
    data, discriminator = load_data(trained.recipe.data), trained.discriminator
    chosen = Stream(seed).child("features").permutation(len(data))[:MOST_IMAGES]
    given = {} if data.labels is None or "labels" not in told else {"labels": data.labels[chosen]}
    shown = min(SHOWN_IMAGES, len(chosen))
    return strongest_responses(discriminator, data.images[chosen], layer, channels, shown, given)
