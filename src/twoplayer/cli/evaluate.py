"""`twoplayer evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer


def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")],
    n: Annotated[int, typer.Option(help="Real images and fakes per figure.")] = 2000,
    seeds: Annotated[int, typer.Option(help="How often each random figure is taken anew.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Judge a run on images that it was not trained on, where its data has a test split. Writes RUN/evaluation.json."""
    import twoplayer as tp

    figures = tp.load(run).evaluate(n, seeds)
    if as_json:
        typer.echo(json.dumps(figures))
        return
    for line in describe(figures):
        typer.echo(line)
    typer.echo(f"written  {run / 'evaluation.json'}")


def describe(figures: dict[str, dict[str, Any]]) -> list[str]:
    """The figures as lines for a person."""
    distance, test = figures["sliced-wasserstein"], figures.get("test-pass", {})
    lines = [f"data     {distance['data']}, {distance['split']} split"]
    for name, value in test.get("means", {}).items():
        lines.append(f"{name:20} {value:9.4f}  +- {test['spreads'][name]:.4f} over {test['seeds']} seeds")
    lines.append(
        f"{'sliced Wasserstein':20} {distance['value']:9.4f}  +- {distance['spread']:.4f}, "
        f"floor {distance['floor']:.4f} (real against real), {distance['n_fake']:,} images a side"
    )
    if "classifier" in figures:
        errors = figures["classifier"]
        lines.append(f"{'classifier':20} {errors['errors']:,} errors in {errors['n_real']:,} ({errors['error']:.2%})")
    return lines
