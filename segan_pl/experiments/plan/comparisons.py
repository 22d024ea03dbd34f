"""Tables of a plan that set its rows against one another: paired differences, and means against a number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from segan_pl.evaluation.metrics.named import BUILT_IN
from segan_pl.evaluation.statistics.comparison import Comparison, compare
from segan_pl.evaluation.statistics.paired import LEVEL, holm, least_p
from segan_pl.experiments.plan.cells import Result, case_scores
from segan_pl.experiments.plan.plan import TablePlan

TableText = tuple[list[str], list[list[str]]]
"""Columns and lines."""


DIFFERENCES = (
    *("row", "reference", "region", "metric", "difference", "low", "high", "p", "p_holm", "patients", "wins", "losses"),
    "seeds",
)
REACHED = ("value", "row", "at", "region", "mean", "sd", "seeds")
"""Columns of the tables' own files."""


class Difference(NamedTuple):
    """One row's metric in one region, less that of its reference.

    Attributes:
        row: Its label.
        reference: The runs of the reference, without their seeds.
        region: Where.
        metric: A column of the score tables.
        seeds: That both sides have.
        found: Over the patients of both, each case averaged over these seeds; None without such seeds.
        holm: The permutation test's p after Holm's correction over the table; None where it was not computed.
    """

    row: str
    reference: str
    region: str
    metric: str
    seeds: tuple[int, ...]
    found: Comparison | None
    holm: float | None


def differences(table: TablePlan, found: Sequence[Result]) -> list[Difference]:
    """Every row, region and metric of a table of differences, in the table's order."""
    made: list[tuple[Result, str, str, tuple[int, ...], Comparison | None]] = []
    for one in found:
        seeds = tuple(
            seed
            for seed in one.finished
            if (names := one.cell.reference.get(seed)) and all(name in one.reference for name in names)
        )
        ours = [one.scores[name] for seed in seeds for name in one.cell.runs[seed]]
        theirs = [one.reference[name] for seed in seeds for name in one.cell.reference[seed]]
        for region in one.regions:
            for metric in table.metrics:
                sides = [case_scores(runs, metric, region) for runs in (ours, theirs)] if seeds else []
                higher = BUILT_IN[metric].higher_is_better if metric in BUILT_IN else None
                made.append((one, region, metric, seeds, compare(*sides, higher_is_better=higher) if sides else None))
    adjusted = holm([one[4].permutation_p if one[4] else None for one in made])
    return [
        Difference(one.cell.label, _reference(one), region, metric, seeds, comparison, p)
        for (one, region, metric, seeds, comparison), p in zip(made, adjusted, strict=True)
    ]


def holm_note(table: TablePlan, found: Sequence[Result]) -> str:
    """That no p of a table of differences can pass Holm's correction, where so few patients are tested so often."""
    tested = [one.found for one in differences(table, found) if one.found and one.found.permutation_p is not None]
    used = max((one.wins + one.losses for one in tested), default=0)
    if not tested or least_p(used) * len(tested) <= LEVEL:
        return ""
    return (
        f"Table {table.name}: {used} patients can reach p = {least_p(used):.2g}, and Holm's correction over "
        f"{len(tested)} tests may ask for {LEVEL / len(tested):.2g}: look at the intervals; a p of 1 does not say that "
        f"there is no difference."
    )


def _reference(result: Result) -> str:
    names = dict.fromkeys(name.rpartition("_seed")[0] for names in result.cell.reference.values() for name in names)
    return "+".join(names)


def difference_rows(table: TablePlan, found: Sequence[Result]) -> list[dict[str, object]]:
    """Of the table's own file, numbers to six decimals."""
    out: list[dict[str, object]] = []
    for one in differences(table, found):
        row: dict[str, object] = {
            "row": one.row,
            "reference": one.reference,
            "region": one.region,
            "metric": one.metric,
        }
        numbers: dict[str, float | None] = dict.fromkeys(("difference", "low", "high", "p", "p_holm"))
        if one.found is not None:
            low, high = one.found.interval or (None, None)
            numbers = {"difference": one.found.difference, "low": low, "high": high, "p": one.found.permutation_p}
            numbers["p_holm"] = one.holm
            row |= {"patients": one.found.patients, "wins": one.found.wins, "losses": one.found.losses}
        cells = {name: "" if value is None or math.isnan(value) else round(value, 6) for name, value in numbers.items()}
        out.append({**row, "seeds": len(one.seeds), **cells})
    return out


def differences_text(table: TablePlan, found: Sequence[Result]) -> dict[str, TableText]:
    """Region to columns and lines: the difference with its interval, and its p after Holm's correction."""
    every = differences(table, found)
    out: dict[str, TableText] = {}
    for region in dict.fromkeys(one.region for one in every):
        lines: dict[str, list[str]] = {}
        for one in (one for one in every if one.region == region):
            line = lines.setdefault(one.row, [one.row, one.reference])
            shown = "n/a"
            if one.found is not None and not math.isnan(one.found.difference):
                low, high = one.found.interval or (math.nan, math.nan)
                shown = f"{one.found.difference:+.3f}" + (f" [{low:+.3f}, {high:+.3f}]" if one.found.interval else "")
            line += [shown, "" if one.holm is None else f"{one.holm:.2g}"]
        for result in found:
            lines.setdefault(result.cell.label, [result.cell.label]).append(result.state)
        columns = [part for metric in table.metrics for part in (f"{metric}, difference", "p (Holm)")]
        out[region.upper()] = ["", "less", *columns, "state"], list(lines.values())
    return out


class Reached(NamedTuple):
    """A point of a line: the number, the mean over cases, and the standard deviation of the seeds (0 of one seed)."""

    at: float
    mean: float
    sd: float
    seeds: int


def reached(table: TablePlan, found: Sequence[Result]) -> dict[str, dict[str, list[Reached]]]:
    """Region to series to its points by the number, of the first metric; rows without scores have none."""
    out: dict[str, dict[str, list[Reached]]] = {}
    metric = table.metrics[0]
    for one in found:
        for region in one.regions:
            mean = one.means.get((region, metric))
            if one.cell.series is None or mean is None or math.isnan(mean.value):
                continue
            name, at = one.cell.series
            point = Reached(at, mean.value, one.sds.get((region, metric), 0.0), len(one.finished))
            out.setdefault(region, {}).setdefault(name, []).append(point)
    return {region: {name: sorted(points) for name, points in lines.items()} for region, lines in out.items()}


def reached_text(table: TablePlan, found: Sequence[Result]) -> dict[str, TableText]:
    """Region to a line for each series and a column for each number: mean, and the seeds' standard deviation."""
    every = reached(table, found)
    numbers = sorted({point.at for series in every.values() for points in series.values() for point in points})
    out: dict[str, TableText] = {}
    for region, series in every.items():
        body = []
        for name, points in series.items():
            said = {
                point.at: f"{point.mean:.3f}" + (f" (SD {point.sd:.3f})" if point.seeds > 1 else "") for point in points
            }
            body.append([name, *(said.get(number, "") for number in numbers)])
        out[region.upper()] = [table.metrics[0], *(f"{table.against} {number:g}" for number in numbers)], body
    return out


def reached_rows(table: TablePlan, found: Sequence[Result]) -> list[dict[str, object]]:
    """Of the table's own file."""
    return [
        {"value": table.metrics[0], "row": name, "at": point.at, "region": region, **point._asdict()}
        for region, series in reached(table, found).items()
        for name, points in series.items()
        for point in points
    ]
