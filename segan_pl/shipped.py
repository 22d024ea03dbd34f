"""Configuration files by name: `--config segan_cat` finds what travels with the package, a path works as always."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import yaml

from segan_pl.errors import UsageError, nearest

FOLDERS = ("systems", "data", "preparation", "augmentation", "transfer", ".")
FLAGS = ("--config", "-c")
_PACKAGE = Path(__file__).resolve().parent


def shipped_folder(name: str) -> Path:
    """The folder "configs" or "sweeps": inside the package when installed from a wheel, beside it in a checkout."""
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
    """A command line with every `--config NAME`, `-c NAME` and `--config=NAME` turned into a path."""
    out: list[str] = []
    for argument in argv:
        flag, equals, value = argument.partition("=")
        if out and out[-1] in FLAGS:
            out.append(str(find_config(argument)))
        elif equals and flag in FLAGS:
            out.extend((flag, str(find_config(value))))
        else:
            out.append(argument)
    return out


def config_paths(argv: Sequence[str]) -> list[Path]:
    """The configuration files of a command line that `resolve_config_arguments` returned, left to right."""
    return [Path(value) for flag, value in pairwise(argv) if flag in FLAGS]


def defines_model(path: Path) -> bool:
    """Whether a configuration file is a system: it holds `model:`."""
    return "model" in _read(path)


def refuse_two_models(paths: Sequence[Path]) -> None:
    """Allow one file with a model a run: of a second one jsonargparse would silently mix the `init_args` in.

    Raises:
        UsageError: Two files define `model:`, or one is no YAML mapping.
    """
    systems = [path for path in paths if defines_model(path)]
    if len(systems) > 1:
        names = ", ".join(str(path) for path in systems)
        raise UsageError(
            f"more than one --config defines a model: {names}; keep one and override single values by flags"
        )


def require_system_first(paths: Sequence[Path]) -> None:
    """Refuse a system file after a data file: its own preparation would silently replace the data's.

    Raises:
        UsageError: A file with `model:` follows one without, and both define something under `data:`.
    """
    for earlier, later in pairwise(paths):
        shared = set(_read(earlier).get("data") or {}) & set(_read(later).get("data") or {})  # type: ignore[call-overload]
        if "model" in _read(later) and "model" not in _read(earlier) and shared:
            raise UsageError(
                f"--config {earlier.stem} stands before the system {later.stem}, which would replace its "
                f"{', '.join(sorted(shared))}; give the system file first"
            )


def _read(path: Path) -> dict[str, object]:
    """The top level of a YAML file; an empty file is an empty mapping."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from error
    if content is not None and not isinstance(content, dict):
        raise UsageError(f"{path}: expected 'key: value' lines at the top level, found {type(content).__name__}")
    return content or {}
