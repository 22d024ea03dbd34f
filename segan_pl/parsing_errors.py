"""What a parser refused, as one line: which option, what was typed, what was expected; nothing imports PyTorch."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import re
import types
from collections.abc import Iterator, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from jsonargparse import ArgumentParser

from segan_pl.errors import closest, raised_here

WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
PLURALS = {int: "whole numbers", float: "numbers"}
REMEDIES = {"data.root": "give the folder of cases"}
REQUIRED = "the following arguments are required: "


class Refused(argparse.ArgumentError):
    """What the parser of a class's arguments refused, for the parser of the command line to tell."""

    def __init__(self, message: str, parser: ArgumentParser) -> None:
        super().__init__(None, message)
        self.parser = parser


def told(message: str, error: BaseException | None, parser: ArgumentParser) -> str:
    """One line of what a parser refused: our own reason or the expected values where they are known.

    Args:
        message: The parser's own.
        error: What it stems from; its causes hold the inner keys and the inner reason.
        parser: Of the command line.
    """
    line = " ".join(message.split())
    if line.startswith(REQUIRED):
        return missing(line.removeprefix(REQUIRED).split(", "), parser)
    key, last, reasons = "", "", [message]
    for cause in causes(error):
        if isinstance(cause, Refused):
            key, parser = f"{key}{'' if takes_fields(last, parser) else '.init_args'}", cause.parser
            last, reasons = "", [str(cause)]
        elif match := re.match(r'Parser key "([^"]+)"(?: element \d+)?:', str(cause)):
            key, last = f"{key}.{match[1]}".lstrip("."), match[1]
            reasons = [str(cause)[match.end() :]]
        elif raised_here(cause):
            return f"--{key}: {cause}" if key else str(cause)
        else:
            reasons.append(str(cause))
    if not last:
        return (f"--{key}: " if key else "") + explain(reasons[0], known_keys(parser))
    return _wrong_value(key, reasons, type_of(last, parser))


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it was raised from, outermost first."""
    while error is not None:
        yield error
        error = error.__cause__


def known_keys(parser: ArgumentParser) -> list[str]:
    """Every dotted key that a parser, or one of its sub-commands, takes."""
    commands = getattr(parser, "_subcommands_action", None)
    parsers = [parser, *(commands._name_parser_map.values() if commands else [])]
    return list(dict.fromkeys(action.dest for one in parsers for action in one._actions if action.dest != "help"))


def explain(message: str, known: Sequence[str]) -> str:
    """One line of a parser's message, with the nearest known key where one was not known."""
    line = " ".join(message.split())
    match = re.search(r"(?:[Kk]ey|[Oo]ption) '([\w.]+)'|[Uu]nrecognized arguments: --([\w.]+)", line)
    if match:
        key = match[1] or match[2]
        near = difflib.get_close_matches(key, known, 1, 0.6) or difflib.get_close_matches(
            key.rsplit(".", 1)[-1], [k.rsplit(".", 1)[-1] for k in known], 1, 0.6
        )
        line += f" Did you mean '{near[0]}'?" if near else ""
    return line


# -- options that were not given ---------------------------------------------------------------------------------------


def missing(keys: Sequence[str], parser: ArgumentParser) -> str:
    """One line of the options that a command needs and did not get.

    Args:
        keys: Dotted, behind the name of a sub-command where there is one, e.g. "fit.data.root".
        parser: Its options begin with "--"; what it takes by place does not.
    """
    commands = getattr(parser, "_subcommands_action", None)
    command = next((key.split(".")[0] for key in keys if commands and key.split(".")[0] in commands.choices), "")
    keys = [key.removeprefix(f"{command}.") for key in keys]
    lines = []
    if any(key.startswith("model.") for key in keys):
        checkpoint = "" if command == "fit" else "--ckpt_path of a run, or "
        lines.append(f"no system is given: {checkpoint}--config segan_cat, for example")
    places = {action.dest for action in parser._actions if not action.option_strings}
    for key in keys:
        if not key.startswith("model."):
            name, remedy = key if key in places else f"--{key}", REMEDIES.get(key)
            lines.append(f"{name} is missing{f': {remedy}' if remedy else ''}")
    return "; ".join(lines)


# -- values of another type --------------------------------------------------------------------------------------------


def type_of(key: str, parser: ArgumentParser) -> Any:
    """The type of an option; None where it has none."""
    return next((getattr(action, "_typehint", None) for action in parser._actions if action.dest == key), None)


