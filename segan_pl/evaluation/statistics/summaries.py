"""Score tables as statistics: overall and by stratum, each mean with its n and its interval over patients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segan_pl.data.check.case_table import rounded
from segan_pl.evaluation.statistics.paired import BATCH, LEAST, expanded_tail

LEVEL = 0.95
RESAMPLES = 10_000
UNKNOWN = "not stated"


@dataclass(frozen=True)
class Scored:
    """One case's values.

    Attributes:
        case: Its name.
        patient: Scans of one patient share it.
        strata: Column to value; a value that the data set does not state is UNKNOWN.
        values: (region, metric) to value; NaN is not available.
    """

    case: str
    patient: str
    strata: Mapping[str, str]
    values: Mapping[tuple[str, str], float]


class Statistics(NamedTuple):
    """Of one metric in one region, over the cases that have a value.

    Attributes:
        n: Cases with a value.
        patients: Their patients.
        mean: Over cases.
        low: Lower end of the 95 % interval of the mean; NaN with fewer than LEAST patients.
        high: Upper end.
        median: Over cases.
        sd: Standard deviation (n - 1).
        q1: Lower quartile.
        q3: Upper quartile.
        minimum: Over cases.
        maximum: Over cases.
    """

    n: int
    patients: int
    mean: float
    low: float
    high: float
    median: float
    sd: float
    q1: float
    q3: float
    minimum: float
    maximum: float

    def as_dict(self) -> dict[str, float | int | None]:
        """For JSON: null is not available."""
        numbers = self._asdict().items()
        return {name: v if isinstance(v, int) else None if np.isnan(v) else rounded(v) for name, v in numbers}


Summary = dict[tuple[str, str], Statistics]


def summarise_cases(
    cases: Sequence[Scored], columns: Sequence[tuple[str, str]], *, resamples: int = RESAMPLES, seed: int = 0
) -> Summary:
    """Statistics of each (region, metric).

    Args:
        cases: In any order; the result does not depend on it.
        columns: Which (region, metric).
        resamples: Cohorts drawn for the interval.
        seed: Of the draws.
    """
    ordered = sorted(cases, key=lambda one: one.case)
    patients = [one.patient for one in ordered]
    values = np.array([[one.values[column] for column in columns] for one in ordered])
    values = values.reshape(len(ordered), len(columns))  # also without a case
    low, high = mean_intervals(values, patients, resamples=resamples, seed=seed)
    return {
        column: _statistics(values[:, place], patients, low[place], high[place]) for place, column in enumerate(columns)
    }


def strata_of(cases: Iterable[Scored], column: str) -> dict[str, list[Scored]]:
    """The cases by their value in a column, values in order."""
    found: dict[str, list[Scored]] = {}
    for case in cases:
        found.setdefault(case.strata.get(column) or UNKNOWN, []).append(case)
    return {value: found[value] for value in sorted(found)}


def mean_intervals(
    values: NDArray[np.float64], patients: Sequence[str], *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """95 % bootstrap intervals of the columns' means over cases; whole patients are drawn, with all their scans.

    Expanded percentiles (Hesterberg 2015), as `statistics.bootstrap_interval`, which it equals where each patient has
    one scan and every value is there.

    Args:
        values: (cases, columns); NaN is not available, and a drawn cohort's mean is over what is there.
        patients: One for each case.
        resamples: Cohorts drawn.
        seed: Of the draws.

    Returns:
        Low and high ends, (columns,); NaN for a column with values of fewer than LEAST patients.
    """
    names, owner = np.unique(np.array(patients, dtype=str), return_inverse=True)
    count, there = len(names), ~np.isnan(values)
    sums, numbers = (np.zeros((count, values.shape[1])) for _ in range(2))
    np.add.at(sums, owner, np.where(there, values, 0))
    np.add.at(numbers, owner, there)
    low, high = (np.full(values.shape[1], np.nan) for _ in range(2))
    held = (numbers > 0).sum(0)
    enough = np.flatnonzero(held >= LEAST)
    if not len(enough):
        return low, high
    means = _drawn_means(sums[:, enough], numbers[:, enough], resamples, seed)
    for place, column in enumerate(enough):
        tail = expanded_tail(int(held[column]), LEVEL)
        low[column], high[column] = np.nanquantile(means[:, place], [tail, 1 - tail])
    return low, high


def _drawn_means(
    sums: NDArray[np.float64], numbers: NDArray[np.float64], resamples: int, seed: int
) -> NDArray[np.float64]:
    """(resamples, columns) means of cohorts of patients drawn with replacement; NaN where one has no value at all."""
    rng, count = np.random.default_rng(seed), len(sums)
    step = max(1, BATCH // count)
    means = []
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        drawn = rng.integers(0, count, (size, count)) + np.arange(size)[:, None] * count
        # How often each patient was drawn, times all columns at once: scipy.stats.bootstrap would gather
        # (size, count, columns) numbers, and takes 4 times as long for a table of 33 columns.
        times = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count).astype(np.float64)
        total = times @ numbers
        means.append(np.where(total > 0, times @ sums / np.maximum(total, 1), np.nan))
    return np.concatenate(means)


def _statistics(values: NDArray[np.float64], patients: Sequence[str], low: float, high: float) -> Statistics:
    there = ~np.isnan(values)
    kept = values[there]
    if not len(kept):
        return Statistics(0, 0, *[np.nan] * 9)
    q1, median, q3 = np.quantile(kept, [0.25, 0.5, 0.75])
    sd = float(kept.std(ddof=1)) if len(kept) > 1 else np.nan
    held = len({patient for patient, has in zip(patients, there, strict=True) if has})
    numbers = (kept.mean(), low, high, median, sd, q1, q3, kept.min(), kept.max())
    return Statistics(len(kept), held, *(float(number) for number in numbers))


def nested(summary: Summary) -> dict[str, dict[str, Any]]:
    """For JSON: region to metric to statistics."""
    out: dict[str, dict[str, Any]] = {}
    for (region, metric), found in summary.items():
        out.setdefault(region, {})[metric] = found.as_dict()
    return out
