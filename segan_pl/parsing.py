"""Parsers whose errors are one line; nothing here imports PyTorch."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import ArgumentParser, Namespace

from segan_pl.errors import UsageError, raised_here
from segan_pl.parsing_errors import Refused, causes, known_keys, told
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
        """Exit with code 2; the parser of a class's arguments leaves that to the one that asked it.

        Raises:
            Refused: This is the parser of a class's arguments.
        """
        if getattr(self, "_inner_parser", False):  # set by jsonargparse
            raise Refused(message, self) from ex
        print(f"segan_pl: error: {told(message, ex, self)}", file=sys.stderr)
        raise SystemExit(2) from ex

    def instantiate(self, namespace: Namespace, *others: Any, **kwargs: Any) -> Namespace:
        """Build what the options stand for; what one of our classes refuses is told in its own words.

        Raises:
            UsageError: A class refused its arguments.
        """
        try:
            return super().instantiate(namespace, *others, **kwargs)
        except ValueError as error:
            own = next((cause for cause in causes(error) if raised_here(cause)), None)
            if own is None or getattr(self, "_inner_parser", False) or (own is error and type(own) is not ValueError):
                raise
            if type(own) is not ValueError:
                raise own from None
            text = str(error)  # where it is not our own, with the value at its end, without the option
            key = next((key for key in known_keys(self) if text.endswith(f"Given value: {namespace.get(key)}")), "")
            raise UsageError(f"{f'--{key}: ' if key else ''}{own}{_mixed(key, namespace.get('config'))}") from error


def _mixed(key: str, paths: Sequence[Any] | None) -> str:
    """A hint where several configuration files set something below a key."""
    writers = [path for path in paths or [] if key and key in _keys(_content(Path(path)))]
    if len(writers) < 2:
        return ""
    return f" (set by several --config files, each over the one before: {', '.join(Path(p).stem for p in writers)})"


def _keys(settings: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Every dotted key of nested settings."""
    for key, value in settings.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{key}.")


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
        part = folder / str(number) / path.name  # so that errors name the file
        part.parent.mkdir()
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
