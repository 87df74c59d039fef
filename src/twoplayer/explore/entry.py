"""A run as the page sees it: everything is read from its folder, and again only when that has changed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Hashable
from pathlib import Path
from threading import Lock, RLock
from typing import Any, TypeVar

from torch import Tensor

from twoplayer.core.rng import Stream
from twoplayer.evaluation import doctor
from twoplayer.explore.growing import Log
from twoplayer.loading import load_data
from twoplayer.recipes.load import load_recipe
from twoplayer.recipes.schema import Recipe
from twoplayer.runs.cards import single_figures
from twoplayer.runs.folder import RunFolder
from twoplayer.runs.log import Row
from twoplayer.trained import Run
from twoplayer.training.checkpoint import best_so_far

REALS = 256
SECONDS_ALIVE = 30.0
"""A run that is not at its end counts as training when its log has grown within this time, or ten of its intervals."""

MOST_QUIET = 40
"""Times as long as that, after which nothing about a quiet log is looked at again."""

DOCTORS_SHARE = 0.02
"""Of the time, at most, that the doctor reads the same growing log again and again."""

T = TypeVar("T")


class Entry:
    """A run in the library.

    Args:
        name: its path below the root, with slashes.
        folder: where it lies.

    Attributes:
        networks: held while its networks compute: what looks into a network hooks itself to it.
    """

    def __init__(self, name: str, folder: RunFolder) -> None:
        self.name, self.folder = name, folder
        self.networks = RLock()
        self._examining = Lock()
        self._kept: dict[str, tuple[Hashable, Any]] = {}
        self._log = Log(folder.metrics)
        self._doctor_again = 0.0

    def kept(self, what: str, stamp: Hashable, make: Callable[[], T]) -> T:
        """What was made before with the same stamp, else made now; two visitors at once may make it twice."""
        found = self._kept.get(what)
        if found is None or found[0] != stamp:
            found = self._kept[what] = (stamp, make())
        made: T = found[1]
        return made

    def forget(self) -> None:
        """Let go of what takes memory."""
        for what in ("run", "reals"):
            self._kept.pop(what, None)

    @property
    def run(self) -> Run:
        """What can be done with its newest generator; another one as soon as there is a newer generator."""
        return self.kept("run", changed_at(self.folder.generator / "config.json"), lambda: Run(self.folder.path))

    @property
    def recipe(self) -> Recipe:
        """Resolved. Raises UserError where it cannot be read."""
        return self.kept("recipe", changed_at(self.folder.config), lambda: load_recipe(str(self.folder.config)))

    @property
    def reals(self) -> tuple[Tensor, Tensor | None]:
        """Some of the images it was trained on, uint8 [N, C, H, W], and their class ids. Raises UserError."""
        return self.kept("reals", changed_at(self.folder.config), lambda: some_images(self.recipe))

    @property
    def best(self) -> tuple[int, float] | None:
        """The step of the best checkpoint, and the figure that says so."""
        return best_so_far(self.folder)

    @property
    def rows(self) -> list[Row]:
        """The log as it is now."""
        return self._log.read_on()

    @property
    def stamp(self) -> Hashable:
        """Another one when anything that is shown of it has changed."""
        folder, steps = self.folder, self.folder.sample_steps()[-1:]
        files = (folder.config, folder.metrics, folder.evaluation, folder.failure, folder.checkpoints)
        quiet_for = (time.time() - changed_at(folder.metrics) / 1e9) // SECONDS_ALIVE  # whether it trains is shown too
        return (*map(changed_at, files), *steps, min(quiet_for, MOST_QUIET))

    @property
    def level(self) -> tuple[int, int] | None:
        """Of a pyramid: the level that trains, counted from 0, and how many there are."""
        if not self.recipe.levels:
            return None
        rows = self.rows
        return int(rows[-1].get("level") or 0) if rows else 0, len(self.recipe.levels)

    @property
    def steps(self) -> int | None:
        """Of the whole training, of a pyramid's level; None where it is not known yet."""
        recipe = self.recipe.level(self.level[0]) if self.level else self.recipe
        if recipe.steps is not None:
            return recipe.steps
        images = self._environment.get("data", {}).get("images")
        return None if not images else recipe.total_steps(max(images // recipe.batch_size, 1))

    @property
    def progress(self) -> float:
        """From 0 to 1; a run that its goal has ended is at 1."""
        rows, steps, goal = self.rows, self.steps, self.recipe.stop
        figures: dict[str, Any] = dict(rows[-1]) if rows else {}
        figure = figures.get(goal.metric) if goal else None
        reached = goal is not None and figure is not None and goal.reached(figure)
        done = 1.0 if reached else min((rows[-1]["step"] or 0) / steps, 1.0) if rows and steps else 0.0
        return (self.level[0] + done) / self.level[1] if self.level else done

    @property
    def is_training(self) -> bool:
        """Whether its log still grows, as far as can be told from outside."""
        if self.progress >= 1.0:
            return False
        try:
            age = time.time() - self.folder.metrics.stat().st_mtime
        except FileNotFoundError:
            return False
        rows = self.rows
        interval = (rows[-1].get("seconds") or 0.0) / len(rows) if rows else 0.0
        return age < max(SECONDS_ALIVE, 10 * interval)

    @property
    def seconds_left(self) -> float | None:
        """At the average speed so far, of a pyramid for its level; None before the first line."""
        rows, steps = self.rows, self.steps
        if not rows or not steps or not rows[-1]["step"]:
            return None
        return (rows[-1].get("seconds") or 0.0) / rows[-1]["step"] * max(steps - rows[-1]["step"], 0)

    @property
    def figures(self) -> dict[str, dict[str, Any]]:
        """Those that `evaluate` took."""
        found = _read(self.folder.evaluation)
        return single_figures(found)

    @property
    def diagnosis(self) -> doctor.Diagnosis:
        """What the doctor says; of a log that takes long to read, what it said a while ago."""
        if self.recipe.levels:
            return doctor.Diagnosis((), ("each level of a pyramid is a run of its own",), examined=False)
        with self._examining:
            stamp: Hashable = (
                changed_at(self.folder.metrics),
                changed_at(self.folder.config),
                changed_at(self.folder.failure),
            )
            now = time.monotonic()
            if "diagnosis" in self._kept and now < self._doctor_again:
                stamp = self._kept["diagnosis"][0]
            said = self.kept("diagnosis", stamp, self._diagnose)
            took = time.monotonic() - now
            self._doctor_again = max(self._doctor_again, now + took / DOCTORS_SHARE)
            return said

    def _diagnose(self) -> doctor.Diagnosis:
        return doctor.diagnose(self.rows, self.recipe, None, _read(self.folder.failure) or None)

    @property
    def grid(self) -> Path | None:
        """The newest grid of samples."""
        steps = self.folder.sample_steps()
        return self.folder.sample_grid(steps[-1]) if steps else None

    @property
    def _environment(self) -> dict[str, Any]:
        return self.kept("environment", changed_at(self.folder.environment), lambda: _read(self.folder.environment))


def some_images(recipe: Recipe) -> tuple[Tensor, Tensor | None]:
    """A few images that a recipe trains on, and their class ids. Raises UserError."""
    options = recipe.data
    if options.cache == "none":  # decoded as they come: a few are enough here
        options = options.model_copy(update={"cache": "auto", "limit": min(options.limit or REALS, REALS)})
    data = load_data(options)
    chosen = Stream(recipe.seed).child("explore").permutation(len(data.images))[:REALS]
    return data.images[chosen], None if data.labels is None else data.labels[chosen]


def _read(path: Path) -> dict[str, Any]:
    """A JSON object; an empty one where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def changed_at(path: Path) -> int:
    """In nanoseconds; 0 where nothing is."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
