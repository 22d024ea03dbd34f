"""What a reader of a report wants first: each run's scores, cases, epochs and time, in plain names."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from typing import NamedTuple

from segan_pl.data.case import CaseError
from segan_pl.errors import UsageError
from segan_pl.evaluation.statistics.seeds import Entry
from segan_pl.evaluation.statistics.study import study
from segan_pl.evaluation.statistics.study_tables import legend, sheets
from segan_pl.evaluation.statistics.summaries import Summary
from segan_pl.report.charts import Chart, boxes
from segan_pl.report.run_files import RunFiles
from segan_pl.report.score_rows import interval, number, scores_of

PLAIN = {
    "dice": "Dice",
    "iou": "IoU (Jaccard)",
    "precision": "Precision",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "reference_ml": "True volume, ml",
    "prediction_ml": "Predicted volume, ml",
    "volume_difference_ml": "Volume difference, ml",
    "hd95_mm": "Hausdorff distance (95 %), mm",
    "mean_surface_distance_mm": "Mean surface distance, mm",
    "surface_dice": "Surface Dice",
    "surface_dice_area": "Surface Dice by area",
    "lesion_dice": "Lesion-wise Dice",
    "lesion_hd95_mm": "Lesion-wise Hausdorff distance (95 %), mm",
    "lesions_found": "Lesions found",
    "lesions_missed": "Lesions missed",
    "lesions_false": "False lesions",
    "ece": "Calibration error (ECE)",
    "brier": "Brier score",
}
REGIONS = {
    "wt": "Whole tumour (WT)",
    "tc": "Tumour core (TC)",
    "et": "Enhancing tumour (ET)",
    "csf": "Cerebrospinal fluid (CSF)",
    "gm": "Grey matter (GM)",
    "wm": "White matter (WM)",
}
ARROWS = {"higher": " ↑", "lower": " ↓", "smaller": " ↓"}
COMPARED = ("dice", "hd95_mm")
"""Metrics whose paired differences are tested; each more makes Holm's correction stricter for all."""
NOT_SHOWN = ("run", "against", "p Wilc.", "r", "dz")
"""Columns of `segan_pl compare` that a page leaves to it."""
CARDS = 4
"""So many runs have a card each; more are rows of a table."""
KINDS = {"validation": "validation", "test": "test", "evaluation": "evaluated", "file": "scored"}


class Card(NamedTuple):
    """The first lines of a report on one run.

    Attributes:
        name: Of the run.
        metric: Plain name of what the scores are of; empty without scores.
        scores: Region, mean and its interval, the best region first.
        facts: Names and values: cases, epochs, time.
    """

    name: str
    metric: str
    scores: list[tuple[str, str, str]]
    facts: list[tuple[str, str]]


def card(run: RunFiles, statistics: Summary | None) -> Card:
    """Dice of each region, or what the table has first where it has no Dice; n/a comes last."""
    epochs = len({row["epoch"] for row in run.epochs})
    facts = [("epochs", str(epochs) if epochs else ""), ("time", duration(run))]
    if not statistics:
        return Card(run.name, "", [], facts)
    scored = scores_of(run)
    metric = "dice" if "dice" in scored.metrics else scored.metrics[0]
    found = [(region, one) for (region, name), one in statistics.items() if name == metric]
    lower = scored.known(metric).higher_is_better is False
    found.sort(key=lambda pair: math.inf if math.isnan(pair[1].mean) else pair[1].mean * (1 if lower else -1))
    scores = [(region_name(region), number(one.mean), interval(one.low, one.high, number)) for region, one in found]
    # Of a table that was given as a file, nothing says whose cases it holds. And `test` scores the validation cases
    # where a split has no test part.
    kind = "validation" if scored.table.reason.startswith("validation") else KINDS[scored.table.kind]
    cases = f"{len(scored.cases)} {kind}"
    return Card(run.name, PLAIN.get(metric, metric), scores, [("cases", cases), *facts])


def duration(run: RunFiles) -> str:
    """Of the epochs together, in words; empty where metrics.csv does not say."""
    seconds = sum(float(row["seconds"]) for row in run.epochs if row.get("seconds"))
    if not seconds:
        return ""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def region_name(region: str) -> str:
    """In words, with the letters that tables use."""
    return REGIONS.get(region, region.upper())


