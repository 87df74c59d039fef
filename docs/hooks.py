"""What mkdocs does besides its own: pages made of the program itself, and links that leave docs/.

Nothing that is made here is kept in the repository. A page of docs/reference says `<!-- made: WHAT -->` where it
belongs; WHAT is commands, recipe, settings, or pieces with a key of `KINDS`.
"""

from __future__ import annotations

import inspect
import posixpath
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from twoplayer.cli.main import app
from twoplayer.core.augmentation import Augmentation
from twoplayer.core.catalogue import Component, components, discover
from twoplayer.core.metric import Metric
from twoplayer.core.protocols import (
    DiscriminatorNetwork,
    GeneratorNetwork,
    Latents,
    Objective,
    OptimizerRule,
    Regularizer,
)
from twoplayer.core.schedule import ValueSchedule
from twoplayer.core.tracking import Tracker
from twoplayer.data.source import Source
from twoplayer.export.format import Format
from twoplayer.recipes import schema
from twoplayer.recipes.load import read_recipe, recipe_names

ROOT = Path(__file__).parents[1]
VIRTUAL = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
"""Pages of the site whose text lies outside docs/."""

OUTSIDE = {outside: inside for inside, outside in VIRTUAL.items()} | {
    "README.md": "index.md",
    "src/twoplayer/core/protocols.py": "reference/protocols.md",
    "src/twoplayer/core/metric.py": "reference/metrics.md",
}
"""Where on the site a link goes that leaves docs/ on the code's page."""

KINDS: dict[str, tuple[str, str, tuple[type[Component], ...]]] = {
    "network": ("networks", "networks", (GeneratorNetwork, DiscriminatorNetwork)),
    "objective": ("objectives", "objectives", (Objective,)),
    "regularizer": ("regularizers", "regularizers", (Regularizer,)),
    "augmentation": ("augmentations", "augmentations", (Augmentation,)),
    "latents": ("latents", "latents", (Latents,)),
    "optimizer": ("optimizers", "optimizers", (OptimizerRule,)),
    "schedule": ("schedules", "schedules", (ValueSchedule,)),
    "metric": ("metrics", "metrics", (Metric,)),
    "tracker": ("trackers", "trackers", (Tracker,)),
    "source": ("data", "sources", (Source,)),
    "format": ("export", "formats", (Format,)),
}
"""By what a page asks for: the room, the page in docs/reference, the kinds of pieces."""

SIGNS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages whose text lies outside docs/."""
    for inside, outside in VIRTUAL.items():
        files.append(File.generated(config, inside, content=(ROOT / outside).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put in what is made, and let links that leave docs/ stay on the site."""
    home = VIRTUAL.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    markdown = re.sub(r"<!-- made: ([\w ]+) -->", lambda found: made(found[1]), markdown)
    return re.sub(
        r"\]\((?![a-z]+:|#)([^)#\s]+)", lambda found: f"]({site_link(found[1], home, page.file.src_uri)}", markdown
    )


def site_link(link: str, home: str, page: str) -> str:
    """A link of the file `home`, relative to the repository, as it has to be on a page of the site."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(home), link))
    inside = target.removeprefix("docs/") if target.startswith("docs/") else OUTSIDE.get(target, target)
    return posixpath.relpath(inside, posixpath.dirname(page) or ".")


def made(what: str) -> str:
    """The text that a page asks for."""
    if what == "commands":
        return "\n".join(commands())
    if what == "recipe":
        return "\n".join(recipe_list())
    if what == "settings":
        return "\n".join(settings())
    return "\n".join(pieces(what.removeprefix("pieces ")))


# The command line


def commands() -> Iterator[str]:
    """Every verb with its arguments and options."""
    group = typer.main.get_command(app)
    yield from _verbs(group, "twoplayer")


def _verbs(group: Any, prefix: str) -> Iterator[str]:
    context = group.context_class(group, info_name=prefix)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if hasattr(command, "list_commands"):
            yield from _verbs(command, f"{prefix} {name}")
        else:
            yield from _verb(command, f"{prefix} {name}")


def _verb(command: Any, called: str) -> Iterator[str]:
    context = command.context_class(command, info_name=called)
    yield f"## `{called}`\n"
    yield f"{inspect.cleandoc(command.help or '')}\n"
    yield f"```text\n{called} {' '.join(command.collect_usage_pieces(context))}\n```\n"
    rows = [record for one in command.get_params(context) if (record := one.get_help_record(context))]
    said = [(re.sub(r"<list\[\w+\]>|<bool>|<path>", "", name).strip(), meaning) for name, meaning in rows]
    yield from table(("word", "meaning"), ((f"`{name}`", text) for name, text in said if not name.startswith("--help")))


# Recipes


def recipe_list() -> Iterator[str]:
    """The recipes that come with the package."""
    yield from table(("recipe", "what it is"), ((f"`{name}`", read_recipe(name)["title"]) for name in recipe_names()))


def settings() -> Iterator[str]:
    """The recipe's keys, and those of its sections that are no pieces."""
    sections = {
        "At the top": ("", schema.Recipe),
        "data": ("data.", schema.DataOptions),
        "play, both at once": ("play.", schema.Simultaneous),
        "play, in turns": ("play.", schema.Alternating),
        "optimizers": ("optimizers.", schema.Optimizers),
        "average": ("average.", schema.Average),
        "stop": ("stop.", schema.Goal),
        "levels": ("levels.0.", schema.Level),
    }
    for title, (prefix, model) in sections.items():
        yield f"### {title}\n"
        yield f"{summary(model)}\n"
        yield from keys(model, prefix)


