"""Dice by subset of the modalities, for runs whose cases were also predicted from parts of what they have."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segan_pl.data.volume import CaseError
from segan_pl.evaluation.run_tables import best_checkpoint
from segan_pl.evaluation.saved_files import csv_rows
from segan_pl.evaluation.subsets import SUFFIX, beside
from segan_pl.evaluation.summaries import mean_intervals
from segan_pl.report import html
from segan_pl.report.run_files import RunFiles

COLUMNS = ["run", "predicted from", "modalities", "region", "mean Dice", "95 % interval", "n"]
NEEDED = ("case", "subset", "modalities", "region", "dice")
Cells = Mapping[str, str]


def subset_part(runs: Sequence[RunFiles]) -> str:
    """The table; empty where no run has scores of subsets."""
    rows = subset_rows(runs)
    if not rows:
        return ""
    caption = (
        "Mean Dice over cases by what they were predicted from, the other modalities zero, with its bootstrap 95 % "
        "interval over patients; n is the number of cases"
    )
    origin = "".join(f'<p class="quiet">{html.text(line)}</p>\n' for line in subset_origins(runs))
    return origin + html.table(COLUMNS, rows, caption=caption, numbers=(2, 4, 5, 6))


def subset_origins(runs: Sequence[RunFiles]) -> list[str]:
    """Which file each run's subsets come from."""
    found = ((run, subset_file(run)) for run in runs)
    return [f"{run.name}: subsets of the modalities from {file.name}" for run, file in found if file is not None]


def subset_rows(runs: Sequence[RunFiles]) -> list[list[str]]:
    """One row a run, region and subset, small subsets first, then the mean over all subsets.

    Raises:
        CaseError: A table of subsets lacks a column, or a number is none.
    """
    return [row for run in runs if (file := subset_file(run)) is not None for row in _of_run(run.name, file)]


def subset_file(run: RunFiles) -> Path | None:
    """The subsets' table that belongs to the run's scores, else the best checkpoint's, else the last by name."""
    there = sorted((run.folder / "scores").glob(f"*{SUFFIX}.csv"))
    best = best_checkpoint(run.folder / "checkpoints")
    named = [f"{command}_{best.stem}{SUFFIX}.csv" for command in ("test", "validate")] if best else []
    wanted = [*([beside(run.scored.table.path).name] if run.scored else []), *named]
    by_name = {file.name: file for file in there}
    return next((by_name[name] for name in wanted if name in by_name), there[-1] if there else None)


def _of_run(name: str, file: Path) -> list[list[str]]:
    cells, rows = _cells(file), []
    sizes = {row["subset"]: int(row["modalities"]) for row in cells}  # in the file's order, which the sort keeps
    for region in dict.fromkeys(row["region"] for row in cells):
        means = []
        for subset, size in sorted(sizes.items(), key=lambda one: one[1]):
            here = [row for row in cells if (row["region"], row["subset"]) == (region, subset) and row["dice"]]
            values = np.array([float(row["dice"]) for row in here])
            means.append(float(values.mean()) if here else math.nan)
            found = [_number(means[-1]), _interval(here, values), str(len(here))]
            rows.append([name, subset, str(size), region.upper(), *found])
        there = [mean for mean in means if not math.isnan(mean)]
        over = math.fsum(there) / len(there) if there else math.nan
        rows.append([name, f"mean of the {len(sizes)}", "", region.upper(), _number(over), "", ""])
    return rows


def _cells(file: Path) -> list[dict[str, str]]:
    rows = csv_rows(file)
    if not rows or (lacking := [name for name in NEEDED if name not in rows[0]]):
        what = f"no column {', '.join(lacking)}" if rows else "no rows"
        raise CaseError(f"{file}: {what}; score the subsets anew with `segan_pl validate --model.subsets all`")
    for number, row in enumerate(rows, 2):
        try:
            float(row["dice"] or "nan"), int(row["modalities"])
        except ValueError as error:
            raise CaseError(f"{file}, line {number}: {error}; restore the file or score the subsets anew") from error
    return rows


def _interval(rows: Sequence[Cells], values: NDArray[np.float64]) -> str:
    """Of the mean, whole patients drawn; n/a with too few of them."""
    low, high = mean_intervals(values[:, None], [row.get("patient") or row["case"] for row in rows])
    return "n/a" if math.isnan(low[0]) else f"{_number(low[0])} to {_number(high[0])}"


def _number(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.3f}"
