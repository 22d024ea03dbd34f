"""What was typed wrongly, found by comparing what was stated with the types of the options; nothing imports PyTorch."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
import pkgutil
import re
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentError, ArgumentParser

from segan_pl.errors import closest, not_allowed
from segan_pl.recipe import flatten, may_import

WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
PLURALS = {int: "whole numbers", float: "numbers"}
PACKAGES = ("segan_pl.nets", "segan_pl.objectives", "segan_pl.losses")  # whose classes an option may name
MEANT = {
    **{"input": "root", "ref": "root", "part_of_split": "part"},
    **dict.fromkeys(("run.wandb", "run.tensorboard", "run.mlflow", "run.trackio"), "run.loggers"),
    **{"data.preparation.over": "data.preparation.statistics_mask", "model.presence": "model.modality_mask"},
    **{"init_from": "finetuning.init_from", "frozen": "finetuning.frozen"},
    **{"thaw_epoch": "finetuning.unfreeze_epoch", "data.patch_augmentation": "data.augmentation"},
    **dict.fromkeys(("epochs", "num_epochs", "n_epochs", "trainer.epochs"), "trainer.max_epochs"),
    **dict.fromkeys(("lr", "learning_rate"), "model.optimizers.default.init_args.lr"),
    **dict.fromkeys(("checkpoint", "ckpt", "resume"), "ckpt_path"),
    **dict.fromkeys(("data_dir", "data_path", "dataset"), "root"),
    **{"gpus": "trainer.devices", "device": "trainer.accelerator", "seed": "seed_everything"},
}
"""Options that were, or are in other programs, called otherwise, or that the nearest name would not tell."""
CLASS_KEYS = ("class_path", "init_args", "dict_kwargs")


def parameters(function: Any) -> dict[str, tuple[Any, bool]]:
    """The parameters of a class or a function: their types (Any where one cannot be read), and which must be given.

    One that is called "**" stands for others, which are not said.
    """
    if dataclasses.is_dataclass(function):
        fields = [one for one in dataclasses.fields(function) if one.init]
        hints, missing = get_type_hints(function), dataclasses.MISSING
        return {one.name: (hints[one.name], one.default is missing is one.default_factory) for one in fields}
    classes = function.__mro__[:-1] if isinstance(function, type) else ()
    bodies = [vars(one)["__init__"] for one in classes if "__init__" in vars(one)] if classes else [function]
    found: dict[str, tuple[Any, bool]] = {}
    for body in bodies:  # of a class that hands others on, those of the next
        signature = inspect.signature(body).parameters
        for name, one in signature.items():
            try:
                kind = eval(one.annotation, body.__globals__) if isinstance(one.annotation, str) else one.annotation
            except Exception:  # a name that is imported for type checking only
                kind = Any
            if name != "self" and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD):
                found.setdefault(name, (Any if kind is one.empty else kind, one.default is one.empty))
        if all(one.kind is not one.VAR_KEYWORD for one in signature.values()):
            return found
    return {**found, "**": (Any, False)} if bodies else found


def mistake(stated: Mapping[str, Any], known: Mapping[str, Any], others: Sequence[str] = ()) -> str:
    """One line of the first thing that is wrong with what was stated; empty where nothing can be found.

    Args:
        stated: Nested settings, of files and of the command line.
        known: Every dotted key that may be stated, with its type.
        others: Dotted keys that are understood elsewhere, for the nearest match of a wrong one.
    """
    for key, value in _at_known(stated, known):
        if below := next((one for one in known if one.startswith(f"{key}.")), ""):
            if isinstance(value, Mapping):  # an empty one
                continue
            return f"--{key} {value}: expected options below it, such as --{below}"
        if key not in known:
            # a system file's entries too: model.networks.segmentor.init_args.width, typed without "networks"
            there = [one for one in flatten(stated) if any(one.startswith(f"{known_key}.") for known_key in known)]
            every = [*known, *others, *there]
            last = {one.rpartition(".")[2]: one for one in reversed(every)}
            whole = difflib.get_close_matches(key, every, 1)
            near = MEANT.get(key) or next(
                iter(whole or [last[one] for one in difflib.get_close_matches(key.rpartition(".")[2], last, 1)]), None
            )
            return f"--{key}: no such option{f'; did you mean --{near}?' if near else ''}"
        if line := _wrong(key, known[key], value):
            return line
    return ""


def _at_known(stated: Mapping[str, Any], known: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """What was stated, cut where an option is known or where no option lies below."""
    for name, value in stated.items():
        key = f"{prefix}{name}"
        if key not in known and isinstance(value, Mapping) and value:
            yield from _at_known(value, known, f"{key}.")
        else:
            yield key, value


def _wrong(key: str, kind: Any, value: Any) -> str:
    """What is wrong with the value of one option; empty where nothing is, or nobody knows."""
    kinds = members(kind)
    if value is None or Any in kinds or kind is None:
        return ""
    fields = next((one for one in kinds if dataclasses.is_dataclass(one)), None)
    entries = next((one for one in kinds if get_origin(one) is dict), None)
    if isinstance(value, Mapping) and fields is not None:
        return _wrong_arguments(key, parameters(fields), value, f"--{key}.", "no such option")
    if isinstance(value, Mapping) and entries is not None:
        return _wrong_entries(key, get_args(entries)[1], value)
    plain = [one for one in kinds if _word(one) or get_origin(one) is Literal or _is_list(one)]
    if any(fits(one, value) for one in plain):
        return ""
    if any(map(_bases, kinds)) and (isinstance(value, Mapping) or len(plain) == (type(None) in plain)):
        return _wrong_class(key, kind, value if isinstance(value, Mapping) else {"class_path": str(value)})
    taken = [*plain, *([entries] if entries is not None else [])]
    wanted = expected(taken, str(value)) if taken else ""
    return "" if not wanted or fits(kind, value) else f"--{key} {value}: {wanted}".replace("'", "")


def _wrong_entries(group: str, kind: Any, values: Mapping[str, Any]) -> str:
    """What is wrong with the entries of a dictionary, such as the networks by name."""
    paths = {name: one.get("class_path") if isinstance(one, Mapping) else one for name, one in values.items()}
    classes = [name for name, path in paths.items() if isinstance(path, str)]
    for name, value in values.items():
        key = f"{group}.{name}"
        if isinstance(value, Mapping) and name not in classes and any(map(_bases, members(kind))):
            if near := closest(str(name), classes):
                return f"--{key}: no such entry; did you mean --{group}.{near}?"
            example = paths[classes[0]] if classes else "package.module.Class"
            return f"--{key}: give its class first: --{key} {example}"
        if line := _wrong(key, kind, value):
            return line
    return ""


def _wrong_arguments(key: str, known: Mapping[str, Any], given: Mapping[str, Any], place: str, refusal: str) -> str:
    for name, value in given.items():
        if name not in known and "**" not in known:
            near = closest(str(name), known)
            renamed = MEANT.get(f"{place}{name}".removeprefix("--"))
            meant = f"--{renamed}" if renamed else f"{place}{near}" if near else ""
            hint = f"did you mean {meant}?" if meant else f"known: {', '.join(sorted(known))}"
            return f"{place}{name}: {refusal}; {hint}"
        if name in known and (line := _wrong(f"{place.removeprefix('--')}{name}", known[name][0], value)):
            return line
    return ""


def _wrong_class(key: str, kind: Any, value: Mapping[str, Any]) -> str:
    """What is wrong with a class that an option names, or with its arguments."""
    path = str(value.get("class_path") or "")
    if not path or "." not in path:
        return "" if not path else _no_class(key, path, kind)
    if not may_import(path, ()):
        return f"--{key}: {not_allowed(path)}"
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        return _no_class(key, path, kind)
    arguments = value.get("init_args") or {}
    if not isinstance(arguments, Mapping):
        return f"--{key}.init_args {arguments}: expected the arguments of {path}, e.g. --{key}.init_args.NAME VALUE"
    given = {**arguments, **{k: v for k, v in value.items() if k not in CLASS_KEYS}}
    return _wrong_arguments(key, parameters(found), given, f"--{key}.init_args.", f"not accepted by {path}")


def _no_class(key: str, path: str, kind: Any) -> str:
    """One line of an import path that names no class, with the class that was probably meant."""
    module, _, name = path.rpartition(".")
    bases = tuple(base for one in members(kind) for base in _bases(one))
    classes = dict(reversed(list(_classes(bases, module))))  # of two of a name the first
    if not module and name in classes:
        return ""
    inside = [one for one, place in classes.items() if place == f"{module}.{one}"]
    near = closest(name, inside) or closest(name, classes)
    hint = (
        f"did you mean {classes[near]}?"
        if near
        else f"expected an import path such as {min(classes.values(), default='package.module.Class')}"
    )
    return f"--{key} {path}: no such class; {hint}"


def _bases(kind: Any) -> list[type]:
    """The classes of which an option takes subclasses, as they are or through a function that makes them."""
    made = get_args(kind)[-1] if get_origin(kind) is Callable else kind
    if isinstance(made, type) and "__call__" in vars(made):  # a protocol such as NetworkFactory
        made = get_type_hints(made.__call__).get("return")
    if not isinstance(made, type) or issubclass(made, (int, float, str, Path)) or dataclasses.is_dataclass(made):
        return []
    return [] if made.__module__ in ("builtins", "collections.abc", "typing") else [made]


def _classes(bases: tuple[type, ...], first: str) -> Iterator[tuple[str, str]]:
    """Name and import path of our public subclasses and PyTorch's optimizers, those of one module first."""
    ours = [
        found.name
        for package in PACKAGES
        for found in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}.")
    ]
    for module in ours:
        importlib.import_module(module)
    for module in [first, *ours, "torch.optim"]:
        for name, found in vars(sys.modules.get(module, object)).items():
            public = isinstance(found, type) and name[0] != "_"
            if public and issubclass(found, bases) and module in (found.__module__, "torch.optim"):
                yield name, f"{module}.{name}"