# Pieces


def pieces(kind: str) -> Iterator[str]:
    """All pieces of a kind, file by file: where they come from, their keys, their methods."""
    room, _, bases = KINDS[kind]
    discover(f"twoplayer.{room}")
    homes: dict[str, list[type[Component]]] = {}
    for base in bases:
        for piece in components(base).values():
            if piece.__module__.startswith("twoplayer."):
                homes.setdefault(piece.__module__, []).append(piece)
    for module in sorted(homes, key=lambda module: homes[module][0].model_fields["name"].default):
        names = dict.fromkeys(piece.model_fields["name"].default for piece in homes[module])
        yield f"## {', '.join(names)}\n"
        yield f"{with_lists(inspect.getdoc(sys.modules[module]) or '')}\n"
        for piece in homes[module]:
            yield from _piece(piece, heading=len(homes[module]) > 1)


def _piece(piece: type[Component], *, heading: bool) -> Iterator[str]:
    if heading:
        yield f"### {piece.kind}: {piece.model_fields['name'].default}\n"
    said = f"::: {piece.__module__}.{piece.__name__}"
    yield f"{said}\n    options: {{show_root_heading: false, show_root_toc_entry: false, members: false,"
    yield "      show_docstring_attributes: false, merge_init_into_class: false, show_labels: false}\n"
    yield from keys(piece, "")
    for name, method in vars(piece).items():
        own = inspect.isfunction(method) and method.__module__ == piece.__module__
        if own and method.__doc__ and not name.startswith("_"):
            yield f"{said}.{name}\n    options: {{heading_level: 4, show_root_toc_entry: false}}\n"


# Keys, types, tables


def keys(model: type[BaseModel], prefix: str) -> Iterator[str]:
    """A table of a model's keys; nothing where there are none but a name."""
    meanings = {name: text for base in reversed(model.__mro__) for name, text in attributes(base).items()}
    fields = {
        name: field for name, field in model.model_fields.items() if prefix or name != "name" or model is schema.Recipe
    }
    rows = [
        (f"`{prefix}{name}`", allowed(field), default(field), meanings.get(name, "")) for name, field in fields.items()
    ]
    if rows:
        yield from table(("key", "allowed", "default", "meaning"), rows)


def attributes(model: type) -> dict[str, str]:
    """What a class's own docstring says about its attributes."""
    _, _, section = inspect.cleandoc(model.__dict__.get("__doc__") or "").partition("Attributes:\n")
    found = re.findall(r"^    (\w+): (.*(?:\n {6,}.*)*)", section, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def summary(model: type) -> str:
    """A docstring up to its first section."""
    return re.split(r"\n\n(?:Attributes|Args):", inspect.cleandoc(model.__doc__ or ""))[0]


def allowed(field: FieldInfo) -> str:
    """Type and bounds, in words."""
    words = [typed(field.annotation)]
    for bound in field.metadata:
        words += [f"{sign} {getattr(bound, name):,}" for name, sign in SIGNS.items() if hasattr(bound, name)]
    return ", ".join(words)


def typed(annotation: Any) -> str:
    """A type, in words."""
    inner = [one for one in get_args(annotation) if one is not NoneType]
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{value}`" for value in inner)
    if hasattr(annotation, "__metadata__"):
        return typed(inner[0])
    if isinstance(annotation, type) and issubclass(annotation, Component):
        page = next((page for _, page, bases in KINDS.values() if issubclass(annotation, bases)), None)
        return f"[{annotation.kind}]({page}.md)" if page else annotation.kind
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section, see below"
    if get_origin(annotation) in (tuple, list):
        return f"list of {typed(inner[0])}"
    if inner:
        return " or ".join(dict.fromkeys(typed(one) for one in inner))
    return {int: "whole number", float: "number", str: "text", bool: "`true` or `false`"}.get(
        annotation, f"`{annotation}`"
    )


def default(field: FieldInfo) -> str:
    """What holds when the key is left out."""
    if field.is_required():
        return "has to be said"
    value = field.get_default(call_default_factory=True)
    if value is None or value == () or value == "":
        return "none"
    shown = {True: "true", False: "false"}.get(value, value) if isinstance(value, bool) else value
    return f"`{list(shown) if isinstance(shown, tuple) else shown}`"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """A table in Markdown, with an empty line after it."""
    head = list(head)
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(map(in_cell, row))} |"
    yield ""


def in_cell(text: str) -> str:
    """Text on one line, with bars outside code escaped."""
    return re.sub(r"`[^`]*`|\|", lambda found: found[0] if found[0] != "|" else r"\|", " ".join(text.split()))


def with_lists(text: str) -> str:
    """Docstrings begin a list without an empty line before it; Markdown wants one."""
    return re.sub(r"(^(?!- |\s).+\n)(?=- )", r"\1\n", text, flags=re.MULTILINE)
