"""A whole system out of its checkpoint, as a notebook asks for it: networks, objective and settings made again."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from jsonargparse import ArgumentError, ArgumentParser
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from segan_pl.data.labels import label_scheme
from segan_pl.errors import not_allowed
from segan_pl.inference.checkpoint_file import CheckpointError, own_part, read_checkpoint, stored_settings
from segan_pl.recipe import may_import, nameless, said
from segan_pl.training.checkpoint import SavedSystem

System = TypeVar("System", bound=SavedSystem)
DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


def load_system(kind: type[System], path: Path | str, given: Mapping[str, Any], map_location: Any = None) -> System:
    """A system with the weights of its checkpoint.

    Args:
        kind: Its class.
        path: The checkpoint.
        given: Arguments that are taken in place of the checkpoint's own.
        map_location: As torch.load's; default the CPU.

    Raises:
        FileNotFoundError: There is no such file.
        CheckpointError: It is damaged, none of ours, or does not say how to make something that is not given.
        CheckpointMismatchError: The weights do not fit the networks.
    """
    source = Path(path)
    checkpoint = read_checkpoint(source, "cpu" if map_location is None else map_location)
    ours = own_part(checkpoint, source)
    settings, data = stored_settings(ours, source), ours["data"]
    scheme = label_scheme(data["labels"], data.get("native_labels"))
    of_data = {"modalities": data["modalities"], "labels": scheme.name, "patch": data.get("patch")}
    model = {**(settings.get("model") or {}), **of_data}
    system = kind(**{**_made(kind, {k: v for k, v in model.items() if k not in given}, given, source), **given})
    system.on_load_checkpoint(checkpoint)
    system.load_state_dict(checkpoint["state_dict"])
    # A checkpoint of this system can repeat it in these words.
    system.recipe = {**model, **said(given)}
    return system


def _made(kind: type[System], arguments: Mapping[str, Any], given: Mapping[str, Any], source: Path) -> dict[str, Any]:
    """The arguments of a system, made from what a checkpoint says of them."""
    if lost := nameless(arguments):
        raise CheckpointError(
            f"{source}: cannot make {'; '.join(lost)} again, since it has no name to import it by; give "
            f"{' and '.join(dict.fromkeys(one.split('.')[0].split(':')[0] for one in lost))} to load_from_checkpoint"
        )
    for name in _imported(arguments):
        if not may_import(name, (nn.Module, Optimizer, LRScheduler)):
            raise CheckpointError(f"{source}: {not_allowed(name)}, or import its module first")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind, "model", instantiate=False, skip=set(given))
    try:
        return dict(vars(parser.instantiate(parser.parse_object({"model": arguments})).model))
    except (ArgumentError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{source}: its model cannot be made ({' '.join(str(error).split())[:300]}); was it written by another "
            f"version?"
        ) from error


def _imported(settings: Any) -> Iterator[str]:
    """Every text in a configuration that could be imported."""
    if isinstance(settings, Mapping):
        for value in settings.values():
            yield from _imported(value)
    elif isinstance(settings, list):
        for value in settings:
            yield from _imported(value)
    elif isinstance(settings, str) and DOTTED.fullmatch(settings):
        top = settings.partition(".")[0]
        if top == "__main__" or importlib.util.find_spec(top) is not None:
            yield settings
