"""What an evaluation found: metrics_per_case.csv and summary.json (equal inputs, equal bytes), and the screen."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from segan_pl.data.case import Case
from segan_pl.data.case_pool import grouped
from segan_pl.data.outputs import Kind, Output
from segan_pl.evaluation.pairs import Evaluation, Outcome
from segan_pl.evaluation.statistics.paired import LEAST
from segan_pl.evaluation.statistics.run_tables import PER_CASE
from segan_pl.evaluation.statistics.summaries import (
    LEVEL,
    RESAMPLES,
    UNKNOWN,
    Scored,
    Summary,
    nested,
    strata_of,
    summarise_cases,
)
from segan_pl.evaluation.tables import case_rows
from segan_pl.files import csv_text

SUMMARY = "summary.json"
FORMAT = 1
KINDS = {
    PER_CASE: Kind("segan_pl evaluate", "case,patient,grade,institution,[^\n]*region,status,tp,fp,fn,tn,"),
    SUMMARY: Kind("segan_pl evaluate", r'\{\s*"format": \d+,\s*"reference": "'),
}
EMPTIES = ("neither", "both", "reference", "prediction")


@dataclass(frozen=True)
class EvaluationReport:
    """What became of the cases.

    Attributes:
        evaluation: What they were scored with.
        pairs: By name.
        outcomes: Case to outcome.
        strata: Columns that the summary is also given by.
        origin: What outputs state of the inputs, e.g. {"reference": "..."}.
        extra: Files next to the predictions that belong to no reference.
        seed: Of the bootstrap.
        about: Notes on the predictions as a whole.
        parts: "train" and "val" to the names of the cases that trained the network or chose it, as predict.json says.
    """

    evaluation: Evaluation
    pairs: tuple[Case, ...]
    outcomes: Mapping[str, Outcome]
    strata: tuple[str, ...] = ()
    origin: Mapping[str, Any] | None = None
    extra: tuple[str, ...] = ()
    seed: int = 0
    about: tuple[str, ...] = ()
    parts: Mapping[str, list[str]] | None = None

    @property
    def missing(self) -> list[str]:
        """Cases without a prediction; in the table as failures."""
        return [name for name, outcome in self.outcomes.items() if outcome.status == "missing"]

    @property
    def refusals(self) -> dict[str, str]:
        """Case to the line that says why it has no scores."""
        found = {name: outcome.status for name, outcome in self.outcomes.items()}
        return {name: s.removeprefix("refused: ") for name, s in found.items() if s.startswith("refused")}

    @property
    def columns(self) -> list[tuple[str, str]]:
        """Every (region, metric)."""
        return [(region, metric.name) for region in self.evaluation.regions for metric in self.evaluation.metrics]

    @cached_property
    def scored(self) -> tuple[Scored, ...]:
        """The cases with scores, missing predictions included."""
        found = []
        for case in self.pairs:
            if scores := self.outcomes[case.name].scores:
                values = {(score.region, name): value for score in scores for name, value in score.values.items()}
                strata = {name: case.column(name) or UNKNOWN for name in self.strata}
                found.append(Scored(case.name, case.patient or case.name, strata, values))
        return tuple(found)

    @cached_property
    def overall(self) -> Summary:
        """Statistics over all cases with scores."""
        return summarise_cases(self.scored, self.columns, seed=self.seed)

    def counts_line(self) -> str:
        """The line that ends the command."""
        lost = len(self.missing) + len(self.refusals)
        return f"{len(self.pairs)} given, {len(self.pairs) - lost} used, {lost} refused"

    def empties(self) -> dict[str, dict[str, int]]:
        """Region to how many scored cases have which mask empty; missing predictions are not among them."""
        found: dict[str, dict[str, int]] = {}
        for region in self.evaluation.regions:
            scores = [s for o in self.outcomes.values() if o.status == "scored" for s in o.scores if s.region == region]
            number = Counter[str](score.counts.empty for score in scores)
            found[region] = {empty: number[empty] for empty in EMPTIES}
        return found

    def notes(self) -> list[str]:
        """What a reader must know."""
        read = grouped((case, note) for case, outcome in self.outcomes.items() for note in outcome.notes)
        failed = [f"{len(self.missing)} predictions are missing and count as failures: {', '.join(self.missing)}"]
        extra = [f"{len(self.extra)} files next to the predictions belong to no reference: {', '.join(self.extra)}"]
        unknown = sum(not case.patient for case in self.pairs)
        alone = [f"no table says the patient of {unknown} cases; each counts as a patient of its own"]
        notes = [*self.about, *read, *(failed if self.missing else []), *(extra if self.extra else [])]
        return [*notes, *(alone if unknown else [])]

    def rows(self) -> list[dict[str, object]]:
        """metrics_per_case.csv: one row for each case and region."""
        metrics, policy = self.evaluation.metrics, self.evaluation.policy
        rows = []
        for case in self.pairs:
            outcome = self.outcomes[case.name]
            rows += case_rows(case, outcome.scores, self.evaluation.regions, status=outcome.status)
        return [row.row(metrics, policy) for row in rows]

    def as_dict(self) -> dict[str, Any]:
        """summary.json; every number is finite, null is not available."""
        by_stratum = {
            column: {
                value: {
                    "cases": len(held),
                    "regions": nested(summarise_cases(held, self.columns, seed=self.seed)),
                }
                for value, held in strata_of(self.scored, column).items()
            }
            for column in self.strata
        }
        return {
            "format": FORMAT,
            **(self.origin or {}),
            "regions": list(self.evaluation.regions),
            "policy": self.evaluation.policy.as_dict(),
            "empty_masks": self.empties(),
            "metrics": {metric.name: metric.described() for metric in self.evaluation.metrics},
            "bootstrap": {
                "over": "patients",
                "interval": "expanded percentiles (Hesterberg 2015)",
                **{"level": LEVEL, "resamples": RESAMPLES, "seed": self.seed, "least_patients": LEAST},
            },
            "parts": self.parts,
            "given": len(self.pairs),
            "used": len(self.pairs) - len(self.missing) - len(self.refusals),
            "refused": len(self.missing) + len(self.refusals),
            "missing": self.missing,
            "refusals": self.refusals,
            "extra_predictions": list(self.extra),
            "notes": self.notes(),
            "overall": {"cases": len(self.scored), "regions": nested(self.overall)},
            "strata": by_stratum,
        }


def report_outputs(
    folder: Path, given: str, inputs: tuple[Path, ...] = (), instead: str | None = None
) -> tuple[Output, Output]:
    """Where the table and the summary of an evaluation go; the arguments are those of `Output`."""
    table, summary = (Output(folder / name, kind, given, inputs, instead=instead) for name, kind in KINDS.items())
    return table, summary


def write_report(report: EvaluationReport, outputs: tuple[Output, Output]) -> list[Path]:
    """The table and the summary, each replaced at once; their paths."""
    table, summary = outputs
    text = json.dumps(report.as_dict(), indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    return [table.write(csv_text(report.rows())), summary.write(text)]


SHOWN_LESS = ("iou", "specificity", "reference_ml", "prediction_ml")  # in the files only
PLAIN_WIDTH = 120  # characters of a line where there is no terminal


def print_report(report: EvaluationReport, console: Console | None = None) -> None:
    """The means by region, what they mean, the notes and the refusals."""
    console = console or Console(width=None if Console().is_terminal else PLAIN_WIDTH)
    table = Table(box=box.SIMPLE if console.is_terminal else box.ASCII)
    for number, name in enumerate(("region", "metric", "mean", "95 % interval", "median", "sd", "n", "n/a")):
        table.add_column(name, justify="left" if number < 2 else "right", overflow="fold")
    for (region, metric), found in report.overall.items():
        if metric in SHOWN_LESS:
            continue
        interval = "n/a" if math.isnan(found.low) else f"{found.low:.4g} to {found.high:.4g}"
        mean, median, sd = ("n/a" if math.isnan(x) else f"{x:.4g}" for x in (found.mean, found.median, found.sd))
        numbers = (mean, interval, median, sd, str(found.n), str(len(report.scored) - found.n))
        table.add_row(*map(Text, (region, metric, *numbers)))
    console.print(table)
    for line in [*legend(report), *(f"note: {note}" for note in report.notes())]:
        console.print(Text(line))
    for why in report.refusals.values():
        console.print(Text(f"refused: {why}"))


def legend(report: EvaluationReport) -> list[str]:
    """Policy with its counts, definitions, interval."""
    empties = "; ".join(
        f"{region}: " + ", ".join(f"{number} {empty}" for empty, number in found.items() if empty != "neither")
        for region, found in report.empties().items()
    )
    # one line for the metrics that share a definition and a meaning
    said: dict[tuple[str, str], list[str]] = {}
    for metric in report.evaluation.metrics:
        if metric.meaning:
            said.setdefault((metric.definition, metric.meaning), []).append(metric.name)
    meanings = [
        f"{', '.join(names)}{f' ({definition})' if definition else ''}: {meaning}"
        for (definition, meaning), names in said.items()
    ]
    return [
        f"empty masks, policy {report.evaluation.policy.describe()}",
        f"which masks are empty: {empties}",
        *meanings,
        f"mean over cases; interval: bootstrap over patients, {RESAMPLES} resamples, seed {report.seed}, from {LEAST} "
        f"patients on",
    ]
