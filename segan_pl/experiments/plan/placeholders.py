"""The placeholders of a plan: {name} and {mapping[key]}, and the lists over which it repeats its runs and rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import yaml

from segan_pl.errors import UsageError, nearest

VARIABLE = re.compile(r"\{(\w+)(?:\[(\w+)\])?\}")
UNKNOWN = "<not given>"
"""In the place of a value that a plan leaves to `--set`, while the plan is checked without it."""
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
    return VARIABLE.sub(lambda match: shown(_meant(match, names, template)), template)


def _meant(match: re.Match[str], names: Names, template: str) -> Any:
    """What one placeholder means."""
    found = named(match[1], names, template)
    if match[2] is None or found == UNKNOWN:
        return found
    key = names.get(match[2], match[2])
    if not isinstance(found, Mapping):
        raise UsageError(f"{match[0]}: no {key}; {match[1]} is no mapping")
    if key != UNKNOWN and (isinstance(key, list | Mapping) or key not in found):
        raise UsageError(f"{match[0]}: no {key}; {nearest(str(key), map(str, found))}")
    return UNKNOWN if key == UNKNOWN else found[key]


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
    """A value of an option as the command line takes it: a list as [a,b], a mapping as YAML in one line."""
    value = _filled(value, names)
    return f"[{','.join(map(_yaml, value))}]" if isinstance(value, list) else _yaml(value)


def _filled(value: Any, names: Names) -> Any:
    """A value with its placeholders filled; one that is a placeholder alone is what that means, of whatever type."""
    if isinstance(value, str):
        match = VARIABLE.fullmatch(value)
        return _meant(match, names, value) if match else text(value, names)
    if isinstance(value, Mapping):
        return {key: _filled(one, names) for key, one in value.items()}
    return [_filled(one, names) for one in value] if isinstance(value, list) else value


def _yaml(value: Any) -> str:
    if isinstance(value, str):
        return value
    return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=100_000).splitlines()[0]


def combinations(each: Mapping[str, Any], names: Names, where: str) -> list[dict[str, Any]]:
    """Every combination of the values of some variables; {} alone where there are none.

    A list is given, or named; a mapping means its keys, a whole number for 0 up to it.

    Raises:
        UsageError: A variable goes over something else.
        LeftOutError: It goes over what has no value.
    """
    lists = []
    for variable, given in each.items():
        value = named(given, names, where) if isinstance(given, str) else given
        if isinstance(value, int) and value > 0 and value is not True:
            value = range(value)
        elif value == UNKNOWN:
            value = [UNKNOWN]
        elif not isinstance(value, list | Mapping):
            raise UsageError(
                f"{where}: {variable}: expected a list, a mapping or a whole number from 1, found {given!r}"
                + (f" ({value!r})" if isinstance(given, str) else "")
            )
        if None in (every := list(value)):
            raise UsageError(f"{where}: {variable}: expected values, found null among them")
        lists.append(every)
    return [dict(zip(each, one, strict=True)) for one in product(*lists)]


def without(value: Any, gone: Sequence[str]) -> Any:
    """A list or a mapping without some words; anything else as it is."""
    if isinstance(value, Mapping):
        return {key: one for key, one in value.items() if key not in gone}
    return [one for one in value if one not in gone] if isinstance(value, list) else value
