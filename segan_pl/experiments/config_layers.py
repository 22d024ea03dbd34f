"""Configuration files over one another: which are systems, what each states, and what stays of the ones before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml

from segan_pl.errors import UsageError

SUPERVISED = "segan_pl.objectives.supervised.Supervised"
TAKE_SUPERVISED = tuple(f"segan_pl.objectives.{kind}." for kind in ("semi_supervised", "segan", "reciprocal"))
"""Objectives below these paths take a `supervised` one for their labelled samples."""


def narrowed_modalities(paths: Sequence[Path]) -> Iterator[tuple[Path, list[str]]]:
    """The data files whose modalities are not what is left of the system's, and what is left."""
    asked: list[str] | None = None
    for path in paths:
        data = _data(path)
        if "model" not in read_config(path) and "layout" in data and asked and data.get("modalities"):
            there = list(data["modalities"])
            left = [name for name in asked if name in there]
            if not left:
                raise UsageError(
                    f"--config {path.stem}: has {', '.join(there)}; the system asks for {', '.join(asked)}"
                )
            if left != there:
                yield path, left
            asked = left
        else:
            asked = data.get("modalities", asked)


def kept_of_system(paths: Sequence[Path]) -> Iterator[tuple[str, list[str]]]:
    """Files over a system: options that follow each, so that what it does not state stays that of the files before it.

    A mapping of networks or optimisers would replace the one before; an objective takes the system's supervised loss.
    """
    supervised: Any = None
    before: dict[str, dict[str, Any]] = {}
    for path in paths:
        stated = _model(path)
        given = (part for part in ("networks", "optimizers") if part in stated)
        parts: dict[str, dict[str, Any]] = {part: stated[part] or {} for part in given}
        objective: Any = stated.get("objective")
        if defines_model(path):
            before, supervised = parts, objective
        elif stated:
            kept = {
                f"model.{part}.{name}": one
                for part, own in parts.items()
                for name, one in before.get(part, {}).items()
                if name not in own
            }
            takes = states_objective(path) and str(objective["class_path"]).startswith(TAKE_SUPERVISED)
            lacks = takes and "supervised" not in (objective.get("init_args") or {})
            if lacks and isinstance(supervised, dict) and supervised.get("class_path") == SUPERVISED:
                kept["model.objective.init_args.supervised"] = supervised
            before = {**before, **{part: {**before.get(part, {}), **own} for part, own in parts.items()}}
            yield str(path), [f"--{name}={shown(one)}" for name, one in kept.items()]


def replaced_settings(paths: Sequence[Path]) -> list[str]:
    """A note for each preparation, label scheme or list of modalities that a later file sets otherwise than an earlier.

    Args:
        paths: As `config_paths` returns them.
    """
    narrowed = dict(narrowed_modalities(paths))
    set_by: dict[str, tuple[str, object]] = {}
    notes = []
    for path in paths:
        data = {**_data(path), **({"modalities": narrowed[path]} if path in narrowed else {})}
        preparation = data.get("preparation") or {}
        found = {f"preparation.{name}": value for name, value in preparation.items()}
        found |= {name: data[name] for name in ("labels", "modalities") if name in data}
        for key, value in found.items():
            file, before = set_by.get(key, ("", value))
            if before != value:
                notes.append(f"note: {path.stem} replaces data.{key} of {file}: {shown(before)} -> {shown(value)}")
            set_by[key] = (path.stem, value)
    return notes


def stated_layout(paths: Sequence[Path]) -> str | None:
    """The layout that configuration files state, the last one's; None where none does."""
    return next((found for path in reversed(paths) if (found := _data(path).get("layout"))), None)


def shown(value: object) -> str:
    """A value as YAML has it on one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n...\n").strip()


def defines_model(path: Path) -> bool:
    """Whether a configuration file is a system: it holds `model:`, and more of it than an objective or changes."""
    return "model" in read_config(path) and not states_objective(path) and not changes_model(path)


def states_objective(path: Path) -> bool:
    """Whether a configuration file is an objective: it names one, and no segmentor. It may have networks of its own."""
    model = _model(path)
    own = set(model) <= {"objective", "networks", "optimizers"} and "segmentor" not in (model.get("networks") or {})
    objective = model.get("objective")
    return own and isinstance(objective, dict) and "class_path" in objective


def changes_model(path: Path) -> bool:
    """Whether a configuration file changes a system's model: of `model:` it names neither networks nor an objective."""
    model = _model(path)
    objective = model.get("objective", {})
    return bool(model) and "networks" not in model and isinstance(objective, dict) and "class_path" not in objective


def refuse_two_models(paths: Sequence[Path]) -> None:
    """Allow one system, and one objective over it: of a second one jsonargparse would silently mix the `init_args` in.

    Raises:
        UsageError: Two files define `model:`, two state an objective, there is an objective alone, or one is no YAML
            mapping.
    """
    systems, objectives = ([path for path in paths if kind(path)] for kind in (defines_model, states_objective))
    if len(objectives) > 1:
        raise UsageError(f"more than one --config states an objective: {', '.join(map(str, objectives))}; keep one")
    if objectives and not systems:
        name = objectives[0].stem
        raise UsageError(f"--config {name} is an objective; give a system before it, e.g. -c unet3d -c {name}")
    if len(systems) > 1:
        names = ", ".join(str(path) for path in systems)
        raise UsageError(
            f"more than one --config defines a model: {names}; keep one and override single values by flags"
        )


def require_system_first(paths: Sequence[Path]) -> None:
    """Refuse a system file after a data or debug file: its preparation or epochs would silently replace theirs.

    Raises:
        UsageError: A file with `model:` follows one without, and both set the same of data, trainer or run; or a system
            follows an objective, or one of them what changes a model.
    """
    for earlier, later in combinations(paths, 2):
        if states_objective(earlier) and defines_model(later):
            raise UsageError(f"--config {earlier.stem} is an objective; give the system {later.stem} before it")
        if changes_model(earlier) and (defines_model(later) or states_objective(later)):
            raise UsageError(f"--config {earlier.stem} changes a model; give {later.stem} before it")
        shared = _set_by(earlier) & _set_by(later)
        if "model" in read_config(later) and "model" not in read_config(earlier) and shared:
            raise UsageError(
                f"--config {earlier.stem} comes before the system {later.stem}, which would replace its "
                f"{', '.join(sorted(shared))}; give the system file first"
            )


def _set_by(path: Path) -> set[str]:
    """What a file sets of its sections, e.g. "data.preparation"."""
    sections = {name: content for name, content in read_config(path).items() if isinstance(content, dict)}
    return {f"{name}.{key}" for name in ("data", "trainer", "run") for key in sections.get(name, {})}


def _model(path: Path) -> dict[str, Any]:
    """What a file sets of the model."""
    found = read_config(path).get("model")
    return found if isinstance(found, dict) else {}


def _data(path: Path) -> dict[str, Any]:
    """What a file sets of the data."""
    found = read_config(path).get("data")
    return found if isinstance(found, dict) else {}


@lru_cache(maxsize=64)
def _parsed(text: str) -> Any:
    # The same few files are asked many times, and PyYAML is slow.
    return yaml.safe_load(text)


def read_config(path: Path) -> dict[str, object]:
    """The top level of a YAML file; an empty file is an empty mapping."""
    try:
        content = deepcopy(_parsed(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from error
    if content is not None and not isinstance(content, dict):
        raise UsageError(f"{path}: expected 'key: value' lines at the top level, found {type(content).__name__}")
    return content or {}