def takes_fields(key: str, parser: ArgumentParser) -> bool:
    """Whether a class's arguments stand right below its key, as a dataclass's do, without `init_args`."""
    return any(dataclasses.is_dataclass(one) for one in members(type_of(key, parser)))


def members(kind: Any) -> list[Any]:
    """The alternatives of a union, a type itself otherwise."""
    if get_origin(kind) in (Union, types.UnionType):
        return [one for member in get_args(kind) for one in members(member)]
    return [kind]


def _wrong_value(key: str, reasons: Sequence[str], kind: Any) -> str:
    """A line of what was typed and what was expected, or the innermost reason where the type cannot be told shortly."""
    of_class = re.search(r"Problem with given class_path .*?:\n(.*?)\n *(?:- |Given value type)", reasons[0], re.DOTALL)
    if of_class:  # where a union's first member, which the causes follow, is another
        return f"--{key}: {' '.join(of_class[1].split())}"
    kinds, inner = members(kind), " ".join(reasons[-1].split())
    whole = inner if len(kinds) == 1 else " ".join(reasons[0].split())
    value = re.search(r"Given value: (.*)", whole) or re.search(r"Got value: (.*)", whole)
    if value and not _tells_enough(kinds, inner, value[1]) and (wanted := expected(kinds, value[1])):
        return f"--{key} {value[1]}: {wanted}"
    return f'Parser key "{key}": {inner}'


def _tells_enough(kinds: Sequence[Any], inner: str, value: str) -> bool:
    """Whether the innermost reason says more than the type: of a single kind, or of an item of a list."""
    if len(kinds) == 1 and _is_list(kinds[0]):
        return re.search(r"Expected a <class '(list|tuple|collections\.abc\.\w+)'>", inner) is None
    if len(kinds) == 1:
        return kinds[0] in WORDS
    return value.startswith("[") and not _lengths([one for one in kinds if _is_list(one)])


def expected(kinds: Sequence[Any], value: str) -> str:
    """What the types allow, with an example or the nearest choice; empty where one of them is a class.

    Args:
        kinds: The alternatives of an option's type.
        value: What was typed instead.
    """
    choices = [str(choice) for one in kinds if get_origin(one) is Literal for choice in get_args(one)]
    lists = [one for one in kinds if _is_list(one)]
    words = [WORDS.get(one, "") for one in kinds if get_origin(one) is not Literal and one not in lists]
    if not all(words):
        return ""
    near, example = closest(value, choices), _example(lists, value)
    needless = {"null"} if example else {WORDS[int]} if float in kinds else set()
    words = [word for word in words if word not in needless]
    every = list(dict.fromkeys([*([_length(lists)] if lists else []), *choices, *words]))
    line = f"expected {' or '.join(filter(None, (', '.join(every[:-1]), every[-1])))}"
    return f"{line}{f', e.g. {example}' if example else ''}{f'; did you mean {near}?' if near else ''}"


def _is_list(kind: Any) -> bool:
    origin = get_origin(kind) or kind
    return isinstance(origin, type) and issubclass(origin, Sequence) and origin is not str


def _lengths(lists: Sequence[Any]) -> list[int]:
    """The lengths that tuples must have; empty where any length will do."""
    fixed = [get_args(one) for one in lists if get_origin(one) is tuple and Ellipsis not in get_args(one)]
    return sorted({len(one) for one in fixed}) if len(fixed) == len(lists) else []


def _length(lists: Sequence[Any]) -> str:
    """Lists in words, e.g. "2 or 3 whole numbers"."""
    items = {item for one in lists for item in get_args(one)}
    noun = PLURALS.get(items.pop(), "values") if len(items) == 1 else "values"
    lengths = _lengths(lists)
    return f"{' or '.join(map(str, lengths))} {noun}" if lengths else "a list"


def _example(lists: Sequence[Any], value: str) -> str:
    """What was typed, as a list; empty where it is none of the kind, or a list already."""
    items = [item for item in re.split(r"[\s,]+", value) if item]
    numbers = all(item in PLURALS for one in lists for item in get_args(one) if item is not Ellipsis)
    if not lists or not items or value[:1] in "[({" or (numbers and not all(map(_is_number, items))):
        return ""
    lengths = _lengths(lists)
    items = items if not lengths or len(items) in lengths else items[:1] * lengths[0]
    return f"[{','.join(items)}]"


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[-+]?\d+(\.\d*)?", text) is not None
