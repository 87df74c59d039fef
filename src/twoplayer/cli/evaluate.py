"""`twoplayer evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

BETTER = {"lower": "lower is better", "higher": "higher is better", "half": "0.5 is best"}


def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")],
    n: Annotated[int, typer.Option(help="Fakes, and real images, in each figure.")] = 2000,
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
    from rich.console import Console

    import twoplayer as tp
    from twoplayer.evaluation.figures import provenance

    figures = tp.load(run).evaluate(n, seeds, extractor, every, gan_train)
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

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    made.add_column("figure")
    for name in ("fakes", "+-", "floor", "+-"):
        made.add_column(name, justify="right")
    made.add_column("")
    test = figures.get("test-pass", {})
    for name, value in test.get("means", {}).items():
        made.add_row(name, number(value), number(test["spreads"][name]), "", "", "")
    for name, figure in figures.items():
        if "value" in figure:
            cells = (number(figure[key]) for key in ("value", "spread", "floor", "floor_spread"))
            made.add_row(name, *cells, BETTER[figure["better"]])
    return made


def remarks(figures: dict[str, dict[str, Any]]) -> list[str]:
    """What does not fit into a table."""
    lines = []
    for name, figure in figures.items():
        if "shares" in figure:
            shares = ", ".join(f"{label} {share:.1%}" for label, share in figure["shares"].items())
            lines.append(f"{name}: {shares}")
        if "nearer_to_train" in figure:
            share, ratio = figure["nearer_to_train"], figure["distance_ratio"]
            lines.append(
                f"{name}: {share['value']:.1%} +- {share['spread']:.1%} of the fakes nearer to training than to "
                f"held-out images (held-out images themselves: {share['floor']:.1%}, copies: 100 %); distance "
                f"{number(ratio['value'])} of the usual"
            )
        if figure.get("deviation") is not None:
            lines.append(f"{name}: standard deviation over subsets {number(figure['deviation'])}")
    if "classifier" in figures:
        errors = figures["classifier"]
        lines.append(f"classifier: {errors['errors']:,} errors in {errors['n_real']:,} ({errors['error']:.2%})")
    if "series" in figures:
        lines += courses(figures)
    if "doctor" in figures:
        lines += diagnosis(figures["doctor"])
    return lines + [f"note: {text}" for text in figures["sliced-wasserstein"].get("warnings", [])]


def courses(figures: dict[str, dict[str, Any]]) -> list[str]:
    """Of each figure the best checkpoint and the last, as lines for a person."""
    from twoplayer.core.metric import badness

    lines = []
    for name, points in figures["series"].items():
        known = [point for point in points if point["value"] is not None]
        if known:
            best = min(known, key=lambda point: badness(figures[name]["better"], point["value"]))
            lines.append(
                f"{name}: best {number(best['value'])} at step {best['step']:,}, "
                f"last {number(points[-1]['value'])} at step {points[-1]['step']:,}"
            )
    return lines


def diagnosis(said: dict[str, Any]) -> list[str]:
    """What the doctor says, as lines for a person."""
    lines = [] if said["findings"] else [f"doctor: {said['verdict']}"]
    for finding in said["findings"]:
        lines.append(f"doctor: {finding['name']} since step {finding['since']:,}: {finding['evidence']}; worth a try:")
        lines += [f"    {remedy}" for remedy in finding["remedies"]]
    if said["not_examined"]:
        lines.append(f"doctor: not examined: {'; '.join(said['not_examined'])}")
    return lines


def number(value: float | None) -> str:
    """Four significant digits; what JSON calls null is infinite."""
    return "inf" if value is None else f"{value:.4g}"
