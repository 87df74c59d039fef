"""`twoplayer bench`: what things cost and what they buy."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import torch
    from rich.table import Table

    from twoplayer.bench.known_modes import KnownModes
    from twoplayer.bench.modes import Game

app = typer.Typer(no_args_is_help=True, help="Measure what things cost and what they buy.")

DATA = ("ring", "grid")
COLUMNS = {"modes": "modes found", "high_quality": "high quality", "kl": "KL", "seconds": "seconds"}


@app.callback()
def bench() -> None:  # with a callback a lone verb keeps its name
    """Measure what things cost and what they buy."""


@app.command()
def modes(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE ...]", help="What to change in every game, as in `train`."),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(help="ring, grid, stacked-mnist; more than once for several (default: ring and grid)."),
    ] = None,
    technique: Annotated[
        list[str] | None, typer.Option(metavar="T", help="More than once for several (default: all).")
    ] = None,
    seeds: Annotated[int, typer.Option(help="How often each game is played.")] = 3,
    steps: Annotated[
        int | None, typer.Option(help="Of each game (default: 3000 on points, 1500 on stacked-mnist).")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(metavar="R", help="Begin with a recipe's game instead of the benchmark's own.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Play techniques against mode collapse on data whose modes are known: how many modes does each find?

    KEY=VALUE plays any other game: --technique plain objective.name=hinge regularizers='[{name: r1}]'.
    """
    from rich.console import Console

    from twoplayer.api import choose_device
    from twoplayer.bench.modes import facts, games
    from twoplayer.bench.techniques import TECHNIQUES
    from twoplayer.core.errors import UserError

    if seeds < 1:
        raise UserError(f"--seeds {seeds}: it starts at 1")
    said = [*(words or []), *([] if steps is None else [f"steps={steps}"])]
    chosen = choose_device(device)
    played = games(data or DATA, technique or list(TECHNIQUES), said, chosen, recipe)
    found = results(played, seeds, chosen)
    if as_json:
        typer.echo(json.dumps(facts(recipe, said, seeds, chosen) | {"data": found}))
        return
    for each in found:
        Console(highlight=False).print(table(each))


