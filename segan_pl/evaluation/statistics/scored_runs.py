"""The per-case scores of a run, found in its folder; reads saved files only."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from segan_pl.data.case import CaseError
from segan_pl.evaluation.saved_files import METRICS, csv_rows, json_file, mapping, yaml_file
from segan_pl.evaluation.statistics.run_tables import Table, find_table, home_of

NOT_AVAILABLE = ("", "n/a", "na", "nan")


class Known(NamedTuple):
    """What is known of a column of scores, by the JSON file of the table, else by segan_pl.

    Attributes:
        unit: Empty where nobody says it.
        higher_is_better: None where nobody says it, or neither is better (a volume, a count).
        by_size: Whether values are compared by their size.
        definition: Which of several definitions it has; None where it has but one, or nobody says which.
        meaning: A sentence, or empty.
    """

    unit: str = ""
    higher_is_better: bool | None = None
    by_size: bool = False
    definition: str | None = None
    meaning: str = ""

    @property
    def better(self) -> str:
        """In a word or two."""
        if self.higher_is_better is None:
            return "not stated"
        return "higher" if self.higher_is_better else "smaller" if self.by_size else "lower"


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
        described: Metric to what summary.json says of it, or metrics.json and the table's own; or empty.
        split: The run's split.json, part to cases; of an evaluation elsewhere that of its cases; or empty.
        parts: Those that trained the network and that chose it; see `seen_parts`.
        cells: The table's rows as they are in the file, in order.
        crop: (D, H, W) of the central part that alone was scored; None for whole volumes.
    """

    table: Table
    rows: Mapping[tuple[str, str], Row]
    patients: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    policy: str | None = None
    described: Mapping[str, Any] = field(default_factory=dict)
    split: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, Any] = field(default_factory=dict)
    cells: tuple[Mapping[str, str], ...] = ()
    crop: tuple[int, ...] | None = None

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
        return None if self.table.kind == "validation" else seen_in_words(self.cases, self.parts)

    def known(self, metric: str) -> Known:
        """Unit, direction and definition of a metric."""
        # loads SciPy, which `evaluate --help` does without
        from segan_pl.evaluation.metrics.named import BUILT_IN

        said = mapping(self.described.get(metric))
        # the default definition is no statement
        if not said and metric in BUILT_IN:
            said = {**BUILT_IN[metric].described(), "definition": "", "meaning": ""}
        higher = said.get("higher_is_better")
        return Known(
            str(said.get("unit") or ""),
            higher if isinstance(higher, bool) else None,
            said.get("by_size") is True,
            str(said.get("definition") or "") or None,
            str(said.get("meaning") or ""),
        )

    def compared(self, metric: str, case: str, region: str) -> float:
        """A value as it is compared: a difference of volumes by its size, everything else as it is."""
        value = self.rows[region, case].values[metric]
        return abs(value) if self.known(metric).by_size else value


def seen_parts(predicted: Any, table: Path) -> Mapping[str, Any]:
    """The cases that trained a network ("train") or chose its checkpoint ("val"); empty where nothing says it.

    Args:
        predicted: What predict.json said, which is of the predictions whatever folder they or their scores lie in.
        table: The scores. Where predict.json said nothing, the split of the run around them counts.
    """
    return mapping(predicted) or json_file(home_of(table) / "split.json")


def seen_in_words(cases: Sequence[str], split: Mapping[str, Any]) -> str | None:
    """How many of some cases trained a network ("train") or chose its checkpoint ("val"); None where none did."""
    said = {"train": "trained the network", "val": "chose its checkpoint"}
    counts = {part: len(set(cases) & set(split.get(part) or ())) for part in said}
    parts = [f"{count} {said[part]}" for part, count in counts.items() if count]
    return f"of these {len(cases)} cases {' and '.join(parts)}: the scores flatter it" if parts else None


