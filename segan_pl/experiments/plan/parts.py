"""A part of a plan's file as a dataclass; a key too many or too few, or a value of another type, is one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from segan_pl.errors import UsageError, nearest

Part = TypeVar("Part")
WORDS = {str: "text (a number or yes in quotes)", int: "a whole number", bool: "true or false", NoneType: "nothing"}


def part(kind: type[Part], where: str, content: Any) -> Part:
    """A dataclass out of a mapping; a single value stands for a list of one, and text in lines for one line.

    Raises:
        UsageError: It is no mapping, has a key too many or too few, or a value of another type than the dataclass says.
    """
    content = mapping(content, where)
    known = {one.name: one for one in fields(kind)}  # type: ignore[arg-type]
    for key in content:
        if key not in known:
            raise UsageError(f"{where}: {key}: unknown; {nearest(str(key), known)}")
    required = [name for name, one in known.items() if one.default is MISSING and one.default_factory is MISSING]
    if lacking := [name for name in required if name not in content]:
        raise UsageError(f"{where}: {lacking[0]} is missing")
    hints = get_type_hints(kind)
    return kind(**{key: _fitted(value, hints[key], f"{where}: {key}") for key, value in content.items()})


def _fitted(value: Any, hint: Any, where: str) -> Any:
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, UnionType):  # "all" of a Literal and null are themselves; all else is of the first type
        choices = [choice for one in inner if _is_choice(one) for choice in get_args(one)]
        itself = (value is None and NoneType in inner) or value in choices
        return value if itself else _fitted(value, inner[0], where)
    if _is_choice(hint):
        require_choice(where, value, inner)
        return value
    if origin is tuple:
        several = value if isinstance(value, list | tuple) else [value]
        parts = where.removesuffix("s")
        places = [f"{parts} {n}" if is_dataclass(inner[0]) else where for n in range(1, len(several) + 1)]
        return tuple(_fitted(one, inner[0], place) for one, place in zip(several, places, strict=True))
    if origin is Mapping:
        return {str(key): _fitted(one, inner[1], f"{where}: {key}") for key, one in mapping(value, where).items()}
    if is_dataclass(hint) and isinstance(hint, type):
        return value if isinstance(value, hint) else part(hint, where, value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise UsageError(f"{where}: expected {WORDS[hint]}, found {type(value).__name__} {str(value)[:60]}")
    return " ".join(value.split()) if hint is str and "\n" in value else value


def _is_choice(hint: Any) -> bool:
    return get_origin(hint) is Literal


def mapping(content: Any, where: str) -> Mapping[str, Any]:
    """What has keys.

    Raises:
        UsageError: It has none.
    """
    if not isinstance(content, Mapping):
        raise UsageError(f"{where}: expected 'key: value' lines, found {type(content).__name__}")
    return content


def require_choice(where: str, value: Any, known: Sequence[str]) -> None:
    """Raise UsageError for a value that is not known; with the nearest that is."""
    if value not in known:
        raise UsageError(f"{where} {value}: unknown; {nearest(str(value), known)}")
