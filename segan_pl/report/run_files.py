"""What a run left in its folder, read for the report; no tensor."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from segan_pl.data.volume import CaseError
from segan_pl.errors import UsageError
from segan_pl.evaluation.scored_runs import ScoredRun, read_run


@dataclass(frozen=True)
class RunFiles:
    """One run, or one evaluation.

    Attributes:
        name: As the page calls it.
        folder: Where the files lie.
        config: config.yaml, or empty.
        environment: environment.json, or empty.
        commands: Lines of command.txt.
        split: split.json, or empty.
        cases: Rows of cases.csv.
        epochs: Rows of metrics.csv, oldest first.
        scored: Per-case scores; None where the folder holds none.
        scored_cells: The same table's rows as they stand, in order.
        summary: summary.json of an evaluation, or empty.
        predictions: predictions*.csv rows (case, seconds, refused, notes), where the folder holds predictions.
    """

    name: str
    folder: Path
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    commands: tuple[str, ...]
    split: Mapping[str, Any]
    cases: tuple[Mapping[str, str], ...]
    epochs: tuple[Mapping[str, str], ...]
    scored: ScoredRun | None
    scored_cells: tuple[Mapping[str, str], ...]
    summary: Mapping[str, Any]
    predictions: tuple[Mapping[str, str], ...]


def read_files(text: str) -> RunFiles:
    """A run by "folder" or "name=folder".

    Raises:
        UsageError: No such folder, or nothing in it that a report could show.
        CaseError: A file of it cannot be used.
    """
    name, equals, place = text.partition("=")
    folder = Path(place if equals else text).expanduser()
    if not folder.is_dir():
        raise UsageError(f"no run {folder}; give a run's folder, or one that `segan_pl evaluate` wrote")
    scored = _scored(folder)
    epochs = _rows(folder / "metrics.csv")
    if scored is None and not epochs:
        raise UsageError(f"{folder}: neither metrics.csv nor scores of cases; give a run's folder or an evaluation's")
    config = _yaml(folder / "config.yaml")
    command = folder / "command.txt"
    return RunFiles(
        name=name if equals else _name(folder, config),
        folder=folder,
        config=config,
        environment=_json(folder / "environment.json"),
        commands=tuple(command.read_text(encoding="utf-8").splitlines()) if command.is_file() else (),
        split=_json(folder / "split.json"),
        cases=_rows(folder / "cases.csv"),
        epochs=epochs,
        scored=scored,
        scored_cells=_rows(scored.table.path) if scored else (),
        summary=_json(scored.table.path.parent / "summary.json") if scored else {},
        predictions=tuple(row for file in sorted(folder.glob("**/predictions*.csv")) for row in _rows(file)),
    )


def _scored(folder: Path) -> ScoredRun | None:
    """The scores of an evaluation inside the folder first, else the run's own."""
    places = [folder, *(place.parent for place in sorted(folder.glob("*/metrics_per_case.csv")))]
    if len(places) == 2:
        return read_run(places[1])
    if not (folder / "metrics_per_case.csv").is_file() and not list(folder.glob("scores/*.csv")):
        return None
    return read_run(folder)


def _name(folder: Path, config: Mapping[str, Any]) -> str:
    """Folder and experiment: unique on a page in most cases, and short."""
    experiment = (config.get("run") or {}).get("experiment")
    return f"{experiment} {folder.name}" if experiment else folder.name


def _rows(path: Path) -> tuple[Mapping[str, str], ...]:
    if not path.is_file():
        return ()
    with path.open(newline="", encoding="utf-8-sig") as file:
        return tuple(csv.DictReader(file))


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CaseError(f"{path}: not readable as JSON ({error}); restore or remove it") from error
    return found if isinstance(found, dict) else {}


def _yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise CaseError(
            f"{path}: not readable as YAML ({' '.join(str(error).split())}); restore or remove it"
        ) from error
    return found if isinstance(found, dict) else {}


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as dotted keys and text."""
    out: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            out |= flat(value, f"{prefix}{key}.")
        else:
            out[f"{prefix}{key}"] = json.dumps(value) if isinstance(value, (list, Mapping)) else str(value)
    return out
