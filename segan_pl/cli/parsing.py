"""Parsers whose errors are one line; nothing here imports PyTorch."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

from segan_pl.cli.completion import completer_of
from segan_pl.cli.mistakes import members, mistake, parameters
from segan_pl.cli.wandb_values import normalise, normalise_object
from segan_pl.errors import UsageError, not_allowed, raised_here
from segan_pl.experiments.shipped import FLAGS, with_data_root
from segan_pl.recipe import flatten, may_import

_WITHIN: ContextVar[bool] = ContextVar("within a command line that is parsed", default=False)
REMEDIES = {"data.root": "--root is missing: give the folder of cases"}


class OneLineErrors(ArgumentParser):
    """A parser whose errors are one line, with the nearest match for an unknown key; no key may be shortened.

    Attributes:
        accepted: Keys that are understood elsewhere, for the nearest match of a wrong one.
        commands: The parsers of the sub-commands.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.accepted: Sequence[str] = ()
        self.commands: Mapping[str, OneLineErrors] = {}
        self._types: dict[str, tuple[Any, bool]] = {}  # of arguments that were added one by one, and which are required
        self._linked: set[str] = set()
        self._functions: list[tuple[Callable[..., Any], str, set[str]]] = []  # whose parameters were added, below a key
        super().__init__(*args, **{"allow_abbrev": False, "exit_on_error": False, **kwargs})

    def add_argument(self, *args: Any, **kwargs: Any) -> Any:
        """Add an argument, and remember its type."""
        action = super().add_argument(*args, **kwargs)
        completer = completer_of(str(action.dest), kwargs)
        if completer:  # for the shell, as shtab names them
            action.complete = completer
        # jsonargparse lends this method to its groups, whose arguments are those of classes
        if hasattr(self, "_types") and action.dest != "help":
            choices = kwargs.get("choices")
            kind = Literal[tuple(choices)] if choices else kwargs.get("type")
            several = "nargs" in kwargs or "action" in kwargs
            self._types[action.dest] = (None if several else kind, bool(kwargs.get("required")))
        return action

    def add_class_arguments(self, theclass: Any, nested_key: str | None = None, *args: Any, **kwargs: Any) -> list[str]:
        """Add the parameters of a class, and remember it."""
        self._functions.append((theclass, nested_key or "", set()))
        return super().add_class_arguments(theclass, nested_key, *args, **kwargs)

    def add_method_arguments(
        self, theclass: Any, themethod: str, nested_key: str | None = None, *args: Any, **kwargs: Any
    ) -> list[str]:
        """Add the parameters of a method, and remember it."""
        self._functions.append((getattr(theclass, themethod), nested_key or "", kwargs.get("skip") or set()))
        return super().add_method_arguments(theclass, themethod, nested_key, *args, **kwargs)

    def link_arguments(self, source: Any, target: str, *args: Any, **kwargs: Any) -> None:
        """Link arguments, and remember the target, which nobody states."""
        self._linked.add(target)
        super().link_arguments(source, target, *args, **kwargs)

    def options(self) -> dict[str, tuple[Any, bool]]:
        """Every dotted key with its type, None where the parser compares none, and whether it must be given."""
        found = dict(self._types)
        for function, key, skipped in self._functions:
            for name, option in parameters(function).items():
                if name not in (*skipped, "**"):
                    found[f"{key}.{name}" if key else name] = option
        return {key: option for key, option in found.items() if key not in self._linked}

    def parse_args(self, args: Sequence[str] | None = None, *others: Any, **kwargs: Any) -> Namespace:  # type: ignore[override]
        """Parse a command line; values may stand in W&B's notation.

        Raises:
            UsageError: What was typed wrongly, in one line.
        """
        given = list(sys.argv[1:] if args is None else args)
        if _WITHIN.get():  # a sub-command's, or the arguments of a class: the outermost parser tells
            return super().parse_args(normalise(given, self.options()), *others, **kwargs)
        outermost = _WITHIN.set(True)
        try:
            return super().parse_args(normalise(given, self.options()), *others, **kwargs)
        except ArgumentError as error:
            own = next((cause for cause in causes(error) if isinstance(cause, UsageError)), None)
            of = self.commands.get(given[0]) if given else None
            said = own or _told(of or self, given[1:] if of else given) or " ".join(str(error).split())
            raise UsageError(str(said)) from error
        finally:
            _WITHIN.reset(outermost)

    def parse_object(self, obj: Any, *others: Any, **kwargs: Any) -> Namespace:
        """Parse the arguments of a class that an option names: jsonargparse makes a parser of this kind for each."""
        return super().parse_object(normalise_object(obj, self.options()), *others, **kwargs)

    def build(self, namespace: Namespace) -> Namespace:
        """What the options stand for; errors as `own_words`."""
        with self.own_words(namespace):
            return self.instantiate(namespace)

    @contextmanager
    def own_words(self, namespace: Namespace) -> Iterator[None]:
        """Building, of which one of our classes may refuse something.

        Raises:
            UsageError: What it refused, in its words, with the option where that can be told.
        """
        try:
            yield
        except ValueError as error:
            own = next((cause for cause in causes(error) if raised_here(cause)), None)
            if own is None or (own is error and type(own) is not ValueError):
                raise
            if type(own) is not ValueError:
                raise own from None
            of = self.commands.get(namespace.get("subcommand", ""))
            settings = namespace[namespace.subcommand] if of else namespace
            key = next((key for key in (of or self).options() if _refuses(key, of or self, settings, str(own))), "")
            raise UsageError(f"{f'--{key}: ' if key else ''}{own}{_mixed(key, settings.get('config'))}") from error


