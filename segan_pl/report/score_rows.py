"""Rows of a report's tables: a run's means with the intervals of `segan_pl evaluate`, and what they are made of."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segan_pl.data.case import CaseError
from segan_pl.evaluation.kept import best_kept
from segan_pl.evaluation.policies import mean_available
from segan_pl.evaluation.saved_files import SUBSETS, csv_rows, mapping
from segan_pl.evaluation.statistics.paired import LEAST
from segan_pl.evaluation.statistics.scored_runs import ScoredRun
from segan_pl.evaluation.statistics.summaries import (
    RESAMPLES,
    Scored,
    Statistics,
    Summary,
    mean_intervals,
    summarise_cases,
)
from segan_pl.evaluation.tables import subsets_file
from segan_pl.report.run_files import RunFiles

COLUMNS = ("run", "region", "metric", "mean", "95 % interval", "median", "quartiles", "n", "n/a", "unit", "better")
CAPTION = (
    f"Mean over cases with its bootstrap 95 % interval ({RESAMPLES:,} cohorts of patients with all their scans; n/a "
    f"with fewer than {LEAST} patients), median and quartiles; n is the number of cases that the mean is over, n/a the "
    f"number left out of it. volume_difference_ml is prediction minus reference."
)
MATRIX_CAPTION = (
    "Mean over cases, and under it its bootstrap 95 % interval over patients (from "
    f"{LEAST} patients on); ↑ higher is better, ↓ lower is better"
)
SUBSET_COLUMNS = ("run", "predicted from", "modalities", "region", "mean Dice", "95 % interval", "n")
SUBSET_CAPTION = (
    "Mean Dice over cases by what they were predicted from, the other modalities zero, with its bootstrap 95 % "
    "interval over patients; n is the number of cases"
)
NEEDED = ("case", "subset", "modalities", "region", "dice")
"""Columns of a table of subsets."""


def scores_of(run: RunFiles) -> ScoredRun:
    """Of a run that has them."""
    assert run.scored is not None
    return run.scored


class Opens(NamedTuple):
    """A cell of a table that opens a case of the viewer.

    Attributes:
        text: The cell.
        anchor: Of the case on the page.
        region: As tables write it.
        run: Whose prediction.
        at: Slices "z,y,x" of what is shown; empty for those that the case begins with.
    """

    text: str
    anchor: str
    region: str
    run: str
    at: str = ""


def mean_dice(run: RunFiles) -> dict[str, float]:
    """Case to its mean Dice over the regions that have one; infinite where none has, so that it comes last."""
    values: dict[str, list[float]] = {}
    for (_, case), row in scores_of(run).rows.items():
        values.setdefault(case, []).append(row.values.get("dice", math.nan))
    there = {case: [value for value in some if not math.isnan(value)] for case, some in values.items()}
    return {case: math.fsum(some) / len(some) if some else math.inf for case, some in there.items()}


def worst_first(run: RunFiles) -> list[Mapping[str, str]]:
    """The rows of a run's table by its cases' mean Dice, regions in the file's order."""
    means = mean_dice(run)
    return sorted(scores_of(run).cells, key=lambda cells: means[cells["case"]])


def statistics(run: RunFiles) -> Summary:
    """Of each region and metric, as `segan_pl evaluate` computes them, with the seed of the run's evaluation or 0."""
    scored = scores_of(run)
    columns = [(region, metric) for region in scored.regions for metric in scored.metrics]
    cases = []
    for case in scored.cases:
        rows = {region: scored.rows.get((region, case)) for region in scored.regions}
        values = {(r, metric): row.values[metric] if (row := rows[r]) else math.nan for r, metric in columns}
        cases.append(Scored(case, scored.patients.get(case, case), {}, values))
    seed = mapping(run.summary.get("bootstrap")).get("seed")
    return summarise_cases(cases, columns, seed=seed if isinstance(seed, int) and seed >= 0 else 0)


def summary_cells(found: Statistics, total: int) -> list[str]:
    """Mean, interval, median, quartiles, n and n/a as text, of `total` rows."""
    if not found.n:
        return ["n/a", "n/a", "n/a", "", "0", str(total)]
    between, quartiles = interval(found.low, found.high, number), f"{number(found.q1)} to {number(found.q3)}"
    return [number(found.mean), between, number(found.median), quartiles, str(found.n), str(total - found.n)]