def matrix(runs: Sequence[RunFiles], statistics: dict[str, Summary], metrics: Sequence[str]) -> tuple[list, list]:
    """Columns and rows of regions by metrics: a row for each run and region, a cell of a mean and its interval."""
    columns = ["region", *(["run"] if len(runs) > 1 else [])]
    for metric in metrics:
        better = next(scores_of(run).known(metric).better for run in runs if metric in scores_of(run).metrics)
        columns.append(PLAIN.get(metric, metric) + ARROWS.get(better, ""))
    rows = []
    for region in dict.fromkeys(region for found in statistics.values() for region, _ in found):
        for run in runs:
            found = statistics[run.name]
            if not any(where == region for where, _ in found):
                continue
            cells = [found.get((region, metric)) for metric in metrics]
            texts = [
                ("", "") if one is None else (number(one.mean), interval(one.low, one.high, number)) for one in cells
            ]
            rows.append([region_name(region), *([run.name] if len(runs) > 1 else []), *texts])
    return columns, rows


class Paired(NamedTuple):
    """Two runs compared over the cases that both have scored, by `segan_pl compare`'s own functions.

    Attributes:
        columns: Of the table.
        rows: One for each metric and region.
        caption: Which run is compared with which.
        notes: What was left out, and what the numbers do not say.
        legend: What the columns are.
        chart: Each case's difference of Dice; None without Dice.
    """

    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    caption: str = ""
    notes: tuple[str, ...] = ()
    legend: tuple[str, ...] = ()
    chart: Chart | None = None


def paired(runs: Sequence[RunFiles]) -> Paired:
    """Empty unless there are two runs with scores; where they cannot be compared, a note says why."""
    if len(runs) != 2:
        more = ("More than two runs are compared by `segan_pl compare`, with Holm's correction over all pairs.",)
        return Paired(notes=more if len(runs) > 2 else ())
    first, second = (scores_of(run) for run in runs)
    metrics = [name for name in COMPARED if name in first.metrics and name in second.metrics]
    if not metrics:
        return Paired(notes=(f"Not compared: the runs have none of {', '.join(COMPARED)} in common.",))
    try:
        found = study([Entry(run.name, (scores_of(run),)) for run in runs], metrics=metrics)
    except (CaseError, UsageError) as error:
        return Paired(notes=(f"Not compared: {error}",))
    sheet = sheets(found)[-1]
    kept = [place for place, name in enumerate(sheet.columns) if name not in NOT_SHOWN]
    return Paired(
        tuple(sheet.columns[place] for place in kept),
        tuple(tuple(row[place] for place in kept) for row in sheet.rows),
        f"{runs[1].name} against {runs[0].name}: paired differences, second run minus first; p after Holm's correction "
        f"over all {found.tested} tests of this table. The same: {_command(runs, metrics)}",
        tuple(note.shown(6) for note in found.notes),
        tuple(legend(found, NOT_SHOWN)),
        _differences(runs) if "dice" in metrics else None,
    )


def _command(runs: Sequence[RunFiles], metrics: Sequence[str]) -> str:
    """What prints the same numbers; without --metric it prints Dice alone, and corrects for fewer tests."""
    given = (f"{run.name}={run.folder}" for run in runs)
    return shlex.join(["segan_pl", "compare", *given, "--metric", ",".join(metrics)])


def _differences(runs: Sequence[RunFiles]) -> Chart | None:
    """Second run minus first, each common case a dot."""
    first, second = (scores_of(run).rows for run in runs)
    groups: dict[str, dict[str, list[float]]] = {}
    for region, case in (key for key in first if key in second):
        value = second[region, case].values["dice"] - first[region, case].values["dice"]
        groups.setdefault(region.upper(), {"difference": []})["difference"].append(value)
    values = [abs(v) for group in groups.values() for v in group["difference"] if not math.isnan(v)]
    if not values:
        return None
    most = max(0.1, *values)
    svg, wide = boxes(groups, ylabel="difference of Dice", limits=(-most, most))
    caption = f"Dice of {runs[1].name} minus Dice of {runs[0].name}, every case; above 0 the former is better"
    return Chart("paired_dice", svg, caption, wide)
