"""The per-case scores of a run, found in its folder; reads saved files only."""

from __future__ import annotations

import csv
import difflib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml

from segan_pl.data.volume import CaseError
from segan_pl.errors import UsageError

Kind = Literal["evaluation", "test", "validation", "file"]

PER_CASE = "metrics_per_case.csv"
CHECKPOINT = re.compile(r"epoch(\d+)_dice(-?[\d.]+?)(?:-v\d+)?\.ckpt")
HIGHER = ("dice", "iou", "precision", "sensitivity", "specificity")


class Table(NamedTuple):
    """A file of scores, and why it is the one.

    Attributes:
        path: The CSV file.
        kind: "validation" scores chose the checkpoint, so they flatter it.
        reason: E.g. "best checkpoint, epoch 6".
    """

    path: Path
    kind: Kind
    reason: str


class Row(NamedTuple):
    """One case and region of a run.

    Attributes:
        status: As `segan_pl evaluate` wrote it; empty where the table has no such column.
        empty: Which mask is empty: "neither", "both", "reference", "prediction", or "" where the table does not say.
        reference: Voxels of the reference, or None where the table does not say.
        values: Metric to value; NaN for an empty cell.
    """

    status: str
    empty: str
    reference: int | None
    values: Mapping[str, float]


@dataclass(frozen=True)
class ScoredRun:
    """Scores of one run.

    Attributes:
        table: Where they were read.
        rows: (region, case) to its row; regions in lower case.
        patients: Case to patient, of the cases whose patient is known.
        config: The run's config.yaml, or empty.
        policy: Name of the policy for empty masks, or None where nothing says it.
    """

    table: Table
    rows: Mapping[tuple[str, str], Row]
    patients: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    policy: str | None = None

    @property
    def cases(self) -> tuple[str, ...]:
        """Names, each once, in order."""
        return tuple(sorted({case for _, case in self.rows}))

    @property
    def regions(self) -> tuple[str, ...]:
        """In the file's order."""
        return tuple(dict.fromkeys(region for region, _ in self.rows))

    @property
    def metrics(self) -> tuple[str, ...]:
        """Columns that can be compared, in the file's order."""
        return tuple(next(iter(self.rows.values())).values)


def higher_is_better(metric: str) -> bool | None:
    """Whether a larger value is better; None for a column that is no score (a count, a volume, an age)."""
    if any(word in metric for word in HIGHER):
        return True
    return False if metric.endswith(("_mm", "_difference_ml")) else None


def read_run(path: Path) -> ScoredRun:
    """Read the scores of a run.

    Args:
        path: A folder with metrics_per_case.csv, a run's folder with scores/, or a CSV file.

    Raises:
        UsageError: There is no such run, or nothing says which of its files is meant.
        CaseError: The table cannot be used.
    """
    table = find_table(path)
    raw = _read_csv(table.path)
    metrics = [name for name in raw[0] if higher_is_better(name) is not None]
    if not metrics:
        raise CaseError(f"{table.path}: no column of scores ({', '.join(raw[0])}); expected dice or the like")
    rows: dict[tuple[str, str], Row] = {}
    for number, cells in enumerate(raw, 2):
        key = (cells["region"].lower(), cells["case"])
        if key in rows:
            raise CaseError(f"{table.path}, line {number}: {key[1]}, {key[0]} stands there twice; expected once")
        rows[key] = _row(cells, metrics, f"{table.path}, line {number}")
    folder = table.path.parent.parent if table.path.parent.name == "scores" else table.path.parent
    patients = {cells["case"]: cells["patient"] for cells in raw if cells.get("patient")}
    config = _config(folder / "config.yaml")
    return ScoredRun(table, rows, patients or _case_table(folder / "cases.csv"), config, _policy(folder, config))


def find_table(path: Path) -> Table:
    """The file that holds a run's scores: of an evaluation, else of the test, else of the best checkpoint's validation.

    Raises:
        UsageError: There is none, or nothing says which of several it is.
    """
    if path.is_file():
        return Table(path, "file", "as given")
    if not path.is_dir():
        raise UsageError(f"no run {path}{_meant(path)}; give a run's folder, one with {PER_CASE}, or a CSV file")
    if (path / PER_CASE).is_file():
        return Table(path / PER_CASE, "evaluation", "segan_pl evaluate")
    scores, best = path / "scores", best_checkpoint(path / "checkpoints")
    tests = sorted(scores.glob("test*.csv"))
    of_best = scores / f"test_{best.stem}.csv" if best else None
    if len(tests) == 1:
        return Table(tests[0], "test", "test cases")
    if tests:
        if of_best in tests:
            return Table(of_best, "test", "test cases, best checkpoint")
        raise UsageError(f"{path} has {len(tests)} test tables ({_names(tests)}); give the file itself")
    return _validation(path, best)


