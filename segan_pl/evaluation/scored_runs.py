"""The per-case scores of a run, found in its folder; reads saved files only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from segan_pl.data.volume import CaseError
from segan_pl.evaluation.run_tables import Table, find_table, home_of
from segan_pl.evaluation.saved_files import csv_rows, json_file, mapping, yaml_file

HIGHER = ("dice", "iou", "precision", "sensitivity", "specificity", "surface_dice", "lesion_dice")
LOWER = ("volume_difference_ml", "hd95_mm", "mean_surface_distance_mm", "lesion_hd95_mm")


class Row(NamedTuple):
    """One case and region of a run.

    Attributes:
        status: As `segan_pl evaluate` wrote it; empty where the table has no such column.
        empty: Which mask is empty: "neither", "both", "reference", "prediction", or "" where the table does not say.
        reference: Voxels of the reference, or None where the table does not say.
        values: Metric to value as the table has it, so a difference of volumes with its sign; NaN for an empty cell.
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
        definitions: How the numbers are meant, as summary.json says beside an evaluation, or empty.
        split: The run's split.json, part to cases, or empty.
    """

    table: Table
    rows: Mapping[tuple[str, str], Row]
    patients: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    policy: str | None = None
    definitions: Mapping[str, Any] = field(default_factory=dict)
    split: Mapping[str, Any] = field(default_factory=dict)

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

    def seen(self) -> str | None:
        """How many of the cases the run had seen in training, in words; None where it is not known or is none.

        Of a validation's cases it is always so, and said elsewhere.
        """
        if self.table.kind == "validation":
            return None
        said = {"train": "trained the network", "val": "chose its checkpoint"}
        counts = {part: len(set(self.cases) & set(self.split.get(part) or ())) for part in said}
        parts = [f"{count} {said[part]}" for part, count in counts.items() if count]
        return f"of these {len(self.cases)} cases {' and '.join(parts)}: the scores flatter it" if parts else None

    def definition(self, metric: str) -> str | None:
        """Which of several definitions a metric has here; None where it has but one, or nothing says which."""
        lesions, surface = (mapping(self.definitions.get(name)) for name in ("lesions", "surface_dice"))
        if metric.startswith("lesion_") and lesions:
            rules = (f"{name} {lesions[name]}" for name in ("dilations", "left_out_up_to_mm3") if name in lesions)
            return f"{lesions.get('name')} ({', '.join(rules)})"
        if metric == "surface_dice" and "tolerance_mm" in surface:
            return f"tolerance {surface['tolerance_mm']} mm"
        named = mapping(self.definitions.get("hd95_mm")).get("name") if metric == "hd95_mm" else None
        return str(named) if named else None


def higher_is_better(metric: str) -> bool | None:
    """Whether a larger value is better; None for a column that is no score (a count, a volume, a manifest's)."""
    return True if metric in HIGHER else False if metric in LOWER else None


def distance_from_best(metric: str, value: float) -> float:
    """What is compared: a difference of volumes by its size, everything else as it is."""
    return abs(value) if metric == "volume_difference_ml" else value


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
        known = ", ".join((*HIGHER, *LOWER))
        raise CaseError(f"{table.path}: no column of scores ({', '.join(raw[0])}); expected one of {known}")
    rows: dict[tuple[str, str], Row] = {}
    for number, cells in enumerate(raw, 2):
        key = (cells["region"].lower(), cells["case"])
        if key in rows:
            raise CaseError(f"{table.path}, line {number}: {key[1]}, {key[0]} stands there twice; expected once")
        rows[key] = _row(cells, metrics, f"{table.path}, line {number}")
    home = home_of(table.path)
    patients = {cells["case"]: cells["patient"] for cells in raw if cells.get("patient")}
    if not patients:
        rows_of_cases = csv_rows(home / "cases.csv")
        patients = {row["case"]: row["patient"] for row in rows_of_cases if row.get("case") and row.get("patient")}
    config, evaluated = yaml_file(home / "config.yaml"), table.path.parent.name != "scores"
    summary = json_file(table.path.with_name("summary.json")) if evaluated else {}
    policy = raw[0].get("policy") or _policy(summary) or (None if evaluated else _configured(config))
    definitions, split = mapping(summary.get("definitions")), json_file(home / "split.json")
    return ScoredRun(table, rows, patients, config, policy, definitions, split)


def _read_csv(path: Path) -> list[dict[str, str]]:
    """Rows of a score table, at least one, with the columns case and region."""
    if not (rows := csv_rows(path)):
        raise CaseError(f"{path}: no row; expected one a case and region under a line of column names")
    if missing := [name for name in ("case", "region") if name not in rows[0]]:
        raise CaseError(f"{path}: no column {' and '.join(missing)}; expected case, region and scores such as dice")
    return rows


def _row(cells: Mapping[str, str], metrics: Sequence[str], place: str) -> Row:
    values = {name: _number(cells[name], f"{place}, {name}") for name in metrics}
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


def _policy(summary: Mapping[str, Any]) -> str | None:
    """What summary.json says beside an evaluation."""
    named = summary.get("policy")
    return str(mapping(named).get("name") or (named if isinstance(named, str) else "")) or None


def _configured(config: Mapping[str, Any]) -> str | None:
    """The policy by which the run itself scored its cases."""
    named = mapping(config.get("model")).get("empty_policy")
    return str(named) if named else None
