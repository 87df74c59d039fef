"""Going on where a checkpoint left a run."""

from __future__ import annotations

import logging
from typing import Any

from twoplayer.core.errors import UserError
from twoplayer.data.images import ImageData
from twoplayer.recipes.load import check, load_recipe
from twoplayer.recipes.resume import completed, core, require_not_shorter, require_same
from twoplayer.recipes.schema import Recipe
from twoplayer.runs.folder import RunFolder
from twoplayer.runs.log import cut_after
from twoplayer.training.accumulation import layers_that_couple
from twoplayer.training.annealing import goes_by_shares
from twoplayer.training.checkpoint import read_newest
from twoplayer.training.loop import Schedule
from twoplayer.training.state import TrainingState

logger = logging.getLogger("twoplayer")


def go_on(
    folder: RunFolder,
    recipe: Recipe,
    state: TrainingState,
    data: ImageData,
    schedule: Schedule,
    *,
    other_processes: bool = False,
) -> None:
    """Put the state where the newest whole checkpoint left it, and forget what was logged after that.

    Args:
        folder: the run.
        recipe: what it goes on with.
        state: freshly made.
        data: the images.
        schedule: the recipe's, on this data.
        other_processes: another number of processes than before may go on.

    Raises:
        UserError: the run was trained otherwise.
    """
    require_not_shorter(load_recipe(str(folder.config)), recipe, schedule.batches_per_epoch, folder.path)
    found = read_newest(folder)
    if found is None:
        logger.warning("%s has no checkpoint yet: it begins again", folder.path)
    else:
        tree, facts = found
        begun_with = core(check(completed(facts["recipe"], recipe)))
        require_same(begun_with, core(recipe), f"{folder.config} is not what the run was trained with")
        if goes_by_shares(recipe) and facts["steps"] != schedule.steps:
            raise UserError(
                f"{folder.path} was to have {facts['steps']} steps, asked for {schedule.steps}: its schedules are "
                "shares of its length; a run whose schedules say kimg instead can be made longer"
            )
        if facts["data_sha256"] != data.fingerprint:
            raise UserError(f"{folder.path} was trained on other data than {data.name} now holds; it cannot be resumed")
        before, now = facts.get("processes", 1), state.game.ranks.count
        if before != now and not other_processes:
            raise UserError(
                f"{folder.path} was trained by {before} processes together, not {now}: sums would be rounded "
                "differently; go on with as many, or say --other-processes"
            )
        restore(state, tree, folder)
        if before != now:
            _change_processes(state, recipe, before, folder)
    cut_after(folder.metrics, state.step)


def _change_processes(state: TrainingState, recipe: Recipe, before: int, folder: RunFolder) -> None:
    """Note, and say, that other processes go on."""
    now = state.game.ranks.count
    state.processes = (state.processes or {0: before}) | {state.step: now}
    what = "sums are rounded differently from here on"
    if recipe.batch_statistics == "per-rank" and any(layers_that_couple(state.game)):
        shares = [recipe.batch_size // count for count in (before, now)]
        what += f", and batch statistics are of {shares[1]} images instead of {shares[0]}"
    logger.warning("%s goes on with %d processes instead of %d: %s", folder.path, now, before, what)


def restore(state: TrainingState, tree: dict[str, Any], folder: RunFolder) -> None:
    """Put a state where a checkpoint left it. Raises UserError when the checkpoint is of other networks."""
    try:
        state.restore(tree)
    except (RuntimeError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise UserError(f"{folder.path}: the checkpoint does not fit {folder.config.name} ({reason})") from error
