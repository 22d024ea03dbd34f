"""Configuration files by name: `--config segan_cat` finds what travels with the package, a path works as always."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import yaml

from segan_pl.errors import UsageError, nearest

FOLDERS = ("systems", "objectives", "data", "preparation", "augmentation", "finetuning", "debug", ".")
FLAGS = ("--config", "-c")
SECTIONS = ("model", "data", "trainer", "run", "finetuning")
SUPERVISED = "segan_pl.objectives.supervised.Supervised"
SEMI_SUPERVISED = "segan_pl.objectives.semi_supervised."
"""Objectives below this path take a `supervised` one for their labelled samples."""
_PACKAGE = Path(__file__).resolve().parents[1]


def shipped_folder(name: str) -> Path:
    """The folder "configs" or "sweeps": inside the package when installed from a wheel, next to it in a checkout."""
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


def shipped_configs() -> dict[str, Path]:
    """Name to file of every shipped configuration; an earlier folder of `FOLDERS` wins."""
    root = shipped_folder("configs")
    found: dict[str, Path] = {}
    for folder in FOLDERS:
        for path in sorted((root / folder).glob("*.yaml")):
            found.setdefault(path.stem, path.resolve())
    return found


def find_config(name: str) -> Path:
    """The file that `--config NAME` means.

    Args:
        name: A path to an existing file, which wins, or the stem of a shipped file.

    Raises:
        UsageError: Neither; with the nearest shipped name and the list.
    """
    if Path(name).is_file():
        return Path(name)
    shipped = shipped_configs()
    stem = name.removesuffix(".yaml")
    if stem not in shipped:
        raise UsageError(f"--config {name}: no such file, and no shipped configuration; {nearest(stem, shipped)}")
    return shipped[stem]


def find_sweep(name: str) -> Path:
    """The sweep file that a name means: a path to an existing file, which wins, or the stem of a shipped one.

    Raises:
        UsageError: Neither; with the nearest shipped name and the list.
    """
    if Path(name).expanduser().is_file():
        return Path(name).expanduser()
    shipped = {path.stem: path.resolve() for path in sorted(shipped_folder("sweeps").glob("*.yaml"))}
    stem = name.removesuffix(".yaml")
    if stem not in shipped:
        raise UsageError(f"sweep {name}: no such file, and no shipped sweep; {nearest(stem, shipped)}")
    return shipped[stem]


def resolve_config_arguments(argv: Sequence[str]) -> list[str]:
    """A command line with every `--config NAME`, `-c NAME` and `--config=NAME` turned into a path, before all options.

    Behind a data file, a file without a model that states a layout, the modalities are those that both the system asks
    for and the data set has, in the system's order: a data file says what there is, and not what is trained on. Behind
    an objective file the supervised loss is that of the system, unless the file states one.

    Raises:
        UsageError: No such file, one (or a section of one) that is no YAML mapping, an empty one, or a data set without
            any of the system's modalities.
    """
    out: list[str] = []
    for argument in with_data_root(argv):
        flag, equals, value = argument.partition("=")
        if out and out[-1] in FLAGS:
            out.append(str(find_config(argument)))
        elif equals and flag in FLAGS:
            out.extend((flag, str(find_config(value))))
        else:
            out.append(argument)
    for path in config_paths(out):
        if not _read(path):
            raise UsageError(f"--config {path}: holds no setting; leave it out, or give some")
        for section, content in _read(path).items():
            if section in SECTIONS and not isinstance(content, dict):
                raise UsageError(
                    f"--config {path}: {section}: expected 'key: value' lines below it, found {_shown(content)}"
                )
    paths = config_paths(out)
    flags = {str(path): f"--data.modalities=[{','.join(left)}]" for path, left in _narrowed(paths)}
    return _files_first(out, {**flags, **dict(_supervised(paths))})


def with_data_root(argv: Sequence[str]) -> list[str]:
    """A command line with `--root`, the short form of `--data.root` in every command, as that.

    What follows "--", the arguments of another command, is left as it is.
    """
    end = list(argv).index("--") if "--" in argv else len(argv)
    own = [f"--data.root{one[6:]}" if one.partition("=")[0] == "--root" else one for one in argv[:end]]
    return [*own, *argv[end:]]


def _files_first(argv: Sequence[str], flags: Mapping[str, str]) -> list[str]:
    """A command line whose files come before every option, so that what is typed wins wherever it is typed.

    Args:
        argv: Its files are paths; what follows "--" is left where it is.
        flags: A file's path to the option that follows it.
    """
    end = argv.index("--") if "--" in argv else len(argv)
    files: list[str] = []
    others: list[str] = []
    number = 0
    while number < end:
        pair = argv[number : min(number + 2, end)]
        if pair[0] in FLAGS and len(pair) == 2:
            files += [*pair, *([flags[pair[1]]] if pair[1] in flags else [])]
            number += 2
        else:
            others.append(pair[0])
            number += 1
    place = next((number for number, argument in enumerate(others) if argument.startswith("-")), len(others))
    return [*others[:place], *files, *others[place:], *argv[end:]]


def _narrowed(paths: Sequence[Path]) -> Iterator[tuple[Path, list[str]]]:
    """The data files whose modalities are not what is left of the system's, and what is left."""
    asked: list[str] | None = None
    for path in paths:
        data = _data(path)
        if "model" not in _read(path) and "layout" in data and asked and data.get("modalities"):
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


