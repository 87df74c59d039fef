"""From a recipe's name or file and the user's overrides to a checked `Recipe`, or to one line on what is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from twoplayer.core.errors import UserError, did_you_mean
from twoplayer.recipes.schema import Recipe

Tree = dict[str, Any]

AUTO = "auto"
"""Not the name of a file: the recipe that is made for the data; see `recipes/auto.py`."""

Override = tuple[list[str], Any]
"""A path of keys and the value to put there."""


class _Loader(yaml.SafeLoader):
    """Safe YAML that reads 1e-4 as a number and refuses aliases and a key that stands twice."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "aliases are not used in recipes")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def read_yaml(text: str, where: str) -> Any:
    """Plain data from YAML text; `where` names it in the error. Raises UserError."""
    try:
        return _Loader(text).get_single_data()
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        problem = " ".join(str(error).split())
        raise UserError(f"{where} is not valid YAML: {problem}") from error


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package."""
    files = resources.files("twoplayer.recipes").iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


def recipe_text(name: str) -> str:
    """The YAML of a recipe that comes with the package, header included. Raises UserError for unknown names."""
    if name not in recipe_names():  # a recipe's name wins over a folder of that name
        if (Path(name) / "config.yaml").is_file():
            raise UserError(
                f"{name} is a run: repeat it with {name}/config.yaml, or continue it with --resume --out {name}"
            )
        if name == AUTO:
            raise UserError("auto is made for the data that it is given: twoplayer train auto --data SOURCE")
        hint = did_you_mean(name, [*recipe_names(), AUTO])
        raise UserError(f"unknown recipe {name!r}{hint} (known: {', '.join([*recipe_names(), AUTO])})")
    return resources.files("twoplayer.recipes").joinpath(f"{name}.yaml").read_text(encoding="utf-8")


def read_recipe(what: str) -> Tree:
    """The unchecked contents of a recipe's name or a .yaml file. Raises UserError."""
    if not what.endswith((".yaml", ".yml")):
        return _mapping(read_yaml(recipe_text(what), f"recipe {what}"), what)
    path = Path(what).expanduser()
    if path.is_dir():
        raise UserError(f"{what} is a folder")
    if not path.is_file():
        raise UserError(f"{what}: no such file (recipes by name: {', '.join(recipe_names())})")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{what} is not UTF-8 text") from error
    return _mapping(read_yaml(text, what), what)


def _mapping(value: Any, where: str) -> Tree:
    if not isinstance(value, dict):
        raise UserError(f"{where} is not a recipe: expected keys and values at the top")
    return dict(value)


def parse_overrides(words: Iterable[str]) -> list[Override]:
    """`a.b=value` words as (path, value). Values are YAML: 3, 1e-4, true, [..], {..}, text."""
    parsed = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not all(key.split(".")) or not value:
            raise UserError(f"{word!r} is not KEY=VALUE, for example steps=500")
        parsed.append((key.split("."), read_yaml(value, word)))
    return parsed


def flatten(settings: Mapping[str, Any]) -> list[Override]:
    """Nested keyword settings as (path, value), in the order of the mapping."""
    flat: list[Override] = []
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat.extend(([key, *path], inner) for path, inner in flatten(value))
        else:
            flat.append(([key], value))
    return flat


def merge(base: Tree, overrides: list[Override]) -> Tree:
    """The base with the overrides put in; the base is not changed.

    A piece that gets another `name` starts from its own defaults, whatever the order of the words. Saying `steps`
    takes `epochs` away and the other way round. An element of a list is addressed by its `name` or its place. What is
    overridden loses its reasons; for other data, everything.
    """
    merged: Tree = _copy(base)
    said = {path[0] for path, _ in overrides if len(path) == 1}
    if {"steps", "epochs"} & said and not {"steps", "epochs"} <= said:
        merged.pop("epochs" if "steps" in said else "steps", None)
    for path, value in sorted(overrides, key=lambda override: override[0][-1] != "name"):
        if len(path) == 1:
            merged[path[0]] = _copy(value)
        else:
            _put(merged, path, value, ".".join(path))
    if isinstance(merged.get("reasons"), dict):
        paths = [_by_name(base, path) for path, _ in overrides]
        if _source_of(base) not in (None, _source_of(merged)):
            paths.append([])
        merged["reasons"] = {key: why for key, why in merged["reasons"].items() if _is_untouched(merged, key, paths)}
    return merged


def _by_name(tree: Any, path: list[str]) -> list[str]:
    """The same path with the names of list elements in place of their places."""
    named = []
    for key in path:
        if isinstance(tree, list) and key.isdecimal() and int(key) < len(tree):
            tree = tree[int(key)]
            named.append(tree.get("name", key) if isinstance(tree, dict) else key)
        else:
            tree = tree.get(key) if isinstance(tree, dict) else None
            named.append(key)
    return named


def _source_of(tree: Tree) -> Any:
    data = tree.get("data")
    return data.get("source") if isinstance(data, dict) else None


