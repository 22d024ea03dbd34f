"""The tables and figures of a plan out of its results: rows of tables.csv, and columns and lines to read."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from segan_pl.evaluation.statistics.seeds import Entry, known_patients
from segan_pl.experiments.plan.cells import Mean, Point, Result, case_scores, curves
from segan_pl.experiments.plan.comparisons import TableText, differences_text, reached_text
from segan_pl.experiments.plan.drawings import heat_map
from segan_pl.experiments.plan.plan import FACTS, TablePlan
from segan_pl.report.published import Key

WORDS = {
    "dice": "Dice",
    "hd95_mm": "HD95 (mm)",
    "mean_surface_distance_mm": "mean surface distance (mm)",
    "volume_difference_ml": "volume difference (ml)",
}


# -- rows of CSV files -------------------------------------------------------------------------------------------------


def rows(found: Sequence[Result], tables: Mapping[str, TablePlan]) -> list[dict[str, object]]:
    """Numbers to six decimals, as in the score tables; one row for each cell, region and metric, empty without one."""
    sets = list(dict.fromkeys((key.dataset, key.statistic == "median") for one in found for key in one.cell.published))
    return [
        _row(one, region, metric, sets)
        for one in found
        if tables[one.cell.table].form != "curves"
        for region in one.regions or ("",)
        for metric in tables[one.cell.table].metrics
    ]


def _row(result: Result, region: str, metric: str, sets: Sequence[tuple[str, bool]]) -> dict[str, object]:
    cell, mean = result.cell, result.means.get((region, metric), Mean(math.nan, math.nan, None, 0, 0))
    low, high = (round(end, 6) for end in mean.interval) if mean.interval else ("", "")
    spread = result.spread if metric == "dice" and region in result.regions[:1] else None
    sd = result.sds.get((region, metric), spread.sd if spread else math.nan)
    printed: dict[str, object] = {}
    for dataset, median in sets:
        name = re.sub(r"\W+", "_", dataset.lower()) + ("_median" if median else "")
        printed[name] = _published(result, dataset, region, metric, median=median)
    return {
        **{"table": cell.table, "row": cell.label, **{fact: cell.facts.get(fact, "") for fact in FACTS}},
        **{"region": region, "metric": metric, "mean": _rounded(mean.value), "low": low, "high": high},
        **{"median": _rounded(mean.median), "cases": mean.cases, "patients": mean.patients},
        **{"seeds": len(result.finished), "asked": len(cell.runs)},
        **{"sd_of_seeds": _rounded(sd), "state": result.state, **printed},
        "runs": " ".join(name for names in cell.runs.values() for name in names),
    }


def _rounded(value: float) -> float | str:
    return "" if math.isnan(value) else round(value, 6)


def _published(result: Result, dataset: str, region: str, metric: str, *, median: bool = False) -> float | str:
    """A paper's number; "" where it has none."""
    wanted = ("median",) if median else ("mean", "one", "not")
    keys = (Key(dataset, region, metric, statistic) for statistic in wanted)
    return next((result.cell.published[key] for key in keys if key in result.cell.published), "")


def case_rows(found: Sequence[Result], metrics: Sequence[str]) -> list[dict[str, object]]:
    """One row for each case and region, from the run that held it out; empty where a metric is not available."""
    out: list[dict[str, object]] = []
    for name, run in {name: run for one in found for name, run in one.scores.items()}.items():
        patients = known_patients([Entry(name, (run,))])
        for (region, case), row in run.rows.items():
            values = {metric: _rounded(row.values.get(metric, math.nan)) for metric in metrics}
            out.append({"run": name, "case": case, "patient": patients.get(case, case), "region": region, **values})
    return out


# -- columns and lines to read -----------------------------------------------------------------------------------------


def table_texts(table: TablePlan, found: Sequence[Result], directory: Path) -> dict[str, TableText]:
    """Region to columns and lines of a table's results; "" where there is but one."""
    if table.form == "heat_map":
        trained, tested = (list(dict.fromkeys(one.cell.facts[fact] for one in found)) for fact in FACTS[1:3])
        sets = _data_sets(found)
        fields: dict[tuple[str, str], str] = {}
        for one in found:
            mean, region = one.means.get((_first(one), "dice")), _first(one)
            part = f", {one.state}" if mean and one.state != "finished" else ""
            paper = [_published(one, name, region, "dice") for name in sets]
            printed = f" ({' / '.join(f'{value:.2f}' for value in paper)})" if paper and "" not in paper else ""
            place = one.cell.facts["trained_on"], one.cell.facts["tested_on"]
            fields[place] = (mean_text(mean) if mean else one.state) + part + printed
        body = [[f"trained on {own}", *(fields.get((own, other), "") for other in tested)] for own in trained]
        return {"": ([f"Dice (paper: {' / '.join(sets)})" if sets else "Dice", *tested], body)}
    if table.form == "curves":
        body = []
        for key, series in panels(table, found, directory).items():
            for name, points in series.items():
                last = points[-1] if points else Point(0, math.nan, math.nan, 0)
                body.append([name, key, str(last.epoch), f"{last.mean:.3f}", f"{last.sd:.3f}", str(last.runs)])
        return {"": (["", "value", "last epoch", "mean", "SD of the seeds", "runs"], body)}
    if table.form == "differences":
        return differences_text(table, found)
    if table.form == "against":
        return reached_text(table, found)
    regions = list(dict.fromkeys(region for one in found for region in one.regions)) or ["wt"]
    make = _patients_text if table.form == "patients" else _lines_text
    texts = {region: make(table, found, region) for region in regions}
    return {region.upper() if len(texts) > 1 else "": text for region, text in texts.items()}


