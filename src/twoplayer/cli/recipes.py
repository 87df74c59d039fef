"""`twoplayer recipes`."""

from __future__ import annotations

from typing import Annotated

import typer


def recipes(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Print this recipe instead of the list.")] = None,
) -> None:
    """List the recipes, or print one with its header."""
    from twoplayer.recipes.load import AUTO, read_recipe, recipe_names, recipe_text

    if name is not None:
        typer.echo(recipe_text(name), nl=False)
        return
    width = max(map(len, recipe_names()))
    for known in recipe_names():
        typer.echo(f"{known:{width}}  {read_recipe(known)['title']}")
    typer.echo(f"{AUTO:{width}}  made for your own data: twoplayer train {AUTO} --data SOURCE")