def _is_untouched(tree: Tree, key: str, paths: list[list[str]]) -> bool:
    """Whether a dotted key is still there, be it as null, and no override's path meets it."""
    own = key.split(".")
    if any(all(mine == theirs for mine, theirs in zip(own, path, strict=False)) for path in paths):
        return False
    return value_at(tree, key) is not None or key in tree


def value_at(tree: Tree, key: str) -> Any:
    """What plain data says under a dotted key, elements of lists by their names; None where it says nothing."""
    inner: Any = tree
    for part in key.split("."):
        if isinstance(inner, list):
            inner = next((each for each in inner if isinstance(each, dict) and each.get("name") == part), None)
        else:
            inner = inner.get(part) if isinstance(inner, dict) else None
    return inner


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(inner) for key, inner in value.items()}
    return [_copy(inner) for inner in value] if isinstance(value, list | tuple) else value


def _put(tree: Any, path: list[str], value: Any, whole: str) -> None:
    key, rest = path[0], path[1:]
    if isinstance(tree, list):
        place = _place(tree, key, whole)
        if rest:
            _put(tree[place], rest, value, whole)
        else:
            tree[place] = _copy(value)
    elif not isinstance(tree, dict):
        raise UserError(f"{whole}: {tree!r} has no keys in it")
    elif not rest:
        if key == "name" and tree.get("name", value) != value:
            tree.clear()
        tree[key] = _copy(value)
    else:
        if rest == ["name"] and not isinstance(tree.get(key), dict | list):
            tree[key] = {}  # a piece takes the place of a number
        _put(tree.setdefault(key, {}), rest, value, whole)


def _place(items: list[Any], key: str, whole: str) -> int:
    names = [item.get("name") if isinstance(item, dict) else None for item in items]
    if key in names:
        return names.index(key)
    if key.isdecimal() and int(key) < len(items):
        return int(key)
    raise UserError(f"{whole}: no element {key!r} (there are: {', '.join(map(str, names)) or 'none'})")


def load_recipe(what: str, overrides: list[Override] | None = None) -> Recipe:
    """A checked recipe. Raises UserError with one line that names the key and what it may be."""
    return check(merge(read_recipe(what), overrides or []))


def check(tree: Tree) -> Recipe:
    """The recipe that plain data describes. Raises UserError."""
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise UserError(explain(error, tree)) from error


def to_yaml(recipe: Recipe) -> str:
    """The fully resolved recipe; reading it back gives an equal one."""
    tree = recipe.model_dump(mode="json", exclude_none=True)
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def explain(error: ValidationError, tree: Tree) -> str:
    """The first thing wrong, in one line: the key, the nearest valid key, what is allowed."""
    first = error.errors()[0]
    path, model = _walk(first["loc"], tree)
    key = ".".join(path) or "recipe"
    kind, context = first["type"], first.get("ctx", {})
    if kind == "extra_forbidden":
        known = list(model.model_fields) if model else []
        return f"unknown key {key!r}{did_you_mean(path[-1], known)} (allowed: {', '.join(known)})"
    if kind == "missing":
        return f"{key} is missing"
    if kind in ("union_tag_invalid", "literal_error"):
        allowed = re.findall(r"'([^']*)'|(\d+)", str(context.get("expected_tags", context.get("expected"))))
        words = [text or number for text, number in allowed]
        value = str(context.get("tag", first["input"]))
        key = f"{key}.name" if kind == "union_tag_invalid" else key
        return f"{key}={value}{did_you_mean(value, words)} (allowed: {', '.join(words)})"
    if kind == "union_tag_not_found":
        return f"{key} needs a name (a piece is written as {{name: ..., its settings}})"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        inner = "source" if key == "data" else "name"
        return f"{key}={first['input']} has to be keys and values, for example {key}.{inner}=..."
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if kind == "value_error":
        return f"{key}: {message}"
    return f"{key}={first['input']!r} {message[:1].lower() + message[1:]}"


def _walk(loc: tuple[int | str, ...], tree: Any) -> tuple[list[str], type[BaseModel] | None]:
    """The user's path to an error, without pydantic's union tags, and the model whose key is at fault."""
    path: list[str] = []
    models: list[type[BaseModel]] = [Recipe]
    owner: type[BaseModel] | None = Recipe
    for index, part in enumerate(loc):
        is_last = index == len(loc) - 1
        if isinstance(tree, dict) and (part in tree or (is_last and owner is not None)) and not _is_tag(part, tree):
            owner = _chosen(models, tree)
            path.append(str(part))
            field = owner.model_fields.get(str(part)) if owner else None
            models = _models_in(field.annotation) if field else []
            tree = tree.get(part)
        elif isinstance(tree, list) and isinstance(part, int) and part < len(tree):
            path.append(str(part))
            tree = tree[part]
    return path, owner


def _is_tag(part: int | str, tree: Tree) -> bool:
    return tree.get("name") == part and part not in tree


def _chosen(models: list[type[BaseModel]], tree: Tree) -> type[BaseModel] | None:
    for model in models:
        name = model.model_fields.get("name")
        if len(models) == 1 or (name and name.default == tree.get("name")):
            return model
    return None


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models_in(inner)]
