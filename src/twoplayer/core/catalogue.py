"""Every piece of the game registers itself here by being defined.

A component is its own configuration: a frozen pydantic model with a literal `name`, its hyper-parameters and its
methods. Defining a subclass of one of the kinds in `protocols.py` that has such a name puts it in the catalogue; the
recipe schema builds its unions from there. Adding a piece is one file.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import partial
from typing import Annotated, Any, ClassVar, TypeVar, Union

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SerializeAsAny
from pydantic_core import PydanticCustomError

_components: dict[str, dict[str, type[Component]]] = {}


class Settings(BaseModel):
    """Base of everything a recipe says. Unknown keys, wrong types, NaN and infinities are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Component(Settings):
    """Base of all pieces."""

    kind: ClassVar[str]

    name: str

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        field = cls.model_fields.get("name")
        if field is None or not isinstance(field.default, str):
            return
        known = _components.setdefault(cls.kind, {})
        other = known.setdefault(field.default, cls)
        assert other.__qualname__ == cls.__qualname__, f"two pieces of kind {cls.kind} are called {field.default!r}"
        known[field.default] = cls


C = TypeVar("C", bound=Component)


def components(base: type[C]) -> dict[str, type[C]]:
    """All registered pieces of a kind, by name, sorted."""
    found = _components.get(base.kind, {})
    return {name: found[name] for name in sorted(found)}  # type: ignore[misc]


def union_of(base: type[C]) -> Any:
    """The pydantic type "any registered piece of this kind", told apart by `name`."""
    members = tuple(components(base).values())
    assert members, f"no piece of kind {base.kind} is registered"
    if len(members) == 1:
        return Annotated[members[0], BeforeValidator(_require_name)]
    return Annotated[Union[members], Field(discriminator="name")]  # noqa: UP007 - built at run time


def any_of(base: type[C]) -> Any:
    """The pydantic type "any registered piece of this kind", looked up when a value comes: for pieces inside pieces."""
    return Annotated[base, BeforeValidator(partial(piece_of, base)), SerializeAsAny()]  # type: ignore[type-arg]


def piece_of(base: type[C], value: Any) -> Any:
    """The registered piece of this kind that a mapping describes; whatever is no mapping, unchanged."""
    if not isinstance(value, dict):
        return value
    name, known = _require_name(value)["name"], components(base)
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"no {base.kind} is called {name!r} (there are: {', '.join(known)})")
    return known[name].model_validate(value)


def _require_name(value: Any) -> Any:
    """What pydantic asks of a union by itself: without it the only piece of a kind could go without its name."""
    if isinstance(value, dict) and "name" not in value:
        raise PydanticCustomError("union_tag_not_found", "a piece needs its name")
    return value


def discover(package: str) -> None:
    """Import every module of a package, so that the pieces in it register themselves."""
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        importlib.import_module(f"{package}.{module.name}")
