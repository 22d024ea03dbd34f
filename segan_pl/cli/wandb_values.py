"""Values as W&B's sweep agent writes them, `--key=str(value)`, in the notation of our parsers.

Python's text and YAML's differ: None, 1e3 or 2.0 where a whole number is meant, (96, 96, 96), nested {'a': None}. Only
what the option's type cannot take as it was typed is changed, so that text which is right stays as it is.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, get_args, get_origin

from jsonargparse import Namespace

from segan_pl.cli.mistakes import members, parameters

WHOLE = re.compile(r"[-+]?\d+(\.0*)?([eE]\+?\d+)?")
MOST_DIGITS = 4300  # Python's own limit between text and whole numbers
LENGTHS = ("total_iters", "T_max")  # as in `schedules`, which needs PyTorch
SEQUENCES = (list, tuple, set, Sequence)
HOLDERS = (*SEQUENCES, dict, Mapping)
PLAIN = (str, int, float, bool, type(None), *HOLDERS)
# What is meant for a truth value, be it one or not (0, n): the option's type refuses the latter.
BOOLEANS = ("true", "false", "yes", "no", "on", "off", "null", "none", "0", "1", "y", "n", "t", "f")
Options = Mapping[str, tuple[Any, bool]]  # dotted keys with their types, None where any text will do


def normalise(arguments: Sequence[str], options: Options) -> list[str]:
    """A command line with its values in YAML's notation.

    "None" is null where null is allowed, and text where it is not. A dictionary for an option that has options below it
    becomes an argument each: `--data={'batch_size': 8.0}` is `--data.batch_size=8`. One that is true or false may stand
    without a value, before anything that is none: `--overwrite` is `--overwrite=true`.

    Args:
        arguments: `--key=value` and `--key value`; everything else stays as it is.
        options: The parser's; their types decide.
    """
    out: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        name, equals, value = argument.partition("=")
        if not name.startswith("--"):
            out.append(argument)
        elif equals:
            out.extend(written(name, value, options))
        elif _is_switch(name, options) and (not rest or rest[0].strip("'\"").lower() not in BOOLEANS):
            out.append(f"{name}=true")
        elif rest and not rest[0].startswith("--"):
            value = rest.pop(0)  # or an argument of its own after a flag, which has no type and so changes nothing
            changed = written(name, value, options)
            out.extend([name, value] if changed == [f"{name}={value}"] else changed)
        else:
            out.append(argument)
    return out


def normalise_object(settings: Namespace | Mapping[str, Any], options: Options) -> Namespace | dict[str, Any]:
    """The arguments of a class, by name, their text in YAML's notation.

    A schedule's length that is null becomes 0, which PyTorch's type takes: the run's length (see `schedules`).

    Args:
        settings: As they came from a command line (text) or a file.
        options: Of the class's own parser.
    """
    pairs = settings.items(branches=True, nested=False) if isinstance(settings, Namespace) else settings.items()
    out: dict[str, Any] = {}
    for key, value in pairs:
        _, kind = _option(str(key), options)
        if key in LENGTHS and value in (None, "null", "None") and kind is int:
            value = 0
        out[key] = as_yaml(value, kind) if type(value) is str and kind is not None else value
    return Namespace(out) if isinstance(settings, Namespace) else out


def written(name: str, value: str, options: Options) -> list[str]:
    """One option's `--name=value` arguments, its value in YAML's notation.

    Args:
        name: With its hyphens, e.g. "--data.preparation".
        value: As typed.
        options: Of the parser.
    """
    known, kind = _option(name.removeprefix("--"), options)
    plain = kind is not None and all(one is Any or (get_origin(one) or one) in PLAIN for one in members(kind))
    if known and value.startswith("{") and not plain:  # a group of options, or a class with arguments
        content = _literal(value)
        if isinstance(content, dict) and content and not _is_json(value):
            return [one for key, inner in _flat(name, content) for one in written(key, str(inner), options)]
    return [f"{name}={as_yaml(value, kind) if kind is not None else value}"]


def as_yaml(text: str, kind: Any) -> str:
    """A value's text for an option of a type.

    Args:
        text: As typed.
        kind: The option's type, e.g. `int | None`.
    """
    kinds = members(kind)
    if text == "None":
        return "null" if type(None) in kinds or Any in kinds else text
    if WHOLE.fullmatch(text):
        if not _only_whole(kinds):
            return text
        try:  # digit by digit: a float would change the number beyond 2**53 and lose it beyond 1e308
            number = Decimal(text)
        except InvalidOperation:  # an exponent of more than 18 digits
            return text
        # what Python would not write out stays as it is, for the parser to refuse
        return str(int(number)) if number.adjusted() < MOST_DIGITS else text
    if text[:1] in ("(", "[", "{") and any(one is Any or (get_origin(one) or one) in HOLDERS for one in kinds):
        content = _literal(text)
        fitted = _fitted(content, kinds)
        if isinstance(content, list | tuple | dict) and not (_is_json(text) and repr(fitted) == repr(content)):
            return json.dumps(fitted)
    return text


# -- types -------------------------------------------------------------------------------------------------------------


def _only_whole(kinds: Sequence[Any]) -> bool:
    """Whether a number must be whole: 1.0 and 1 mean different things where both are allowed."""
    return int in kinds and not any(one in (float, str, Any) for one in kinds)


def _fitted(value: Any, kinds: Sequence[Any]) -> Any:
    """A list or dictionary with its numbers whole where they must be."""
    if isinstance(value, float):
        return int(value) if _only_whole(kinds) and value.is_integer() else value
    if isinstance(value, list | tuple):
        inner = next((get_args(one) for one in kinds if (get_origin(one) or one) in SEQUENCES), ())
        inner = tuple(one for one in inner if one is not Ellipsis) or (Any,)
        return [_fitted(one, members(inner[min(number, len(inner) - 1)])) for number, one in enumerate(value)]
    if isinstance(value, dict):
        inner = next((get_args(one) for one in kinds if get_origin(one) in (dict, Mapping)), ())
        return {key: _fitted(one, members(inner[-1] if inner else Any)) for key, one in value.items()}
    return value


# -- options -----------------------------------------------------------------------------------------------------------


def _option(key: str, options: Options) -> tuple[bool, Any]:
    """Whether a dotted key is an option or lies above or below one; its type, None where the parser does not say it.

    The arguments of a dataclass are typed here; those of a class that is chosen by its path are by its own parser.
    """
    if key in options:
        return True, options[key][0]
    above, dot, name = key.rpartition(".")
    if not dot:
        return any(one.startswith(f"{key}.") for one in options), None
    known, kind = _option(above, options)
    fields = next((parameters(one) for one in members(kind) if dataclasses.is_dataclass(one)), {})
    return known, fields[name][0] if name in fields else None


def _is_switch(name: str, options: Options) -> bool:
    """Whether an option takes true or false, and nothing else but null."""
    kinds = members(_option(name.removeprefix("--"), options)[1])
    return bool in kinds and {*kinds} <= {bool, type(None)}


def _flat(name: str, content: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The arguments that a dictionary means, a class before its arguments."""
    if "class_path" in content:
        yield name, content["class_path"]
    for key, value in content.items():
        if key == "class_path":
            continue
        if isinstance(value, dict) and value:
            yield from _flat(f"{name}.{key}", value)
        else:
            yield f"{name}.{key}", value


def _literal(text: str) -> Any:
    """What a text is in Python; None where it is nothing."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