Words = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE ...]", help="What to change in the recipe, as in `train`.")
]
AnyRecipe = Annotated[str, typer.Option("--recipe", metavar="R", help="A recipe's name or a .yaml file.")]
Rounds = Annotated[int, typer.Option(help="Turns of each contender; medians are compared.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


@app.command()
def step(
    words: Words = None,
    recipe: AnyRecipe = "mnist-wgan-gp",
    rounds: Rounds = 7,
    device: Device = "auto",
    against: Annotated[str | None, typer.Option(metavar="keras", help="Measure the original framework too.")] = None,
    keras: Annotated[
        Path, typer.Option(help="The Python of an environment with tensorflow-cpu, for --against keras.")
    ] = Path("keras/bin/python"),
    as_json: AsJson = False,
) -> None:
    """How long a training step takes, beside the same step in plain PyTorch, and how far its gradients are off.

    The contenders take turns in processes of their own. Size, batch and widths are the recipe's keys:
    twoplayer bench step --recipe flowers-dcgan batch_size=16 data.image_size=64 data.channels=3
    """
    from twoplayer.bench.steps import keras_contenders, measure
    from twoplayer.core.errors import UserError

    if against not in (None, "keras"):
        raise UserError(f"--against {against} (allowed: keras)")

    def measured(told: Found, done: Callable[[], None]) -> Found:
        return measure(told, keras_contenders(told, keras) if against else [], rounds, done)

    names = 4 if against else 2
    _compare(measured, step_table, words, recipe, rounds, device, contenders=names, as_json=as_json)


@app.command()
def sample(
    words: Words = None,
    recipe: AnyRecipe = "mnist-wgan-gp",
    rounds: Rounds = 7,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """How many pictures a second a generator draws, beside plain PyTorch in evaluation mode."""
    _rates("sample", words, recipe, rounds, device, as_json=as_json)


@app.command()
def data(
    words: Words = None,
    recipe: AnyRecipe = "mnist-wgan-gp",
    rounds: Rounds = 7,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """How many real images a second reach the training step, beside torch's DataLoader.

    With pictures in files, beside a plain loop that decodes each when it is needed, and beside the datasets library:
    twoplayer bench data data.source=FOLDER data.image_size=64
    """
    _rates("data", words, recipe, rounds, device, as_json=as_json)


Found = dict[str, Any]


def _rates(what: str, words: list[str] | None, recipe: str, rounds: int, device: str, *, as_json: bool) -> None:
    """Compare images per second."""
    from twoplayer.bench.steps import rates

    def measured(told: Found, done: Callable[[], None]) -> Found:
        return rates(told, what, rounds, done)

    _compare(measured, rate_table, words, recipe, rounds, device, as_json=as_json)


def _compare(
    measured: Callable[[Found, Callable[[], None]], Found],
    shown_as: Callable[[Found], Table],
    words: list[str] | None,
    recipe: str,
    rounds: int,
    device: str,
    *,
    contenders: int = 2,
    as_json: bool,
) -> None:
    """Let the contenders of a recipe take turns, and print what was found."""
    from rich.console import Console

    from twoplayer.api import choose_device
    from twoplayer.bench.steps import description
    from twoplayer.core.errors import UserError
    from twoplayer.recipes.load import load_recipe, parse_overrides
    from twoplayer.training.progress import progress

    if rounds < 1:
        raise UserError(f"--rounds {rounds}: it starts at 1")
    told = description(load_recipe(recipe, parse_overrides(words or [])), choose_device(device))
    done = 0
    with progress((rounds + 1) * contenders, 0, quiet=not sys.stderr.isatty()) as shown:

        def turn() -> None:
            nonlocal done
            done += 1
            shown.advance(done)

        found = measured(told, turn)
    if as_json:
        typer.echo(json.dumps(found))
        return
    Console(highlight=False).print(shown_as(found))


def rate_table(found: Found) -> Table:
    """Contenders in rows."""
    from rich import box
    from rich.table import Table

    shape = "x".join(map(str, (*found["shape"][1:], found["shape"][0])))
    made = Table(title=f"{found['recipe']}, {shape}", box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
    made.add_column("")
    for name in ("images/s", "fastest", "slowest", "speed-up"):
        made.add_column(name, justify="right")
    plain = found["contenders"][1]["images_per_second"]
    for row in found["contenders"]:
        rates = (f"{row[key]:,.0f}" for key in ("images_per_second", "fastest", "slowest"))
        made.add_row(row["name"], *rates, f"{row['images_per_second'] / plain:.2f}")
    return made


def step_table(found: dict[str, Any]) -> Table:
    """Contenders in rows."""
    from rich import box
    from rich.table import Table

    shape = "x".join(map(str, (*found["shape"][1:], found["shape"][0])))
    title = (
        f"{found['recipe']}, batch {found['batch_size']}, {shape}: "
        f"{found['useful_gflop_per_step']:,.1f} useful GFLOP per step; a large convolution here: "
        f"{found['convolution_peak_gflops']:,.0f} GFLOP/s"
    )
    made = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
    made.add_column("")
    for name in ("ms per step", "fastest", "slowest", "speed-up", "share of peak", "gradients off by"):
        made.add_column(name, justify="right")
    plain = found["contenders"][1]["ms_per_step"]
    for row in found["contenders"]:
        error = found["gradient_errors"].get(row["name"])
        made.add_row(
            row["name"],
            *(f"{row[key]:,.1f}" for key in ("ms_per_step", "fastest_ms", "slowest_ms")),
            f"{plain / row['ms_per_step']:.2f}",
            f"{100 * row['share_of_peak']:.0f} %",
            "" if error is None else f"{error:.0e}",
        )
    exact = found["gradient_errors"]["twoplayer in float64"]
    made.caption = f"errors relative to plain PyTorch in float64; twoplayer's own step in float64: {exact:.0e}"
    return made


def results(played: list[Game], seeds: int, device: torch.device) -> list[dict[str, Any]]:
    """Play everything; what was found on each data set, in the order of the games."""
    from twoplayer.bench.modes import measure, summed_up
    from twoplayer.core.console import say
    from twoplayer.training.progress import progress

    done = 0

    def told() -> None:
        nonlocal done
        done += 1
        shown.advance(done)

    measured: dict[KnownModes, list[dict[str, Any]]] = {}
    with progress(seeds * sum(game.steps for game in played), 0, quiet=False) as shown:
        for game in played:
            row = measure(game, seeds, device, told)
            measured.setdefault(game.data, []).append(row)
            if not sys.stderr.isatty():
                say(f"{game.data.name}  {line(row)}")
    return [summed_up(data, rows, seeds) for data, rows in measured.items()]


def line(row: dict[str, Any]) -> str:
    """One technique's figures on one line."""
    cells = (f"{title} {figure(name, row[name])}" for name, title in COLUMNS.items() if name in row)
    return f"{row['technique']}: {', '.join(cells)}"


def table(found: dict[str, Any]) -> Table:
    """Techniques in rows, what real samples get in the last one."""
    from rich import box
    from rich.table import Table

    title = f"{found['data']}: {found['n_fake']:,} fakes, {found['num_modes']:,} modes"
    made = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
    names = [name for name in COLUMNS if name in found["results"][0]]
    made.add_column("technique")
    for name in names:
        made.add_column(COLUMNS[name], justify="right")
    for row in [*found["results"], {"technique": "(real samples)"} | found["floor"]]:
        made.add_row(row["technique"], *(figure(name, row[name]) if name in row else "" for name in names))
    return made


def figure(name: str, value: dict[str, float | None]) -> str:
    """Mean +- population deviation over several seeds; a mean that JSON calls null is infinite."""
    mean, deviation = value["mean"], value["deviation"]
    if mean is None:
        return "inf"
    digits = {"modes": 1, "high_quality": 1, "kl": 3, "seconds": 1}[name]
    factor, unit = (100.0, " %") if name == "high_quality" else (1.0, "")
    spread = "" if deviation is None else f" +- {factor * deviation:,.{digits}f}"
    return f"{factor * mean:,.{digits}f}{spread}{unit}"
