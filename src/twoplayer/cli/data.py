"""`twoplayer data`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from twoplayer.data.images import ImageData
    from twoplayer.recipes.schema import Recipe

GENERAL_RECIPE = "mnist-wgan-gp"
LARGEST_SIZE = 64
"""Pixels a side beyond which training on two processor cores takes days."""


def data(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="digits, mnist, folder:PATH, FILE.npz, ...")],
) -> None:
    """Say what a data source is, what would be used of it, and what is wrong with it."""
    from twoplayer.core.errors import UserError
    from twoplayer.data.inspect import describe, problems
    from twoplayer.data.source import open_source

    recipe = recipe_for(source)
    opened = open_source(source)
    survey = opened.survey()
    for problem in survey.problems:
        typer.echo(f"warning  {problem}")
    try:
        loaded = opened.load(recipe.data.split if recipe else "train", survey.image_size, None)
    except UserError:
        if not survey.problems:
            raise
        raise UserError(f"{source} cannot be used before that is mended") from None
    for label, text in describe(loaded).items():
        typer.echo(f"{label:8} {text}")
    for problem in problems(loaded):
        typer.echo(f"warning  {problem}")
    command = f"twoplayer train {recipe.name}" if recipe else general_command(source, loaded, survey.image_size)
    typer.echo(f"train    {command}")


def recipe_for(source: str) -> Recipe | None:
    """A recipe that was made for this source, if there is one."""
    from twoplayer.recipes.load import load_recipe, recipe_names

    known = [
        recipe for recipe in map(load_recipe, recipe_names()) if recipe.data.source == source and not recipe.levels
    ]
    return next((recipe for recipe in known if recipe.name == GENERAL_RECIPE), known[0] if known else None)


def general_command(source: str, loaded: ImageData, image_size: int | None) -> str:
    """A command that trains on any data: the general recipe with what the data needs."""
    from twoplayer.recipes.load import load_recipe

    words = ["twoplayer", "train", GENERAL_RECIPE, "--data", source]
    if image_size is None and max(loaded.shape[1:]) > LARGEST_SIZE:
        image_size = LARGEST_SIZE
    if image_size is not None:
        words.append(f"data.image_size={image_size}")
    if len(loaded) < load_recipe(GENERAL_RECIPE).batch_size:
        words.append(f"batch_size={len(loaded)}")
    return shlex.join(words)
