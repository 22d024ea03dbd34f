"""The placeholders of a plan: {name} and {mapping[key]}, and the lists over which it repeats its runs and rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import yaml

from segan_pl.errors import UsageError, nearest

VARIABLE = re.compile(r"\{(\w+)(?:\[(\w+)\])?\}")
Names = Mapping[str, Any]
"""What placeholders mean: the plan's values, those of the data, and the variables of a pattern."""


class LeftOutError(Exception):
    """Why something of a plan is not made on these data."""


def text(template: str, names: Names) -> str:
    """A text with its placeholders filled: {name}, or {mapping[key]}, where a key may be a name.

    Raises:
        UsageError: There is no such name.
        LeftOutError: It has no value.
    """

    def value(match: re.Match[str]) -> str:
        found = named(match[1], names, template)
        if match[2] is None:
            return shown(found)
        key = names.get(match[2], match[2])
        if not isinstance(found, Mapping) or key not in found:
            known = nearest(str(key), found) if isinstance(found, Mapping) else f"{match[1]} is no mapping"
            raise UsageError(f"{match[0]}: no {key}; {known}")
        return shown(found[key])

    return VARIABLE.sub(value, template)


def named(name: str, names: Names, template: str) -> Any:
    """What a name means; errors say in which text.

    Raises:
        UsageError: There is no such name.
        LeftOutError: It has no value.
    """
    if name not in names:
        raise UsageError(f"{template}: {name}: no such value; {nearest(name, names)}")
    if names[name] is None:
        raise LeftOutError(f"it needs --set {name}=...")
    return names[name]


def shown(value: Any) -> str:
    """Lists are joined by "+", and mappings as "t1 .25 t2 .5", as published.csv writes them; sizes by " x "."""
    if isinstance(value, Mapping):
        return " ".join(f"{key} {str(one).removeprefix('0')}" for key, one in value.items())
    if not isinstance(value, list):
        return str(value)
    return (" x " if all(isinstance(one, int) for one in value) else "+").join(map(str, value))


def option_text(value: Any, names: Names) -> str:
    """A value of an option as the command line takes it."""
    if isinstance(value, str) and (match := VARIABLE.fullmatch(value)) and match[2] is None:
        found = named(match[1], names, value)
        value = found if isinstance(found, list) else shown(found)
    if isinstance(value, list):
        return f"[{','.join(text(str(one), names) for one in value)}]"
    return text(yaml.safe_dump(value).splitlines()[0] if not isinstance(value, str) else value, names)


def combinations(each: Mapping[str, Any], names: Names, where: str) -> list[dict[str, Any]]:
    """Every combination of the values of some variables; {} alone where there are none.

    A list is given, or named; a mapping means its keys, a whole number for 0 up to it.
    """
    lists = []
    for given in each.values():
        value = named(given, names, where) if isinstance(given, str) else given
        lists.append(list(range(value)) if isinstance(value, int) else list(value))
    return [dict(zip(each, one, strict=True)) for one in product(*lists)]


def without(value: Any, gone: Sequence[str]) -> Any:
    """A list or a mapping without some words; anything else as it is."""
    if isinstance(value, Mapping):
        return {key: one for key, one in value.items() if key not in gone}
    return [one for one in value if one not in gone] if isinstance(value, list) else value
