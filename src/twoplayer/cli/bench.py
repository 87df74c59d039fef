"""`twoplayer bench`: what things cost and what they buy."""

from __future__ import annotations

import json
import sys
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


def results(played: list[Game], seeds: int, device: torch.device) -> list[dict[str, Any]]:
    """Play everything; what was found on each data set, in the order of the games."""
    from twoplayer.bench.modes import measure, summed_up
    from twoplayer.training.progress import progress, say

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