def causes(error: BaseException | None) -> list[BaseException]:
    """An error and what it was raised from, outermost first."""
    found = []
    while error is not None:
        found.append(error)
        error = error.__cause__
    return found


def _told(parser: OneLineErrors, arguments: Sequence[str]) -> str:
    """What is wrong with a command line, or missing from it; empty where it cannot be told."""
    options, stated = parser.options(), _stated(arguments)
    known = {key: kind for key, (kind, _) in options.items()}
    accepted = [*parser.accepted, *(["root"] if "data.root" in known else [])]
    for argument in arguments:  # of the classes that are added to a list, the first from outside the allowed packages
        key, added, path = argument.partition("+=")
        if added and key.startswith("--") and re.fullmatch(r"\w+(\.\w+)+", path) and not may_import(path, ()):
            return f"{key}: {not_allowed(path)}"
    if line := mistake(stated, known, accepted):
        return line
    given = flatten(stated)
    missing = [
        key
        for key, (_, required) in options.items()
        if required and not any(one == key or one.startswith(f"{key}.") for one in given)
    ]
    lines = []
    if any(key.startswith("model.") for key in missing):
        fit = parser.prog.endswith(" fit")
        checkpoint, plan = ("", ", or the file of segan_pl plan") if fit else ("--ckpt_path of a run, or ", "")
        lines.append(f"no system is given: {checkpoint}--config segan_cat, for example{plan}")
    lines += [REMEDIES.get(key, f"--{key} is missing") for key in missing if not key.startswith("model.")]
    return "; ".join(lines)


def _stated(arguments: Sequence[str]) -> dict[str, Any]:
    """What a command line and its configuration files state, nested; of two of a key the later."""
    stated: dict[str, Any] = {}
    given = with_data_root(arguments)
    for argument, following in zip(given, [*given[1:], ""], strict=False):
        flag, equals, value = argument.partition("=")
        if flag in FLAGS:
            # a checkpoint's settings come as a text
            settings = yaml.safe_load(following) if "\n" in following else content_of(Path(following))
            _merge(stated, settings)
        elif flag == "--":
            break
        elif flag.startswith("--"):
            text = value if equals else "" if following.startswith("--") else following
            content: Any = text or None
            if text.startswith("{"):
                try:
                    content = yaml.safe_load(text)
                except yaml.YAMLError as error:
                    why = " ".join(str(error).split())
                    raise UsageError(f"{flag} {text}: not readable as YAML ({why})") from error
            for name in reversed(flag.removeprefix("--").removesuffix("+").split(".")):
                content = {name: content}
            if not flag.endswith("+"):
                _merge(stated, content)
    return stated


def _merge(below: dict[str, Any], above: Mapping[str, Any]) -> None:
    """Settings over others; a class that was named by its path alone keeps it when arguments follow."""
    for key, value in above.items():
        there = below.get(key)
        if isinstance(there, str) and "." in there and isinstance(value, Mapping):
            there = below[key] = {"class_path": there}
        if (
            isinstance(there, dict)
            and isinstance(value, Mapping)
            and value.get("class_path") in (None, there.get("class_path"))
        ):
            _merge(there, value)
        else:
            below[key] = dict(value) if isinstance(value, Mapping) else value


def _refuses(key: str, parser: OneLineErrors, settings: Namespace, reason: str) -> bool:
    """Whether a dataclass of ours that an option stands for refuses its value with this reason."""
    value = settings.get(key)
    for kind in members(parser.options()[key][0]):
        if isinstance(value, Namespace) and dataclasses.is_dataclass(kind) and isinstance(kind, type):
            try:
                kind(**value.as_dict())
            except ValueError as error:
                return str(error) == reason
    return False


def _mixed(key: str, paths: Sequence[Any] | None) -> str:
    """A hint where several configuration files set something below a key."""
    files = [Path(path) for path in paths or [] if path is not None]  # None: settings that came as a text
    writers = [
        path.stem for path in files if key and any(f"{one}.".startswith(f"{key}.") for one in flatten(content_of(path)))
    ]
    if len(writers) < 2:
        return ""
    return f" (set by several --config files, each over the one before: {', '.join(writers)})"


def only_keys(arguments: list[str], known: Sequence[str], folder: Path) -> list[str]:
    """The arguments with each configuration file replaced by the part of it that is known.

    So a whole system file serves a command that needs only the data set; what a file misspells is found by `fit`.

    Args:
        arguments: As `shipped.resolve_config_arguments` returned them.
        known: Dotted keys, e.g. "data.root".
        folder: For the files' parts.

    Raises:
        UsageError: A file is not readable as YAML.
    """
    kept = list(arguments)
    for number, flag in enumerate(arguments[:-1]):
        if flag in FLAGS:
            path = Path(arguments[number + 1])
            part = folder / str(number) / path.name  # so that errors name the file
            part.parent.mkdir()
            part.write_text(yaml.safe_dump(_known_part(content_of(path), known)), encoding="utf-8")
            kept[number + 1] = str(part)
    return kept


def content_of(path: Path) -> dict[str, Any]:
    """A configuration file's settings; an empty file has none.

    Raises:
        UsageError: It is not readable as YAML.
    """
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
