"""How what is made in Python is made again: its arguments as a configuration file would say them."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

from segan_pl.errors import own_packages

ALLOWED_IMPORTS = ["segan_pl", "torch.optim", "torch.nn", "lightning.pytorch", "monai.networks", "monai.losses"]
"""What a configuration may name; a user's own packages are added by SEGAN_PL_ALLOW_IMPORTS."""
NAMELESS = " (cannot be imported by name)"
"""The end of what stands for a value that no configuration can say."""


class Recorded:
    """Remembers its arguments, so that a checkpoint can say how to make it again.

    Attributes:
        recipe: The constructor's arguments by name, defaults included, see `said`.
    """

    recipe: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Keep the arguments; those that do not fit are for the constructor to refuse."""
        made = super().__new__(cls)
        try:
            bound = inspect.signature(cls.__init__).bind(made, *args, **kwargs)
        except TypeError:
            return made
        bound.apply_defaults()
        _, *given = bound.arguments.items()
        made.__dict__["recipe"] = {name: said(value) for name, value in given}
        return made


def said(value: Any) -> Any:
    """A value as a configuration says it: plain values, import paths, class_path with init_args.

    What cannot be said, an object or a function without a name, becomes a text that ends with `NAMELESS`.
    """
    if value is None:
        return None
    for plain in (bool, int, float, str):
        if isinstance(value, plain):
            return plain(value)  # of NumPy's numbers too, which no checkpoint may hold
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): said(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [said(one) for one in value]
    if isinstance(value, partial):
        path = _path(value.func)
        return f"{path} with arguments by place{NAMELESS}" if value.args else _made_of(path, value.keywords)
    if isinstance(value, type) or inspect.isroutine(value):
        return _path(value)
    if isinstance(value, Recorded):
        return _made_of(_path(type(value)), value.recipe)
    if dataclasses.is_dataclass(value):
        return {field.name: said(getattr(value, field.name)) for field in dataclasses.fields(value) if field.init}
    return f"an object of {_path(type(value))}{NAMELESS}"


def _made_of(path: str, arguments: Mapping[str, Any]) -> Any:
    return path if path.endswith(NAMELESS) else {"class_path": path, "init_args": said(arguments)}


def _path(thing: Any) -> str:
    """The import path of a class or a function."""
    name = f"{thing.__module__}.{thing.__qualname__}"
    return f"{name}{NAMELESS}" if "<" in name else name


def nameless(settings: Any, key: str = "") -> list[str]:
    """The settings that no configuration can say, as "key: what it was"."""
    if isinstance(settings, Mapping):
        return [one for name, value in settings.items() for one in nameless(value, f"{key}.{name}".lstrip("."))]
    if isinstance(settings, list):
        return [one for value in settings for one in nameless(value, key)]
    text = str(settings)
    return [f"{key}: {text.removesuffix(NAMELESS)}"] if text.endswith(NAMELESS) else []


def may_import(path: str, kinds: tuple[type, ...], allowed: Sequence[str] = ALLOWED_IMPORTS) -> bool:
    """Whether a checkpoint may name an import path: one that is allowed, or a class that the program has by itself.

    Args:
        path: E.g. "segan_pl.nets.segan.Segmentor".
        kinds: Classes of these kinds that are imported already run nothing new, so they are allowed too.
        allowed: Packages besides the user's own.
    """
    if any(path.startswith(f"{package}.") for package in [*allowed, *own_packages()]):
        return True
    module, _, name = path.rpartition(".")
    found = getattr(sys.modules.get(module), name, None)
    return isinstance(found, type) and issubclass(found, kinds)


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings to dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return flat
