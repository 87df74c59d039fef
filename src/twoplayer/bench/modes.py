"""What each technique buys: every game is played with several seeds, and its fakes are counted.

What is played is the library's own step and loop (`training/`), on the same players and as many steps for every
technique. Figures stand beside their floor: what real samples get in the place of fakes.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from twoplayer.bench.known_modes import NOTHING_FOUND, KnownModes
from twoplayer.bench.points import GRID, RING
from twoplayer.bench.stacked import StackedMnist
from twoplayer.bench.techniques import game_of
from twoplayer.core.errors import Diverged, UserError, did_you_mean
from twoplayer.core.protocols import Supervised
from twoplayer.core.rng import Stream
from twoplayer.core.stop import StopRequest
from twoplayer.recipes.schema import Recipe
from twoplayer.runs.environment import describe_environment
from twoplayer.session import try_out
from twoplayer.training.accumulation import require_pieces
from twoplayer.training.loop import Schedule, train
from twoplayer.training.shares import Following
from twoplayer.training.state import TrainingState, new_state, prepare
from twoplayer.training.threads import fitting_threads

DATA: tuple[KnownModes, ...] = (RING, GRID, StackedMnist())


@dataclass(frozen=True)
class Game:
    """One row of the benchmark.

    Attributes:
        data: where the modes are known.
        technique: its name.
        recipe: what is played, with the first seed.
        steps: of each run.
    """

    data: KnownModes
    technique: str
    recipe: Recipe
    steps: int


class Watcher(Following):
    """The loop's observer: tells how far a run is, and writes nothing down."""

    def __init__(self, told: Callable[[], None]) -> None:
        self.told = told

    def on_step(self, state: TrainingState) -> None:
        self.told()


def data_named(name: str) -> KnownModes:
    """Raises UserError where there is none of that name."""
    known = {data.name: data for data in DATA}
    if name not in known:
        raise UserError(f"unknown data {name!r}{did_you_mean(name, known)} (known: {', '.join(known)})")
    return known[name]


def games(
    data: Sequence[str],
    techniques: Sequence[str],
    words: Sequence[str],
    device: torch.device,
    base: str | None = None,
) -> list[Game]:
    """Every technique on every data set, checked before anything is played.

    Args:
        data: by name.
        techniques: their names.
        words: KEY=VALUE, said to all of them.
        device: where they are played.
        base: a recipe whose game they begin with, instead of the benchmark's own.

    Raises:
        UserError: a name or a word is wrong.
    """
    chosen = [
        (known, technique, game_of(known.settings, technique, words, base))
        for known in map(data_named, data)
        for technique in techniques
    ]
    for _, _, recipe in chosen:
        _require_plain(recipe)
    return [
        Game(known, technique, recipe, Schedule.of(recipe, known.batches(recipe, device)).steps)
        for known, technique, recipe in chosen
    ]


def _require_plain(recipe: Recipe) -> None:
    """Raise UserError for what the benchmark has nothing to tell: labels, conditions, levels."""
    if recipe.generator.takes or recipe.discriminator.takes or recipe.levels:
        raise UserError("the benchmark plays games without labels, conditions and levels")
    if isinstance(recipe.objective, Supervised):
        raise UserError(f"objective.name={recipe.objective.name} needs labels, which the benchmark does not give")


def measure(game: Game, seeds: int, device: torch.device, told: Callable[[], None]) -> dict[str, Any]:
    """Play a game with several seeds.

    Args:
        game: what is played.
        seeds: how often; the first seed is the recipe's, each next one higher by 1.
        device: where.
        told: called after every step.

    Returns:
        What JSON can hold: of each figure the mean and the population deviation over the seeds, and all runs.
    """
    recipes = [game.recipe.model_copy(update={"seed": game.recipe.seed + place}) for place in range(seeds)]
    runs = [_run(game.data, recipe, device, told) for recipe in recipes]
    names = [name for name in ("modes", "high_quality", "kl", "seconds") if name in runs[0]]
    summaries = {name: summary([run[name] for run in runs]) for name in names}
    finite = [{name: value if name == "seed" else _finite(value) for name, value in run.items()} for run in runs]
    return {"technique": game.technique, "steps": game.steps} | summaries | {"runs": finite}


def summed_up(data: KnownModes, rows: list[dict[str, Any]], seeds: int) -> dict[str, Any]:
    """What `measure` said of all techniques on one data set, and what real samples get, drawn with as many seeds."""
    drawn = [data.floor(Stream(seed).child("floor")) for seed in range(seeds)]
    floor = {name: summary([figures[name] for figures in drawn]) for name in drawn[0]}
    return {
        "data": data.name,
        "num_modes": data.num_modes,
        "n_fake": data.num_fakes,
        "floor": floor,
        "results": rows,
    }


def facts(base: str | None, words: Sequence[str], seeds: int, device: torch.device) -> dict[str, Any]:
    """What all figures of one call share."""
    begun = {} if base is None else {"recipe": base}
    return begun | {"overrides": list(words), "seeds": seeds, "environment": describe_environment(device)}


def summary(values: Sequence[float]) -> dict[str, float | None]:
    """Mean and population deviation; null stands for an infinite mean. That, and a single value, have no deviation."""
    mean = statistics.fmean(values)
    several = len(values) > 1 and math.isfinite(mean)
    return {"mean": _finite(mean), "deviation": statistics.pstdev(values) if several else None}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _run(data: KnownModes, recipe: Recipe, device: torch.device, told: Callable[[], None]) -> dict[str, Any]:
    """One training and its figures."""
    batches, stream = data.batches(recipe, device), Stream(recipe.seed).child("bench")
    schedule = Schedule.of(recipe, batches)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        state = new_state(recipe, data.image_shape, 0, device)
        prepare(state, recipe, batches)
        try_out(state, batches.some(2, stream), stream)
        require_pieces(state.game, recipe.batch_size)
        try:
            with fitting_threads(state.game, recipe.batch_size):
                train(state, recipe, batches, schedule, Watcher(told), StopRequest())
            figures = data.judge(state.generator_for_use, recipe.latents, stream.child("fakes"))
        except Diverged:
            figures = {name: NOTHING_FOUND[name] for name in data.floor(stream)}
    return {"seed": recipe.seed, **figures, "seconds": state.seconds}
