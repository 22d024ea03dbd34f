"""Parsers whose errors are one line; nothing here imports PyTorch."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import ArgumentParser, Namespace

from segan_pl.errors import UsageError
from segan_pl.shipped import config_paths
from segan_pl.wandb_values import normalise, normalise_object


class OneLineErrors(ArgumentParser):
    """A parser whose errors are one line, with the nearest match for an unknown key; no key may be shortened."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def parse_args(self, args: Sequence[str] | None = None, *others: Any, **kwargs: Any) -> Namespace:  # type: ignore[override]
        """Parse a command line; values may stand in W&B's notation."""
        given = sys.argv[1:] if args is None else args
        return super().parse_args(normalise(given, self), *others, **kwargs)

    def parse_object(self, obj: Any, *others: Any, **kwargs: Any) -> Namespace:
        """Parse the arguments of a class that an option names: jsonargparse makes a parser of this kind for each."""
        return super().parse_object(normalise_object(obj, self), *others, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Exit with code 2."""
        print(f"segan_pl: error: {explain(message, known_keys(self))}", file=sys.stderr)
        raise SystemExit(2) from ex


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


def only_keys(arguments: list[str], parser: ArgumentParser, folder: Path) -> list[str]:
    """The arguments with each configuration file replaced by the part of it that the parser knows.

    So a whole system file serves a command that needs only the data set; what a file misspells is found by `fit`.

    Args:
        arguments: As `shipped.resolve_config_arguments` returned them.
        parser: Its keys are dotted, e.g. "data.root".
        folder: For the files' parts.

    Raises:
        UsageError: A file is not readable as YAML.
    """
    known = known_keys(parser)
    for number, path in enumerate(config_paths(arguments)):
        part = folder / f"{number}.yaml"
        part.write_text(yaml.safe_dump(_known_part(_content(path), known)), encoding="utf-8")
        arguments = [str(part) if argument == str(path) else argument for argument in arguments]
    return arguments


def _content(path: Path) -> dict[str, Any]:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        raise UsageError(f"--config {path}: not readable as YAML ({' '.join(str(error).split())})") from error


def _known_part(settings: dict[str, Any], known: Sequence[str], prefix: str = "") -> dict[str, Any]:
    """The settings below `prefix` whose dotted key is known, or holds one that is."""
    kept: dict[str, Any] = {}
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and any(other.startswith(f"{name}.") for other in known):
            kept[key] = _known_part(value, known, f"{name}.")
        elif name in known:
            kept[key] = value
    return kept