def _supervised(paths: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """Objective files behind a system that trains with `Supervised`: what follows each, so that this stays its loss."""
    of_system: Any = None
    for path in paths:
        model = _read(path).get("model")
        objective = model.get("objective") if isinstance(model, dict) else None
        if not isinstance(objective, dict):
            continue
        if not states_objective(path):
            of_system = objective
        elif of_system and str(of_system.get("class_path")) == SUPERVISED:
            stated = objective.get("init_args") or {}
            if "supervised" not in stated and str(objective.get("class_path")).startswith(SEMI_SUPERVISED):
                yield str(path), f"--model.objective.init_args.supervised={_shown(of_system)}"


def replaced_settings(paths: Sequence[Path]) -> list[str]:
    """A note for each preparation, label scheme or list of modalities that a later file sets otherwise than an earlier.

    Args:
        paths: As `config_paths` returns them.
    """
    narrowed = dict(_narrowed(paths))
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
                notes.append(f"note: {path.stem} replaces data.{key} of {file}: {_shown(before)} -> {_shown(value)}")
            set_by[key] = (path.stem, value)
    return notes


def _shown(value: object) -> str:
    """A value as YAML has it on one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n...\n").strip()


def config_paths(argv: Sequence[str]) -> list[Path]:
    """The configuration files of a command line that `resolve_config_arguments` returned, left to right."""
    return [Path(value) for flag, value in pairwise(argv) if flag in FLAGS]


def option_value(arguments: Sequence[str], name: str) -> str | None:
    """The value of an option on a command line, as `--name value` or `--name=value`; of several the last, which counts.

    Args:
        arguments: What was typed.
        name: With its dashes, e.g. "--ckpt_path".
    """
    found = None
    for number, argument in enumerate(arguments):
        if argument == name and number + 1 < len(arguments):
            found = arguments[number + 1]
        elif argument.startswith(f"{name}="):
            found = argument.partition("=")[2]
    return found


def defines_model(path: Path) -> bool:
    """Whether a configuration file is a system: it holds `model:`, and more of it than an objective."""
    return "model" in _read(path) and not states_objective(path)


def states_objective(path: Path) -> bool:
    """Whether a configuration file is an objective: of `model:` it holds the objective alone."""
    model = _read(path).get("model")
    return isinstance(model, dict) and set(model) == {"objective"}


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
            follows an objective.
    """
    kinds = [(path, states_objective(path), defines_model(path)) for path in paths]
    for (earlier, is_objective, _), (later, _, is_system) in combinations(kinds, 2):
        if is_objective and is_system:
            raise UsageError(f"--config {earlier.stem} is an objective; give the system {later.stem} before it")
    for earlier, later in combinations(paths, 2):
        shared = _set_by(earlier) & _set_by(later)
        if "model" in _read(later) and "model" not in _read(earlier) and shared:
            raise UsageError(
                f"--config {earlier.stem} comes before the system {later.stem}, which would replace its "
                f"{', '.join(sorted(shared))}; give the system file first"
            )


def _set_by(path: Path) -> set[str]:
    """What a file sets of its sections, e.g. "data.preparation"."""
    sections = {name: content for name, content in _read(path).items() if isinstance(content, dict)}
    return {f"{name}.{key}" for name in ("data", "trainer", "run") for key in sections.get(name, {})}


def _data(path: Path) -> dict[str, Any]:
    """What a file sets of the data."""
    found = _read(path).get("data")
    return found if isinstance(found, dict) else {}


def _read(path: Path) -> dict[str, object]:
    """The top level of a YAML file; an empty file is an empty mapping."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from error
    if content is not None and not isinstance(content, dict):
        raise UsageError(f"{path}: expected 'key: value' lines at the top level, found {type(content).__name__}")
    return content or {}
