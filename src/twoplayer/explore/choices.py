"""What a visitor may choose for a game in the plane, found in the catalogue, and the recipe that it makes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import product
from typing import Any, Literal, get_args, get_origin

from twoplayer.core.catalogue import Component, components
from twoplayer.core.errors import UserError, did_you_mean
from twoplayer.core.protocols import ClassLoss, Objective, OptimizerRule, Regularizer, Supervised
from twoplayer.core.schedule import is_number
from twoplayer.explore.checked import MOST_SEED, bounded
from twoplayer.explore.shapes import SHAPES, Shape
from twoplayer.recipes.load import Tree, check, read_yaml
from twoplayer.recipes.schema import Recipe

FASTEST = 1.0
SLOWEST = 1e-6
"""Bounds of a learning rate."""

STRONGEST = 1000.0
MOST_DISCRIMINATOR_STEPS = 10


@dataclass(frozen=True)
class Choice:
    """A game in the plane.

    Attributes:
        data: one of SHAPES.
        objective: one of `objectives()`.
        regularizers: names, each with its strength; None where it has none.
        optimizer: one of `optimizers()`, for both players.
        generator_rate: learning rate of G.
        discriminator_rate: learning rate of D.
        discriminator_steps: D updates per G update.
        seed: of everything that is random.
    """

    data: str = "ring"
    objective: str = "minimax"
    regularizers: tuple[tuple[str, float | None], ...] = (("r1", 0.02),)
    optimizer: str = "adam"
    generator_rate: float = 2e-3
    discriminator_rate: float = 4e-3
    discriminator_steps: int = 1
    seed: int = 0


EXPERIMENTS = {
    "ring": Choice(),
    "saturating": Choice(objective="minimax, saturating", regularizers=(), discriminator_steps=5),
    "no-penalty": Choice(objective="wasserstein", regularizers=()),
    "penalty": Choice(objective="wasserstein", regularizers=(("gradient-penalty", 1.0),), discriminator_steps=3),
    "lines-minimax": Choice(
        "parallel-lines",
        "minimax, saturating",
        (),
        "sgd",
        generator_rate=0.02,
        discriminator_rate=0.3,
        discriminator_steps=10,
    ),
    "lines-wasserstein": Choice(
        "parallel-lines",
        "wasserstein",
        (("gradient-penalty", 1.0),),
        "sgd",
        generator_rate=0.02,
        discriminator_rate=0.03,
        discriminator_steps=10,
    ),
}
"""Games that show something, by the name under which words.yaml speaks of them."""


def objectives() -> dict[str, Tree]:
    """What is said of each objective that needs no labels, by what it is called.

    Where an objective has named alternatives, each of them is a game of its own: the first by the objective's name
    alone, others with the alternative's after it.
    """
    found: dict[str, Tree] = {}
    for name, piece in components(Objective).items():  # type: ignore[type-abstract]
        if issubclass(piece, Supervised):
            continue
        alternatives = _alternatives(piece)
        for values in product(*alternatives.values()):
            changed = [value for key, value in zip(alternatives, values, strict=True) if value != _default(piece, key)]
            found[", ".join([name, *changed])] = {"name": name} | dict(zip(alternatives, values, strict=True))
    return found


def regularizers() -> dict[str, str | None]:
    """The key that says how strong each regularizer is, by its name; None where nothing does.

    Points have no classes to name.
    """
    found = components(Regularizer).items()
    return {name: _first_number(piece) for name, piece in found if not isinstance(piece(), ClassLoss)}  # type: ignore[call-arg]


def optimizers() -> list[str]:
    """Their names."""
    return list(components(OptimizerRule))  # type: ignore[type-abstract]


def strength_of(regularizer: str) -> float | None:
    """How strong a regularizer is at first; None where it has no strength. Raises UserError for an unknown one."""
    key = _known(regularizer, regularizers(), "regularizer")
    if key is None:
        return None
    piece = components(Regularizer)[regularizer]
    return float(_settings()["strengths"].get(regularizer, _default(piece, key)))


def recipe_of(choice: Choice) -> Recipe:
    """The recipe of a game. Raises UserError for what there is not, and for numbers that nobody can play with."""
    said, shape = _settings(), _known(choice.data, SHAPES, "data")
    rules = [_rule(name, strength) for name, strength in choice.regularizers]
    if choice.optimizer not in optimizers():
        _known(choice.optimizer, dict.fromkeys(optimizers()), "optimizer")
    optimizer = {"name": choice.optimizer} | said["optimizers"].get(choice.optimizer, {})
    rates = {"generator": choice.generator_rate, "discriminator": choice.discriminator_rate}
    for role, rate in rates.items():
        bounded(rate, SLOWEST, FASTEST, f"learning rate of the {role}")
    bounded(choice.discriminator_steps, 1, MOST_DISCRIMINATOR_STEPS, "D steps per G step")
    bounded(choice.seed, 0, MOST_SEED, "seed")
    recipe = check(
        said["game"]
        | said["data"].get(choice.data, {})
        | {
            "objective": _known(choice.objective, objectives(), "objective"),
            "regularizers": rules,
            "play": {"name": "alternating", "discriminator_steps": choice.discriminator_steps},
            "optimizers": {role: optimizer | {"learning_rate": float(rate)} for role, rate in rates.items()},
            "seed": choice.seed,
        }
    )
    if isinstance(shape, Shape) and shape.generator is not None:
        return recipe.model_copy(update={"generator": shape.generator})
    return recipe


def _rule(name: str, strength: float | None) -> Tree:
    key = _known(name, regularizers(), "regularizer")
    if key is None:
        return {"name": name}
    value = strength_of(name) if strength is None else strength
    return {"name": name, key: float(bounded(value, 0.0, STRONGEST, f"strength of {name}"))}


def _known(name: Any, known: dict[str, Any], what: str) -> Any:
    if not isinstance(name, str) or name not in known:
        told = str(name)[:40]
        raise UserError(f"unknown {what} {told!r}{did_you_mean(told, known)} (known: {', '.join(known)})")
    return known[name]


def _alternatives(piece: type[Component]) -> dict[str, tuple[str, ...]]:
    """The settings that choose between named alternatives, and these."""
    return {
        key: get_args(field.annotation)
        for key, field in piece.model_fields.items()
        if key != "name" and get_origin(field.annotation) is Literal
    }


def _first_number(piece: type[Component]) -> str | None:
    return next((key for key, field in piece.model_fields.items() if is_number(field.annotation)), None)


def _default(piece: type[Component], key: str) -> Any:
    return piece.model_fields[key].default


@cache
def _settings() -> Tree:
    text = files("twoplayer.explore").joinpath("plane.yaml").read_text(encoding="utf-8")
    said: Tree = read_yaml(text, "plane.yaml")
    return said
