"""Which recipe a resumed run goes on with, and what may differ from the one it was begun with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twoplayer.core.errors import UserError
from twoplayer.recipes.load import Override, check, load_recipe, merge, read_recipe
from twoplayer.recipes.schema import Recipe

LENGTH = ("steps", "epochs", "stop")
LOGGING = (
    "log_every",
    "sample_every",
    "checkpoint_every",
    "keep_checkpoints",
    "level_processes",
    "seeds",
    "tracking",
    "reasons",
)
"""What a run writes, when and where; none of it changes what it learns."""


def resumed_recipe(config: str, recipe: str | None, changes: list[Override]) -> Recipe:
    """The run's own recipe with changes to its length and logging.

    A named recipe keeps the run's length and logging; a file says its own.

    Args:
        config: the run's config.yaml.
        recipe: a recipe's name or file, when the user said one; then everything but length and logging has to agree.
        changes: the user's overrides.

    Raises:
        UserError: something else differs; the message shows the difference.
    """
    own = load_recipe(config)
    asked = check(merge(read_recipe(config if recipe is None else recipe), changes))
    require_same(core(own), core(asked), "it cannot be resumed with another recipe")
    said, is_file = {path[0] for path, _ in changes}, recipe is not None and recipe.endswith((".yaml", ".yml"))
    if is_file or "seeds" in said:
        _require_seeds(own.seeds, asked.seeds)
    if is_file:
        return asked
    kept = {key: getattr(own, key) for key in LOGGING if key not in said}
    length = own if not said & {"steps", "epochs"} else asked
    kept |= {key: getattr(length, key) for key in ("steps", "epochs")}
    kept["reasons"] = merge(read_recipe(config), changes).get("reasons", {})
    kept["stop"] = asked.stop if "stop" in said else own.stop
    return asked.model_copy(update=kept)


def _require_seeds(own: int, asked: int) -> None:
    """Raise UserError unless a folder of several seeds stays one and gets more of them at most."""
    if asked < own or (own == 1 and asked > 1):
        raise UserError(f"seeds: the run has {own}, asked for {asked}: several only become more, one stays one")


def plain(recipe: Recipe) -> dict[str, Any]:
    """A recipe as plain data."""
    return recipe.model_dump(mode="json", exclude_none=True)


def core(recipe: Recipe) -> dict[str, Any]:
    """What has to stay the same for a run to be one run. The data may move: its content is compared elsewhere."""
    kept = {key: value for key, value in plain(recipe).items() if key not in LENGTH + LOGGING}
    kept["data"] = {key: value for key, value in kept["data"].items() if key != "source"}
    if "levels" in kept:
        kept["levels"] = [{key: value for key, value in level.items() if key not in LENGTH} for level in kept["levels"]]
    return kept


def completed(begun_with: dict[str, Any], recipe: Recipe) -> dict[str, Any]:
    """What `core` kept of an earlier recipe, with what it left out taken from the present one.

    Checking it gives keys that are newer than the run their defaults, so that an upgrade does not end a run.
    """
    present = plain(recipe)
    left_out = {key: present[key] for key in LENGTH + LOGGING if key in present}
    return left_out | begun_with | {"data": {"source": present["data"]["source"]} | begun_with["data"]}


def require_same(own: Mapping[str, Any], asked: Mapping[str, Any], consequence: str) -> None:
    """Raise UserError with every difference unless the two are equal."""
    if found := differences(own, asked):
        raise UserError(f"{'; '.join(found)}: {consequence}")


def require_not_shorter(own: Recipe, asked: Recipe, batches_per_epoch: int, place: Path) -> None:
    """Raise UserError when a run at `place` would end before it was to end."""
    steps = asked.total_steps(batches_per_epoch)
    if steps < own.total_steps(batches_per_epoch):
        raise UserError(f"{place} can only be made longer, not {steps} steps")


def differences(own: Mapping[str, Any], asked: Mapping[str, Any], prefix: str = "") -> list[str]:
    """What differs, as "key: the run has X, asked for Y", with dotted keys."""
    lines: list[str] = []
    for key in {**own, **asked}:
        mine, theirs, name = _by_place(own.get(key)), _by_place(asked.get(key)), f"{prefix}{key}"
        if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
            lines += differences(mine, theirs, f"{name}.")
        elif mine != theirs:
            lines.append(f"{name}: the run has {mine}, asked for {theirs}")
    return lines


def _by_place(value: Any) -> Any:
    """A list of sections as a mapping, so that differences are found inside them."""
    is_sections = isinstance(value, list) and value and all(isinstance(inner, Mapping) for inner in value)
    return {str(place): inner for place, inner in enumerate(value)} if is_sections else value
