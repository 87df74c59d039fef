"""What to try against a fault: overrides that suit the run's own recipe, each checked before it is shown.

A remedy that the recipe has no place for, or that it already follows, is left out.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from twoplayer.core.errors import UserError
from twoplayer.core.schedule import Scheduled, ValueSchedule
from twoplayer.recipes.load import check, merge, parse_overrides
from twoplayer.recipes.schema import Recipe
from twoplayer.regularizers.gradient_penalty import GradientPenalty

MOST = 3
"""Remedies shown for one fault."""

SLOWER = 4.0
Role = Literal["generator", "discriminator"]


@dataclass(frozen=True)
class Remedy:
    """Something to try.

    Attributes:
        words: from a recipe to overrides, KEY=VALUE.
        why: what they do, in words.
    """

    words: Callable[[Recipe], list[str]]
    why: str


def _always(*words: str) -> Callable[[Recipe], list[str]]:
    return lambda _: list(words)


def _slower(*roles: Role) -> Callable[[Recipe], list[str]]:
    def words(recipe: Recipe) -> list[str]:
        rates = {role: _times(getattr(recipe.optimizers, role).learning_rate, 1.0 / SLOWER) for role in roles}
        said = {role: f"{rate:.3g}" if isinstance(rate, float) else json.dumps(rate) for role, rate in rates.items()}
        return [f"optimizers.{role}.learning_rate={rate}" for role, rate in said.items()]

    return words


def _times(value: Scheduled, factor: float) -> float | dict[str, Any]:
    """A number, or what is said of a schedule, with values that many times as large."""
    if isinstance(value, ValueSchedule):
        return value.scaled(factor).model_dump(mode="json", exclude_none=True)
    return value * factor


def _more_of_the_discriminator(recipe: Recipe) -> list[str]:
    steps = recipe.play.discriminator_steps + 1
    return ["play=" + json.dumps({"name": "alternating", "discriminator_steps": steps})]


def _less_of_the_discriminator(recipe: Recipe) -> list[str]:
    return [f"play.discriminator_steps={max(recipe.play.discriminator_steps // 2, 1)}"]


def _penalty(**settings: Any) -> Callable[[Recipe], list[str]]:
    """A gradient penalty beside the recipe's other regularizers; one that is there gets other settings."""

    def words(recipe: Recipe) -> list[str]:
        rules = [rule.model_dump(mode="json") for rule in recipe.regularizers]
        penalties = [rule for rule in rules if rule["name"] == "gradient-penalty"]
        others = [rule for rule in rules if rule["name"] != "gradient-penalty"]
        rule = (penalties[0] if penalties else {"name": "gradient-penalty"}) | settings
        return ["regularizers=" + json.dumps([*others, rule])]

    return words


def _stronger_penalty(recipe: Recipe) -> list[str]:
    """Five times the penalty that is there, or one with target 0."""
    weights = [rule.weight for rule in recipe.regularizers if isinstance(rule, GradientPenalty)]
    return _penalty(weight=_times(weights[0], 5.0))(recipe) if weights else _penalty(weight=1.0, target=0.0)(recipe)


def _wasserstein(recipe: Recipe) -> list[str]:
    return ['objective={"name": "wasserstein"}', *_penalty(weight=10.0, target=1.0)(recipe)]


REMEDIES = {
    "slower generator": Remedy(_slower("generator"), "G takes smaller steps"),
    "slower discriminator": Remedy(_slower("discriminator"), "D learns more slowly"),
    "slower players": Remedy(_slower("generator", "discriminator"), "both take smaller steps"),
    "more of the discriminator": Remedy(_more_of_the_discriminator, "D gets more updates"),
    "less of the discriminator": Remedy(_less_of_the_discriminator, "D gets fewer updates"),
    "smoothing": Remedy(_always("objective.real_target=0.9"), "one-sided smoothing keeps D from being sure"),
    "smooth discriminator": Remedy(_stronger_penalty, "a penalty on D's slope keeps D smooth"),
    "penalty in training mode": Remedy(
        _penalty(inference_mode=False), "the penalty judges with the statistics that the game uses"
    ),
    "quick statistics": Remedy(
        _always("discriminator.batch_norm_momentum=0.1"), "D's running statistics follow its weights"
    ),
    "no batch normalization": Remedy(_always("discriminator.batch_norm=false"), "D judges each image by itself"),
    "minibatch discrimination": Remedy(
        _always("discriminator.minibatch=discrimination"), "D sees how much alike fakes are"
    ),
    "feature matching": Remedy(
        _always('objective={"name": "feature-matching"}'), "G matches statistics instead of one verdict"
    ),
    "all images": Remedy(_always("data.limit=null"), "more images cannot be learned by heart so soon"),
    "mirrored images": Remedy(_always("data.flip=true"), "mirrored at random, if mirrored ones are right too"),
    "dropout": Remedy(_always("discriminator.dropout=0.5"), "D cannot rely on single features"),
    "non-saturating": Remedy(
        _always("objective.generator_objective=non-saturating"), "G gets a gradient when it loses"
    ),
    "wasserstein": Remedy(_wasserstein, "D's slope does not saturate"),
    "no momentum": Remedy(
        _always("optimizers.generator.beta1=0.0", "optimizers.discriminator.beta1=0.0"), "steps without memory"
    ),
    "average": Remedy(_always('average={"half_life_kimg": 10.0}'), "pictures come from an average of G's weights"),
}


def prescribed(names: tuple[str, ...], recipe: Recipe) -> tuple[str, ...]:
    """The first few of the named remedies that a run of the recipe can try: a line for a shell each, why behind a #."""
    lines: list[str] = []
    for name in names:
        remedy = REMEDIES[name]
        words = _usable(remedy, recipe)
        if words and len(lines) < MOST:
            lines.append(f"{shlex.join(words)}  # {remedy.why}")
    return tuple(lines)


def _usable(remedy: Remedy, recipe: Recipe) -> list[str]:
    """The remedy's words; none where they do not fit the recipe or change nothing in it."""
    try:
        words = remedy.words(recipe)
        changed = check(merge(recipe.model_dump(mode="json"), parse_overrides(words)))
    except (UserError, AttributeError):  # no such key; a rule without a rate
        return []
    return words if changed != recipe else []
