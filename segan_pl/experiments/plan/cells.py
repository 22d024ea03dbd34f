"""What the runs of a cell have shown: means over cases, seeds taken together, next to the published numbers."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segan_pl.evaluation.saved_files import metrics_rows
from segan_pl.evaluation.statistics.comparison import Score, patient_means
from segan_pl.evaluation.statistics.paired import LEAST, bootstrap_interval
from segan_pl.evaluation.statistics.scored_runs import ScoredRun, read_run
from segan_pl.evaluation.statistics.seeds import Entry, Spread, known_patients
from segan_pl.experiments.plan.cell import Cell
from segan_pl.experiments.plan.plan import TablePlan
from segan_pl.experiments.runs import Run, is_finished, run_folder, run_state

LAST_EPOCHS = 3  # whose mean tells whether a run fell back from its best


class Mean(NamedTuple):
    """A metric over the scored cases.

    Attributes:
        value: Mean over cases, as in the papers; NaN where no case has a value.
        median: The same.
        interval: 95 % bootstrap interval of the mean over patients; None with fewer than `LEAST` patients.
        cases: That have a value.
        patients: That they belong to.
    """

    value: float
    median: float
    interval: tuple[float, float] | None
    cases: int
    patients: int


class Learning(NamedTuple):
    """How the runs of a cell learned, each number a mean over them.

    Attributes:
        best: The highest value of the watched metric.
        epoch: At which it was.
        last: Mean of the last three epochs.
        minutes: In epochs.
    """

    best: float
    epoch: float
    last: float
    minutes: float


class Cost(NamedTuple):
    """What the runs of a cell took; NaN where nothing says it.

    Attributes:
        minutes: Of the trainings, the mean over them.
        seconds: Of a volume's prediction, the mean over the volumes.
    """

    minutes: float
    seconds: float


@dataclass(frozen=True)
class Result:
    """A cell and what is known of it.

    Attributes:
        cell: Which.
        states: Run to "finished", "failed", "skipped" or "not run".
        reasons: Run to why it failed or was skipped.
        scores: Run to its scores.
        regions: That the cell shows, in order.
        means: (region, metric) to the mean over cases, each averaged over the runs; empty where none has finished.
        spread: Of the finished seeds' mean Dice in the first region; None unless there are several.
        sds: (region, metric) to the standard deviation of the finished seeds' means, where the table asks for it.
        reference: Run to its scores, of the reference of a row of differences.
        cost: Where the table asks for it.
        learning: Where the table asks for it and a run has finished.
    """

    cell: Cell
    states: Mapping[str, str] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, ScoredRun] = field(default_factory=dict)
    regions: tuple[str, ...] = ()
    means: Mapping[tuple[str, str], Mean] = field(default_factory=dict)
    spread: Spread | None = None
    learning: Learning | None = None
    sds: Mapping[tuple[str, str], float] = field(default_factory=dict)
    reference: Mapping[str, ScoredRun] = field(default_factory=dict)
    cost: Cost | None = None

    @property
    def finished(self) -> tuple[int, ...]:
        """Seeds of which every run has scores."""
        return tuple(
            seed for seed, names in self.cell.runs.items() if names and all(one in self.scores for one in names)
        )

    @property
    def state(self) -> str:
        """In a few words: "finished", "1 of 3 seeds", "2 of 5 runs", "failed", "skipped", "not run"."""
        if not self.states:
            return ""
        if len(self.scores) == len(self.states):
            return "finished"
        if self.scores:
            word = "seeds" if len(self.states) == len(self.cell.runs) else "runs"
            return f"{len(self.scores)} of {len(self.states)} {word}"
        return next((word for word in ("failed", "skipped") if word in self.states.values()), "not run")

    def of_seeds(self, seeds: Sequence[int], region: str) -> list[Score]:
        """Dice of each case in a region, the mean over these seeds."""
        runs = [self.scores[name] for seed in seeds for name in self.cell.runs[seed]]
        return case_scores(runs, "dice", region)


def results(directory: Path, cells: Sequence[Cell], tables: Mapping[str, TablePlan]) -> list[Result]:
    """Read what has finished of a study's folder.

    Raises:
        CaseError: A table of scores is damaged.
    """
    read: dict[str, ScoredRun] = {}
    found = [_read(directory, cell, tables[cell.table].form, read) for cell in cells]
    return [_summarised(one, tables[one.cell.table], directory, list(read.values())) for one in found]


def _read(directory: Path, cell: Cell, form: str, read: dict[str, ScoredRun]) -> Result:
    """States and scores; a run that several cells show is read once, and curves need no scores."""
    states: dict[str, str] = {}
    reasons: dict[str, str] = {}
    scores: dict[str, ScoredRun] = {}
    for name in (one for names in cell.runs.values() for one in names):
        state = run_state(directory, name) or {}
        states[name] = str(state.get("state", "not run"))
        if states[name] != "finished":
            reasons |= {name: str(state.get("error") or "")} if state else {}
            continue
        if name not in read and form != "curves":
            read[name] = read_run(run_folder(directory, name))
        if form != "curves":
            scores[name] = read[name]
    reference = {
        name: read.get(name) or read.setdefault(name, read_run(run_folder(directory, name)))
        for names in cell.reference.values()
        for name in names
        if is_finished(directory, name)
    }
    return Result(cell, states, reasons, scores, reference=reference)


def _summarised(result: Result, table: TablePlan, directory: Path, read: Sequence[ScoredRun]) -> Result:
    held = list(dict.fromkeys(region for run in result.scores.values() for region in run.regions))
    everywhere = all("wt" in run.regions for run in read)
    if table.regions == "all":
        regions = tuple(held)
    else:  # without scores the table has its regions all the same
        regions = table.regions or (("wt",) if everywhere or not held else (held[0],))
    runs = list(result.scores.values())
    means = {
        (region, metric): mean_of(case_scores(runs, metric, region))
        for region in regions
        for metric in table.metrics
        if any(region in run.regions for run in runs) and all(metric in run.metrics for run in runs)
    }
    learning = None
    if table.learning and table.form != "curves":
        fits = [name for names in result.cell.fits.values() for name in names]
        # where the split has a test part, the states are of the tests
        learning = _learning(directory, [one for one in fits if is_finished(directory, one)], table.learning)
    sds: dict[tuple[str, str], float] = {}
    for region, metric in means if "sd" in table.statistics or table.form == "against" else ():
        if found := _spread(result, region, metric):
            sds[region, metric] = found.sd
    return replace(
        result,
        regions=regions,
        means=means,
        spread=_spread(result, regions[0]) if regions else None,
        learning=learning,
        sds=sds,
        cost=_cost(directory, result.cell.needed) if table.cost and runs else None,
    )


def case_scores(runs: Sequence[ScoredRun], metric: str, region: str) -> list[Score]:
    """One score for each case: seeds averaged, folds pooled; NaN where one of them has no value."""
    joined = Entry("", tuple(runs))
    return joined.scores(metric, region, joined.cases, known_patients([joined]))


def mean_of(scores: Sequence[Score]) -> Mean:
    """The mean over the cases that have a value, with its interval over patients."""
    there = [score for score in scores if not math.isnan(score.value)]
    patients = patient_means(there)
    interval = bootstrap_interval(np.array(list(patients.values()))) if len(patients) >= LEAST else None
    values = [score.value for score in there]
    value = math.fsum(values) / len(values) if values else math.nan
    return Mean(value, float(np.median(values)) if values else math.nan, interval, len(values), len(patients))


def _spread(result: Result, region: str, metric: str = "dice") -> Spread | None:
    runs = list(result.scores.values())
    if len(runs) < 2 or any(metric not in run.metrics for run in runs):
        return None
    joined = Entry("", tuple(runs))
    scores = case_scores(runs, metric, region)
    there = [score.case for score in scores if not math.isnan(score.value)]
    return joined.spread(metric, region, there, known_patients([joined]))


def _cost(directory: Path, needed: Sequence[Run]) -> Cost:
    """By the epochs of the fits, and the lists of what was predicted, in which kept registrations count."""
    fits, seconds = list[float](), list[float]()
    for run in needed:
        if run.arguments[0] == "fit" and is_finished(directory, run.name):
            epochs = metrics_rows(run_folder(directory, run.name) / "metrics.csv")
            fits.append(sum(float(row["seconds"]) for row in epochs if row.get("seconds")))
        file = directory / "masks" / run.name / "predictions.csv"
        if run.arguments[0] in ("predict", "atlas") and file.is_file():
            with file.open(newline="", encoding="utf-8") as lines:
                seconds += [float(row["seconds"]) for row in csv.DictReader(lines) if row.get("seconds")]
    return Cost(_mean(fits) / 60, _mean(seconds))


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


# -- by epoch ----------------------------------------------------------------------------------------------------------


def _learning(directory: Path, names: Sequence[str], metric: str) -> Learning | None:
    found = []
    for name in names:
        rows = metrics_rows(run_folder(directory, name) / "metrics.csv")
        values = [(float(row[metric]), int(row["epoch"])) for row in rows if row.get(metric)]
        if values:
            best = max(values, key=lambda pair: pair[0])
            last = [value for value, _ in values[-LAST_EPOCHS:]]
            minutes = sum(float(row["seconds"]) for row in rows if row.get("seconds")) / 60
            found.append(Learning(best[0], best[1], math.fsum(last) / len(last), minutes))
    return Learning(*(math.fsum(column) / len(found) for column in zip(*found, strict=True))) if found else None


class Point(NamedTuple):
    """One epoch over several runs: its number, mean, standard deviation (n - 1; 0 of one run) and how many runs."""

    epoch: int
    mean: float
    sd: float
    runs: int


def curves(directory: Path, names: Sequence[str], prefix: str) -> dict[str, list[Point]]:
    """Logged value to its curve: for each epoch that every run with values has reached, the mean over the runs."""
    logged: dict[str, list[dict[int, float]]] = {}
    for name in names:
        rows = metrics_rows(run_folder(directory, name) / "metrics.csv")
        for key in dict.fromkeys(key for row in rows for key in row if key.startswith(prefix)):
            logged.setdefault(key, []).append({int(row["epoch"]): float(row[key]) for row in rows if row.get(key)})
    found = {}
    for key, runs in logged.items():
        epochs = sorted(set.intersection(*(set(run) for run in runs)))
        values = [(epoch, [run[epoch] for run in runs]) for epoch in epochs]
        found[key] = [
            Point(epoch, math.fsum(one) / len(one), float(np.std(one, ddof=1)) if len(one) > 1 else 0.0, len(one))
            for epoch, one in values
        ]
    return found