def number(value: float) -> str:
    """Three decimals below 10, one above."""
    return "n/a" if math.isnan(value) else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def origin_lines(run: RunFiles) -> list[str]:
    """Where a run's scores come from, how they are defined, and what empty masks score and how often there are any."""
    scored = scores_of(run)
    chosen = " These cases chose the checkpoint, so the scores flatter it." if scored.table.kind == "validation" else ""
    seen = f" O{found[1:]}." if (found := scored.seen()) else ""
    policy = f"; empty masks: policy {scored.policy}" if scored.policy else ""
    size = " x ".join(map(str, scored.crop or ()))
    part = f" Only the central {size} voxels (z, y, x in LPS) of each case are scored." if size else ""
    where = f"{run.name}: {scored.table.path.name} ({scored.table.reason}){policy}.{part}{chosen}{seen}"
    unknown = sum(case not in scored.patients for case in scored.cases)
    alone = [f"{run.name}: no table says the patient of {unknown} cases; each counts as a patient of its own."]
    known = {metric: scored.known(metric) for metric in scored.metrics}
    said: dict[tuple[str, str], list[str]] = {}
    for metric, one in known.items():
        if one.definition:
            said.setdefault((one.definition, one.meaning), []).append(metric)
    parts = [f"{', '.join(names)}: {d}{f' ({meaning})' if meaning else ''}" for (d, meaning), names in said.items()]
    definitions = [f"{run.name}: definitions: {'; '.join(parts)}."] if parts else []
    counts: dict[str, Counter[str]] = {}
    for (region, _), row in scored.rows.items():
        if row.empty:  # missing predictions are not among them
            counts.setdefault(region, Counter())[row.empty] += 1
    kinds = ("both", "reference", "prediction")
    parts = [
        f"{region.upper()}: " + ", ".join(f"{many[kind]} {kind}" for kind in kinds)
        for region, many in counts.items()
        if many.total() > many["neither"]
    ]
    empty = [f"{run.name}: cases whose masks are empty: {'; '.join(parts)}."] if parts else []
    return [where, *definitions, *empty, *(alone if unknown else [])]


def subset_file(run: RunFiles) -> Path | None:
    """The subsets' table that belongs to the run's scores, else the best checkpoint's, else the last by name."""
    there = sorted((run.home / "scores").glob(f"*{SUBSETS}.csv"))
    best = best_kept(run.home / "checkpoints")
    named = [f"{command}_{best.path.stem}{SUBSETS}.csv" for command in ("test", "validate")] if best else []
    wanted = [*([subsets_file(run.scored.table.path).name] if run.scored else []), *named]
    by_name = {file.name: file for file in there}
    return next((by_name[name] for name in wanted if name in by_name), there[-1] if there else None)


def subset_rows(run: RunFiles) -> list[list[str]]:
    """One row for each region and subset, small subsets first, then the mean over all subsets; none without scores.

    Raises:
        CaseError: The table of subsets lacks a column, or a cell is no number.
    """
    if (file := subset_file(run)) is None:
        return []
    cells = csv_rows(file)
    if not cells or (lacking := [name for name in NEEDED if name not in cells[0]]):
        what = f"no column {', '.join(lacking)}" if cells else "no rows"
        raise CaseError(f"{file}: {what}; score the subsets again with `segan_pl validate --model.subsets all`")
    for number, row in enumerate(cells, 2):
        try:
            float(row["dice"] or "nan"), int(row["modalities"])
        except ValueError as error:
            raise CaseError(f"{file}, line {number}: {error}; restore the file or score the subsets again") from error
    rows = []
    # in the file's order, which the sort keeps
    sizes = {row["subset"]: int(row["modalities"]) for row in cells}
    for region in dict.fromkeys(row["region"] for row in cells):
        means = []
        for subset, size in sorted(sizes.items(), key=lambda one: one[1]):
            here = [row for row in cells if (row["region"], row["subset"]) == (region, subset) and row["dice"]]
            values = np.array([float(row["dice"]) for row in here])
            means.append(float(values.mean()) if here else math.nan)
            low, high = mean_intervals(values[:, None], [row.get("patient") or row["case"] for row in here])
            found = [_three(means[-1]), interval(low[0], high[0], _three), str(len(here))]
            rows.append([run.name, subset, str(size), region.upper(), *found])
        over, _ = mean_available(means)
        rows.append([run.name, f"mean of the {len(sizes)}", "", region.upper(), _three(over), "", ""])
    return rows


def interval(low: float, high: float, written: Callable[[float], str]) -> str:
    """Both ends as text; n/a where there are too few patients for an interval."""
    return "n/a" if math.isnan(low) else f"{written(low)} to {written(high)}"


def _three(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.3f}"