def _lines_text(table: TablePlan, found: Sequence[Result], region: str) -> TableText:
    shown = [name for name in _data_sets(found) if any(_papers(one, table, name, region) for one in found)]
    learnt = ["best epoch", "there", "last three epochs", "minutes"] if table.learning else []
    spent = ["training, minutes", "seconds for each volume"] if table.cost else []
    columns = ["", *(WORDS.get(metric, metric) for metric in table.metrics), "n", "state", *learnt, *spent]
    body = []
    for one in found:
        first = one.means.get((region, table.metrics[0]))
        state = f"{one.state}, SD of seeds {one.spread.sd:.3f}" if one.spread else one.state
        numbers = [_number(one, table, region, metric) for metric in table.metrics]
        papers = [_papers(one, table, name, region) for name in shown]
        cost = ["" if math.isnan(taken) else f"{taken:.1f}" for taken in one.cost or (math.nan, math.nan)]
        body.append(
            [
                *(one.cell.label, *numbers, str(first.patients) if first else "", state),
                *(*_learnt(one, table), *(cost if table.cost else ()), *papers),
            ]
        )
    return [*columns, *(f"paper, {name}" for name in shown)], body


def _number(result: Result, table: TablePlan, region: str, metric: str) -> str:
    """A mean, with its n where cases lack this metric only (precision of an empty prediction)."""
    if (mean := result.means.get((region, metric))) is None:
        return result.state if result.state != "finished" else "n/a"
    first = result.means.get((region, table.metrics[0]), mean)
    median = f" ({mean.median:.3f})" if "median" in table.statistics and mean.cases else ""
    sd = (
        f" (SD {result.sds[region, metric]:.3f})" if "sd" in table.statistics and (region, metric) in result.sds else ""
    )
    return mean_text(mean) + median + sd + (f", n {mean.patients}" if mean.cases < first.cases and mean.cases else "")


def mean_text(mean: Mean) -> str:
    """E.g. "0.812 [0.774, 0.846]"."""
    if math.isnan(mean.value):
        return "n/a"
    between = f" [{mean.interval[0]:.3f}, {mean.interval[1]:.3f}]" if mean.interval else ""
    return f"{mean.value:.3f}{between}"


def _learnt(result: Result, table: TablePlan) -> list[str]:
    if not table.learning:
        return []
    if (found := result.learning) is None:
        return [""] * 4
    kept = f" ({found.last / found.best:.2f} of it)" if found.best else ""
    return [f"{found.epoch:.4g}", f"{found.best:.3f}", f"{found.last:.3f}{kept}", f"{found.minutes:.1f}"]


def _data_sets(found: Sequence[Result]) -> list[str]:
    return list(dict.fromkeys(key.dataset for one in found for key in one.cell.published))


def _papers(result: Result, table: TablePlan, dataset: str, region: str) -> str:
    """A paper's numbers of a row, one for each metric; "" where it has none of them."""
    numbers = [_printed(_published(result, dataset, region, metric)) for metric in table.metrics]
    if "median" in table.statistics:
        medians = [_printed(_published(result, dataset, region, metric, median=True)) for metric in table.metrics]
        numbers = [f"{one} ({two})" if two else one for one, two in zip(numbers, medians, strict=True)]
    return " / ".join(one or "-" for one in numbers) if any(numbers) else ""


def _printed(value: float | str) -> str:
    """At least three decimals, and four where the paper has them."""
    return "" if isinstance(value, str) else f"{value:.4f}".removesuffix("0")


def _first(result: Result) -> str:
    """The region of a figure; "" where all that the runs have are shown, and none has finished."""
    return next(iter(result.regions), "")


def _patients_text(table: TablePlan, found: Sequence[Result], region: str) -> TableText:
    """A column for each case, seeds averaged, and the mean."""
    metric, sets = table.metrics[0], _data_sets(found)
    scores = [
        {score.case: score.value for score in case_scores(list(one.scores.values()), metric, region)}
        if (region, metric) in one.means
        else {}
        for one in found
    ]
    cases = sorted({case for one in scores for case in one})
    body = [
        [
            *(one.cell.label, *(f"{values[case]:.3f}" if case in values else "" for case in cases)),
            *(_number(one, table, region, metric) if one.cell.names else "", one.state),
            *(_printed(_published(one, name, region, metric)) for name in sets),
        ]
        for one, values in zip(found, scores, strict=True)
    ]
    return [f"{WORDS.get(metric, metric)}", *cases, "mean", "state", *(f"paper, {name}" for name in sets)], body


def panels(table: TablePlan, found: Sequence[Result], directory: Path) -> dict[str, dict[str, list[Point]]]:
    """Logged value to row to its curve, of the runs that have finished."""
    out: dict[str, dict[str, list[Point]]] = {}
    for one in found:
        done = [name for name, state in one.states.items() if state == "finished"]
        for key, points in curves(directory, done, table.learning or "").items():
            out.setdefault(key, {})[one.cell.label] = points
    return out


def matrix(found: Sequence[Result]) -> Figure:
    """Our matrix next to those of the papers."""
    place = {one.cell.label: (one.cell.facts["trained_on"], one.cell.facts["tested_on"]) for one in found}
    means = {one.cell.label: one.means.get((_first(one), "dice")) for one in found}
    ours = {place[label]: mean.value for label, mean in means.items() if mean}
    squares: dict[str, Mapping[tuple[str, str], float]] = {"here": ours}
    for name in _data_sets(found):
        theirs = {place[one.cell.label]: _published(one, name, _first(one), "dice") for one in found}
        squares[f"paper, {name}"] = {key: value for key, value in theirs.items() if isinstance(value, float)}
    names = list(dict.fromkeys(name for pair in place.values() for name in pair))
    return heat_map(squares, names, blank={place[one.cell.label]: one.state for one in found})
