"""What the trials of a cell have shown: means over cases, seeds taken together, beside the published numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segan_pl.evaluation.comparing import Score, patient_means
from segan_pl.evaluation.scored_runs import read_run
from segan_pl.evaluation.seeds import Entry, Spread, known_patients
from segan_pl.evaluation.statistics import LEAST, bootstrap_interval
from segan_pl.experiments.paper_plan import SYSTEMS, Cell
from segan_pl.experiments.trials import run_folder, trial_state
from segan_pl.report.published import published

METRICS = ("dice", "precision", "sensitivity")
DATA_SETS = ("BraTS2015", "BraTS2019")
PAPERS_MODALITIES = "t1+t1ce+t2+flair"


class Mean(NamedTuple):
    """A metric over the scored cases.

    Attributes:
        value: Mean over cases, as in the paper; NaN where no case has a value.
        interval: 95 % bootstrap interval over patients; None with fewer than `LEAST` patients.
        cases: That have a value.
        patients: That they belong to.
    """

    value: float
    interval: tuple[float, float] | None
    cases: int
    patients: int


@dataclass(frozen=True)
class Result:
    """A cell and what is known of it.

    Attributes:
        cell: Which.
        states: Seed to "finished", "failed", "skipped" or "not run".
        reasons: Seed to why it failed or was skipped.
        entries: Seed to the scores of its one run.
        region: That the numbers are of.
        means: Metric to its mean over cases, each averaged over the finished seeds; empty where none is finished.
        spread: Of the finished seeds' mean Dice; None unless there are several.
        published: (data set, metric) to the paper's number.
    """

    cell: Cell
    states: Mapping[int, str]
    reasons: Mapping[int, str] = field(default_factory=dict)
    entries: Mapping[int, Entry] = field(default_factory=dict)
    region: str = "wt"
    means: Mapping[str, Mean] = field(default_factory=dict)
    spread: Spread | None = None
    published: Mapping[tuple[str, str], float] = field(default_factory=dict)

    @property
    def finished(self) -> tuple[int, ...]:
        """Seeds with scores."""
        return tuple(self.entries)

    @property
    def state(self) -> str:
        """In a few words: "finished", "1 of 3 seeds", "failed", "skipped", "not run"."""
        if len(self.finished) == len(self.states):
            return "finished"
        if self.finished:
            return f"{len(self.finished)} of {len(self.states)} seeds"
        return next((word for word in ("failed", "skipped") if word in self.states.values()), "not run")

    def scores(self, metric: str, seeds: Sequence[int]) -> list[Score]:
        """One score a case, the mean over these seeds."""
        return case_scores([self.entries[seed] for seed in seeds], metric, self.region)


def results(directory: Path, cells: Sequence[Cell]) -> list[Result]:
    """Read what has finished of a study's folder.

    Raises:
        CaseError: A table of scores is damaged.
    """
    found = [_result(directory, cell) for cell in cells]
    regions = [run.regions for one in found for entry in one.entries.values() for run in entry.runs]
    region = "wt" if not regions or all("wt" in named for named in regions) else regions[0][0]
    return [summarised(one, region) for one in found]


def _result(directory: Path, cell: Cell) -> Result:
    states, reasons, entries = {}, {}, {}
    for seed, name in cell.trials.items():
        state = trial_state(directory, name) or {}
        states[seed] = str(state.get("state", "not run"))
        if states[seed] == "finished":
            entries[seed] = Entry(name, (read_run(run_folder(directory, name)),))
        elif state:
            reasons[seed] = str(state.get("error") or "")
    return Result(cell, states, reasons, entries, published=published_numbers(cell))


def summarised(result: Result, region: str) -> Result:
    """With the numbers of a region."""
    entries = list(result.entries.values())
    means = {metric: mean_of(case_scores(entries, metric, region)) for metric in METRICS} if entries else {}
    return replace(result, region=region, means=means, spread=_spread(entries, region))


def case_scores(entries: Sequence[Entry], metric: str, region: str) -> list[Score]:
    """One score a case: seeds averaged, folds pooled; NaN where one of them has no value."""
    joined = Entry("", tuple(run for entry in entries for run in entry.runs))
    return joined.scores(metric, region, joined.cases, known_patients(entries))


def mean_of(scores: Sequence[Score]) -> Mean:
    """The mean over cases that have a value, with its interval over patients."""
    there = [score for score in scores if not math.isnan(score.value)]
    patients = patient_means(there)
    interval = bootstrap_interval(np.array(list(patients.values()))) if len(patients) >= LEAST else None
    value = math.fsum(score.value for score in there) / len(there) if there else math.nan
    return Mean(value, interval, len(there), len(patients))


def _spread(entries: Sequence[Entry], region: str) -> Spread | None:
    if len(entries) < 2:
        return None
    joined = Entry("", tuple(run for entry in entries for run in entry.runs))
    scores = case_scores(entries, "dice", region)
    there = [score.case for score in scores if not math.isnan(score.value)]
    return joined.spread("dice", region, there, known_patients(entries))


def published_numbers(cell: Cell) -> dict[tuple[str, str], float]:
    """The paper's numbers of a cell, (data set, metric) to value; the paper's "all" is four modalities."""
    if cell.table != "voting" and cell.model not in SYSTEMS:
        return {}
    if cell.table == "II" and "+" in cell.trained_on:  # its last line is Table I's
        return published_numbers(replace(cell, table="I"))
    table = {"figure2": "Figure 2", "voting": "voting (result files, not in the paper)"}.get(cell.table, cell.table)
    names = {name: PAPERS_MODALITIES for name in (cell.trained_on, cell.tested_on) if "+" in name}
    asked = (names.get(cell.trained_on, cell.trained_on), names.get(cell.tested_on, cell.tested_on))
    wanted = ("", "") if cell.table == "voting" else asked
    return {
        (row["dataset"], row["metric"]): float(row["value"])
        for row in published()
        if (row["system"], row["table"], row["model"]) == ("segan_cat", table, cell.model)
        and (row["trained_on"], row["tested_on"]) == wanted
        and (cell.table != "III" or row["fine_tuning"] == cell.way)
    }