def read_run(path: Path) -> ScoredRun:
    """Read the scores of a run.

    Args:
        path: A folder with metrics_per_case.csv, a run's folder with scores/, or a CSV file.

    Raises:
        UsageError: There is no such run, or nothing says which of its files is meant.
        CaseError: The table cannot be used.
    """
    from segan_pl.evaluation.metrics.named import BUILT_IN

    table = find_table(path)
    if not (raw := csv_rows(table.path)):
        raise CaseError(f"{table.path}: no row; expected one for each case and region under a line of column names")
    if missing := [name for name in ("case", "region") if name not in raw[0]]:
        raise CaseError(
            f"{table.path}: no column {' and '.join(missing)}; expected case, region and scores such as dice"
        )
    evaluated = table.path.parent.name != "scores"
    summary = json_file(table.path.with_name("summary.json")) if evaluated else {}
    described = mapping(summary.get("metrics"))
    if not evaluated:
        described = {**json_file(table.path.with_name(METRICS)), **json_file(table.path.with_suffix(".json"))}
    metrics = _metrics(raw, {*described, *BUILT_IN})
    if not metrics:
        raise CaseError(f"{table.path}: no column of scores ({', '.join(raw[0])}); expected numbers, e.g. of dice")
    rows: dict[tuple[str, str], Row] = {}
    for number, cells in enumerate(raw, 2):
        key = (cells["region"].lower(), cells["case"])
        if key in rows:
            raise CaseError(f"{table.path}, line {number}: {key[1]}, {key[0]} is there twice; expected once")
        rows[key] = _row(cells, metrics, f"{table.path}, line {number}")
    home = home_of(table.path)
    patients = {cells["case"]: cells["patient"] for cells in raw if cells.get("patient")}
    if not patients:
        rows_of_cases = csv_rows(home / "cases.csv")
        patients = {row["case"]: row["patient"] for row in rows_of_cases if row.get("case") and row.get("patient")}
    config = yaml_file(home / "config.yaml")
    model, named = mapping(config.get("model")), summary.get("policy")
    # What summary.json names, of an evaluation; else that by which the run itself scored its cases.
    policy = raw[0].get("policy") or mapping(named).get("name") or (named if isinstance(named, str) else "")
    policy = policy or (None if evaluated else model.get("empty_policy"))
    split = json_file(home / "split.json")
    parts = seen_parts(summary.get("parts"), table.path)
    crop = summary.get("crop") if evaluated else model.get("crop") if model.get("score_on") == "crop" else None
    size = tuple(crop) if crop else None
    return ScoredRun(
        table, rows, patients, config, str(policy or "") or None, described, split or parts, parts, tuple(raw), size
    )


def _metrics(rows: Sequence[Mapping[str, str]], known: Collection[str]) -> list[str]:
    """The columns of scores: those that are known, and whatever else holds numbers behind the region's column.

    Before it are facts of the case, such as a manifest's age.
    """
    from segan_pl.evaluation.metrics.base import NOT_METRICS

    names = list(rows[0])
    behind = names[names.index("region") + 1 :]
    found = []
    for name in (name for name in names if name and name not in NOT_METRICS):
        cells = [row[name] for row in rows if row[name].strip().lower() not in NOT_AVAILABLE]
        if name in known or (name in behind and cells and all(map(_is_number, cells))):
            found.append(name)
    return found


def _row(cells: Mapping[str, str], metrics: Sequence[str], place: str) -> Row:
    values = {}
    for name in metrics:
        values[name] = math.nan
        if (cell := cells[name]).strip().lower() in NOT_AVAILABLE:
            continue
        if not _is_number(cell):
            raise CaseError(f"{place}, {name}: {cell!r}; expected a finite number, or an empty cell for not available")
        values[name] = float(cell)
    voxels = [cells.get(name) or "" for name in ("tp", "fn")]
    reference = sum(int(float(cell)) for cell in voxels) if all(_is_number(cell) for cell in voxels) else None
    return Row(cells.get("status") or "", cells.get("empty") or "", reference, values)


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False