# -- values of another type --------------------------------------------------------------------------------------------


def members(kind: Any) -> list[Any]:
    """The alternatives of a union, a type itself otherwise."""
    if get_origin(kind) in (Union, types.UnionType):
        return [one for member in get_args(kind) for one in members(member)]
    return [kind]


def fits(kind: Any, value: Any) -> bool:
    """Whether an option of a type takes a value."""
    parser = ArgumentParser(exit_on_error=False)
    try:
        parser.add_argument("--x", type=kind)
        if isinstance(value, str):
            parser.parse_args([f"--x={value}"])
        else:
            parser.parse_object({"x": value})
    except ArgumentError:
        return False
    except ValueError:  # a type that an option cannot have by itself
        return True
    return True


def _word(kind: Any) -> str:
    """A plain type in words; empty where it is none."""
    if get_origin(kind) is dict:
        return "a mapping {NAME: VALUE}"
    if kind in WORDS or not (isinstance(kind, type) and issubclass(kind, (int, float))):
        return WORDS.get(kind, "")
    return f"{WORDS[int if issubclass(kind, int) else float]} {(kind.__doc__ or '').partition(' to be ')[2]}"


def expected(kinds: Sequence[Any], value: str) -> str:
    """What plain types allow, with an example or the nearest choice.

    Args:
        kinds: The alternatives of an option's type.
        value: What was typed instead.
    """
    choices = [str(choice) for one in kinds if get_origin(one) is Literal for choice in get_args(one)]
    lists = [one for one in kinds if _is_list(one)]
    words = [_word(one) for one in kinds if get_origin(one) is not Literal and one not in lists]
    near, example = closest(value, choices), _example(lists, value)
    needless = {"null"} if example else {WORDS[int]} if float in kinds else set()
    words = [word for word in words if word not in needless]
    items = {item for one in lists for item in get_args(one)}
    noun = PLURALS.get(items.pop(), "values") if len(items) == 1 else "values"
    lengths = _lengths(lists)
    size = f"{' or '.join(map(str, lengths))} {noun}" if lengths else "a list"  # e.g. "2 or 3 whole numbers"
    every = list(dict.fromkeys([*([size] if lists else []), *choices, *words]))
    line = f"expected {' or '.join(filter(None, (', '.join(every[:-1]), every[-1])))}"
    return f"{line}{f', e.g. {example}' if example else ''}{f'; did you mean {near}?' if near else ''}"


def _is_list(kind: Any) -> bool:
    origin = get_origin(kind) or kind
    return isinstance(origin, type) and issubclass(origin, Sequence) and origin is not str


def _lengths(lists: Sequence[Any]) -> list[int]:
    """The lengths that tuples must have; empty where any length will do."""
    fixed = [get_args(one) for one in lists if get_origin(one) is tuple and Ellipsis not in get_args(one)]
    return sorted({len(one) for one in fixed}) if len(fixed) == len(lists) else []


def _example(lists: Sequence[Any], value: str) -> str:
    """What was typed, as a list of a length that it may have; empty where it is none of the kind."""
    items = [item for item in re.split(r"[\s,]+", value.strip("[]()")) if item]
    numbers = all(item in PLURALS for one in lists for item in get_args(one) if item is not Ellipsis)
    if not lists or not items or value[:1] == "{":
        return ""
    if numbers and not all(re.fullmatch(r"[-+]?\d+(\.\d*)?", item) for item in items):
        return ""
    lengths = _lengths(lists)
    items = items if not lengths or len(items) in lengths else items[:1] * lengths[0]
    return f"[{','.join(items)}]"
