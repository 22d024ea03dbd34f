"""Values as W&B's sweep agent writes them, `--key=str(value)`, in the notation of our parsers.

Python's text and YAML's differ: None, 1e3 or 2.0 where a whole number is meant, (96, 96, 96), nested {'a': None}. Only
what the option's type cannot take as it was typed is changed, so that text which is right stays as it is.
"""

from __future__ import annotations

import ast
import json
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Union, get_args, get_origin

from jsonargparse import ArgumentParser, Namespace

WHOLE = re.compile(r"[-+]?\d+(\.0*)?([eE]\+?\d+)?")
MOST_DIGITS = 4300  # Python's own limit between text and whole numbers
LENGTHS = ("total_iters", "T_max")  # as in `schedules`, which needs PyTorch
SEQUENCES = (list, tuple, set, Sequence)
PLAIN = (str, int, float, bool, type(None), dict, Mapping, *SEQUENCES)


def normalise(arguments: Sequence[str], parser: ArgumentParser) -> list[str]:
    """A command line with its values in YAML's notation.

    "None" is null where null is allowed, and text where it is not. A dictionary for an option that has options below it
    becomes an argument each: `--data={'batch_size': 8.0}` is `--data.batch_size=8`.

    Args:
        arguments: `--key=value` and `--key value`; everything else stays as it is.
        parser: Its options' types decide.
    """
    out: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        name, equals, value = argument.partition("=")
        if not name.startswith("--"):
            out.append(argument)
        elif equals:
            out.extend(written(name, value, parser))
        elif rest and not rest[0].startswith("--") and _takes_one(_action(name, parser)):
            value = rest.pop(0)
            changed = written(name, value, parser)
            out.extend([name, value] if changed == [f"{name}={value}"] else changed)
        else:
            out.append(argument)
    return out


def normalise_object(settings: Namespace | Mapping[str, Any], parser: ArgumentParser) -> Namespace | dict[str, Any]:
    """The arguments of a class, by name, their text in YAML's notation.

    A schedule's length that is null becomes 0, which PyTorch's type takes: the run's length (see `schedules`).

    Args:
        settings: As they came from a command line (text) or a file.
        parser: The class's own.
    """
    known = parser._option_string_actions
    pairs = settings.items(branches=True, nested=False) if isinstance(settings, Namespace) else settings.items()
    out: dict[str, Any] = {}
    for key, value in pairs:
        kind = getattr(known.get(f"--{key}"), "_typehint", None)
        if key in LENGTHS and value in (None, "null", "None") and kind is int:
            value = 0
        out[key] = as_yaml(value, kind) if type(value) is str and kind is not None else value
    return Namespace(out) if isinstance(settings, Namespace) else out


def written(name: str, value: str, parser: ArgumentParser) -> list[str]:
    """One option's `--name=value` arguments, its value in YAML's notation.

    Args:
        name: With its hyphens, e.g. "--data.preparation".
        value: As typed.
        parser: Of the option.
    """
    action = _action(name, parser)
    if action is None:
        return [f"{name}={value}"]
    if value.startswith("{") and _has_options_below(name, action):
        content = _literal(value)
        if isinstance(content, dict) and content and not _is_json(value):
            return [one for key, inner in _flat(name, content) for one in written(key, str(inner), parser)]
    kind = getattr(action, "_typehint", None)
    exact = name in parser._option_string_actions  # of a key below it, the class's own parser knows the type
    return [f"{name}={as_yaml(value, kind) if exact and kind is not None else value}"]


def as_yaml(text: str, kind: Any) -> str:
    """A value's text for an option of a type.

    Args:
        text: As typed.
        kind: The option's type, e.g. `int | None`.
    """
    kinds = _alternatives(kind)
    if text == "None":
        return "null" if type(None) in kinds or Any in kinds else text
    if WHOLE.fullmatch(text):
        return _exact(text) if _only_whole(kinds) else text
    if text[:1] in ("(", "[", "{") and any(_holds_others(one) for one in kinds):
        content = _literal(text)
        fitted = _fitted(content, kinds)
        if isinstance(content, list | tuple | dict) and not (_is_json(text) and repr(fitted) == repr(content)):
            return json.dumps(fitted)
    return text


# -- types -------------------------------------------------------------------------------------------------------------


def _alternatives(kind: Any) -> list[Any]:
    """The members of a union, a type itself otherwise."""
    if get_origin(kind) in (Union, types.UnionType):
        return [one for member in get_args(kind) for one in _alternatives(member)]
    return [kind]


def _only_whole(kinds: Sequence[Any]) -> bool:
    """Whether a number must be whole: 1.0 and 1 mean different things where both are allowed."""
    return int in kinds and not any(one in (float, str, Any) for one in kinds)


def _exact(text: str) -> str:
    """A whole number's text digit by digit; a float would change it beyond 2**53 and lose it beyond 1e308.

    What Python would not write out stays as it is, for the parser to refuse.
    """
    try:
        number = Decimal(text)
    except InvalidOperation:  # an exponent of more than 18 digits
        return text
    return str(int(number)) if number.adjusted() < MOST_DIGITS else text


def _whole(number: float, kinds: Sequence[Any]) -> int | float:
    return int(number) if _only_whole(kinds) and number.is_integer() else number


def _holds_others(kind: Any) -> bool:
    return kind is Any or (get_origin(kind) or kind) in (*SEQUENCES, dict, Mapping)


def _fitted(value: Any, kinds: Sequence[Any]) -> Any:
    """A list or dictionary with its numbers whole where they must be."""
    if isinstance(value, float):
        return _whole(value, kinds)
    if isinstance(value, list | tuple):
        inner = next((get_args(one) for one in kinds if (get_origin(one) or one) in SEQUENCES), ())
        inner = tuple(one for one in inner if one is not Ellipsis) or (Any,)
        return [_fitted(one, _alternatives(inner[min(number, len(inner) - 1)])) for number, one in enumerate(value)]
    if isinstance(value, dict):
        inner = next((get_args(one) for one in kinds if get_origin(one) in (dict, Mapping)), ())
        return {key: _fitted(one, _alternatives(inner[-1] if inner else Any)) for key, one in value.items()}
    return value


# -- options -----------------------------------------------------------------------------------------------------------


def _action(name: str, parser: ArgumentParser) -> Any:
    """The option itself, or the one that a dotted key lies below; None where the parser knows neither."""
    known = parser._option_string_actions
    while name not in known and "." in name:
        name = name.rpartition(".")[0]
    return known.get(name)


def _takes_one(action: Any) -> bool:
    return action is not None and action.nargs is None


def _has_options_below(name: str, action: Any) -> bool:
    """Whether a key means a group of options, or for a class with arguments."""
    if name not in action.option_strings:
        return True
    kinds = _alternatives(getattr(action, "_typehint", None))
    return not all(one is Any or (get_origin(one) or one) in PLAIN for one in kinds)


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
