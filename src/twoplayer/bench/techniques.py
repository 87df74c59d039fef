"""The techniques against mode collapse that the benchmark compares: what each changes in the same plain game."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from twoplayer.core.errors import UserError, did_you_mean
from twoplayer.recipes.load import Tree, check, merge, parse_overrides, read_recipe, read_yaml
from twoplayer.recipes.schema import Recipe

PLAYERS = ("generator", "discriminator")


@dataclass(frozen=True)
class Technique:
    """A change to a game.

    Attributes:
        overrides: what it says, as on the command line.
        pack: images that D judges together.
    """

    overrides: tuple[str, ...] = ()
    pack: int = 1


TECHNIQUES = {
    "plain": Technique(),
    "feature-matching": Technique(("objective={name: feature-matching}",)),
    "minibatch-discrimination": Technique(("discriminator.minibatch=discrimination",)),
    "packing": Technique(pack=2),
    "wasserstein-penalty": Technique(
        (
            "objective={name: wasserstein}",
            "regularizers=[{name: gradient-penalty}]",
            "play={name: alternating, discriminator_steps: 3}",
        )
    ),
    "relativistic-r1-r2": Technique(("objective={name: relativistic}", "regularizers=[{name: r1}, {name: r2}]")),
}


def technique_named(name: str) -> Technique:
    """Raises UserError where there is none of that name."""
    if name not in TECHNIQUES:
        raise UserError(f"unknown technique {name!r}{did_you_mean(name, TECHNIQUES)} (known: {', '.join(TECHNIQUES)})")
    return TECHNIQUES[name]


def game_of(settings: str, technique: str, words: Sequence[str], base: str | None = None) -> Recipe:
    """The game that a technique makes of the settings.

    Words about the players change them before the technique does, so that it builds on them: D's width is the same
    whether it is packed or not. All other words have the last say.

    Args:
        settings: a file in this folder: a recipe, and under `strengths` what a technique says on these data.
        technique: its name.
        words: KEY=VALUE.
        base: a recipe's name or file, taken instead of the settings.

    Raises:
        UserError: a name or a word is wrong.
    """
    chosen, said = technique_named(technique), parse_overrides(words)
    tree = _settings(settings) if base is None else read_recipe(base)
    strengths = tree.pop("strengths", {}).get(technique, [])
    tree = merge(tree, [change for change in said if change[0][0] in PLAYERS])
    if chosen.pack > 1:
        packed = {"name": "packed", "size": chosen.pack, "network": tree["discriminator"]}
        tree = merge(tree, [(["discriminator"], packed)])
    for overrides in (chosen.overrides, strengths):
        tree = merge(tree, parse_overrides(overrides))
    return check(merge(tree, [change for change in said if change[0][0] not in PLAYERS]))


def _settings(file: str) -> Tree:
    text = resources.files("twoplayer.bench").joinpath(file).read_text(encoding="utf-8")
    tree: Tree = read_yaml(text, file)
    return tree
