"""An evaluation on the screen."""

from __future__ import annotations

import math

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from segan_pl.evaluation.evaluation_report import EvaluationReport
from segan_pl.evaluation.lesions import LesionRules
from segan_pl.evaluation.statistics import LEAST
from segan_pl.evaluation.summaries import RESAMPLES, Statistics
from segan_pl.evaluation.surface import DEFINITIONS

SHOWN_LESS = ("iou", "specificity", "reference_ml", "prediction_ml")  # in the files only
PLAIN_WIDTH = 120  # characters of a line where there is no terminal


def print_report(report: EvaluationReport, console: Console | None = None) -> None:
    """The means by region, what they mean, the notes and the refusals."""
    console = console or Console(width=None if Console().is_terminal else PLAIN_WIDTH)
    table = Table(box=box.SIMPLE if console.is_terminal else box.ASCII)
    for number, name in enumerate(("region", "metric", "mean", "95 % interval", "median", "sd", "n", "n/a")):
        table.add_column(name, justify="left" if number < 2 else "right", overflow="fold")
    for (region, metric), found in report.overall.items():
        if metric not in SHOWN_LESS:
            table.add_row(*map(Text, (region, metric, *_shown(found, len(report.scored)))))
    console.print(table)
    for line in [*legend(report), *(f"note: {note}" for note in report.notes())]:
        console.print(Text(line))
    for why in report.refusals.values():
        console.print(Text(f"refused: {why}"))


def legend(report: EvaluationReport) -> list[str]:
    """Policy with its counts, definitions, interval."""
    measures = report.evaluation.measures
    empties = "; ".join(
        f"{region}: " + ", ".join(f"{number} {empty}" for empty, number in found.items() if empty != "neither")
        for region, found in report.empties().items()
    )
    lesions = measures.lesions
    return [
        f"empty masks, policy {measures.policy.describe()}",
        f"which masks are empty: {empties}",
        f"hd95_mm ({measures.hd95}): {DEFINITIONS[measures.hd95]}; surface_dice at {measures.tolerance_mm:g} mm",
        *([_lesion_line(lesions)] if lesions else []),
        f"mean over cases; interval: bootstrap over patients, {RESAMPLES} resamples, seed {report.seed}, from {LEAST} "
        f"patients on",
    ]


def _lesion_line(rules: LesionRules) -> str:
    return (
        f"lesion_*: BraTS 2023, {rules.name}: dilated {rules.dilations} times, up to {rules.least_mm3:g} mm3 left out, "
        f"HD95 by surface elements (deepmind), 374 mm for a lesion missed or false"
    )


def _shown(found: Statistics, cases: int) -> list[str]:
    interval = "n/a" if math.isnan(found.low) else f"{found.low:.4g} to {found.high:.4g}"
    numbers = ["n/a" if math.isnan(value) else f"{value:.4g}" for value in (found.mean, found.median, found.sd)]
    return [numbers[0], interval, *numbers[1:], str(found.n), str(cases - found.n)]