def _validation(path: Path, best: Path | None) -> Table:
    """The validation of the best checkpoint, or the only one."""
    there = sorted((path / "scores").glob("val*.csv"))
    if best is not None:
        match = CHECKPOINT.fullmatch(best.name)
        epoch = int(match[1]) if match else 0
        file = path / "scores" / f"val_epoch_{epoch:04d}.csv"
        if file in there:
            return Table(file, "validation", f"validation, best checkpoint, epoch {epoch}")
    if len(there) == 1:
        return Table(there[0], "validation", "validation, the only one")
    if there:
        raise UsageError(f"{path} has {len(there)} validations and no checkpoint says which is best; give the file")
    inside = sorted(folder for folder in path.iterdir() if (folder / "scores").is_dir())
    hint = f"; it holds {len(inside)} runs ({_names(inside)}): give those, or name=RUN,RUN for seeds" if inside else ""
    raise UsageError(f"{path}: no {PER_CASE} and no scores/*.csv{hint}")


def best_checkpoint(folder: Path) -> Path | None:
    """The checkpoint whose name tells the highest score, of equal ones the earliest; None where no name does."""
    found = [(match, file) for file in folder.glob("epoch*.ckpt") if (match := CHECKPOINT.fullmatch(file.name))]
    return min(found, key=lambda pair: (-float(pair[0][2]), int(pair[0][1]), pair[1].name))[1] if found else None


def _read_csv(path: Path) -> list[dict[str, str]]:
    """Rows of a score table, at least one, with the columns case and region."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, restkey="", restval=""))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CaseError(f"{path}: cannot be read as a CSV file ({' '.join(str(error).split())})") from error
    if not rows:
        raise CaseError(f"{path}: no row; expected one a case and region under a line of column names")
    if missing := [name for name in ("case", "region") if name not in rows[0]]:
        raise CaseError(f"{path}: no column {' and '.join(missing)}; expected case, region and scores such as dice")
    return rows


def _row(cells: Mapping[str, str], metrics: Sequence[str], place: str) -> Row:
    values = {name: _number(cells[name], f"{place}, {name}") for name in metrics}
    for name in metrics:
        if name.endswith("_difference_ml"):  # signed in the table; what is compared is how far off it is
            values[name] = abs(values[name])
    voxels = [cells.get(name) or "" for name in ("tp", "fn")]
    reference = sum(int(float(cell)) for cell in voxels) if all(_is_number(cell) for cell in voxels) else None
    return Row(cells.get("status") or "", cells.get("empty") or "", reference, values)


def _number(cell: str, place: str) -> float:
    """A finite number, or NaN for an empty cell or n/a."""
    if cell.strip().lower() in ("", "n/a", "na", "nan"):
        return math.nan
    if not _is_number(cell):
        raise CaseError(f"{place}: {cell!r}; expected a finite number, or an empty cell for not available")
    return float(cell)


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def _config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CaseError(f"{path}: not readable as YAML ({' '.join(str(error).split())})") from error
    return found if isinstance(found, dict) else {}


def _case_table(path: Path) -> dict[str, str]:
    """Case to patient, as the run's cases.csv says; empty without one."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {row["case"]: row["patient"] for row in csv.DictReader(file) if row.get("case") and row.get("patient")}


def _policy(folder: Path, config: Mapping[str, Any]) -> str | None:
    """What summary.json says beside an evaluation, or the configuration of a run."""
    summary = folder / "summary.json"
    if summary.is_file():
        found = json.loads(summary.read_text(encoding="utf-8"))
        named = found.get("policy") if isinstance(found, dict) else None
        return named.get("name") if isinstance(named, dict) else named
    return (config.get("model") or {}).get("empty_policy")


def _meant(path: Path) -> str:
    """The nearest name in the same folder."""
    there = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, there, 1, 0.5)
    return f", did you mean {path.parent / near[0]}?" if near else ""


def _names(paths: Sequence[Path], limit: int = 4) -> str:
    listed = ", ".join(path.name for path in paths[:limit])
    return listed if len(paths) <= limit else f"{listed}, ..."
