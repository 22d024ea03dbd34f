from __future__ import annotations

import math

import numpy as np
import pytest

from segan_pl.evaluation.statistics.paired import bootstrap_interval
from segan_pl.evaluation.statistics.summaries import UNKNOWN, Scored, mean_intervals, nested, strata_of, summarise_cases

NA = math.nan
DICE = ("wt", "dice")


def cohort(values: list[float], patients: list[str] | None = None, **strata: str) -> list[Scored]:
    names = [f"case{number:02d}" for number in range(len(values))]
    owners = patients or names
    return [Scored(n, p, strata, {DICE: v}) for n, p, v in zip(names, owners, values, strict=True)]


def random_values(count: int = 20) -> list[float]:
    return np.random.default_rng(3).beta(6, 2, count).tolist()


def test_statistics_worked_by_hand_leave_out_what_is_not_available() -> None:
    found = summarise_cases(cohort([0.2, 0.4, NA, 0.9, 0.5]), [DICE])[DICE]
    assert (found.n, found.patients) == (4, 4)
    assert (found.mean, found.median, found.q1, found.q3) == pytest.approx((0.5, 0.45, 0.35, 0.6))
    assert found.sd == pytest.approx(math.sqrt((0.09 + 0.01 + 0.16) / 3))
    assert (found.minimum, found.maximum) == (0.2, 0.9)


def test_intervals_are_those_of_compare_where_each_patient_has_one_scan() -> None:
    values = random_values()
    found = summarise_cases(cohort(values), [DICE], seed=5)[DICE]
    assert (found.low, found.high) == pytest.approx(bootstrap_interval(np.array(values), seed=5))
    assert found.low < found.mean < found.high


def test_a_second_scan_that_repeats_the_first_narrows_nothing() -> None:
    """Whole patients are drawn; drawing scans would make the interval narrower by the root of two."""
    values = np.array(random_values())
    once = mean_intervals(values[:, None], [str(n) for n in range(20)])
    twice = mean_intervals(np.tile(values, 2)[:, None], [str(n) for n in range(20)] * 2)
    np.testing.assert_allclose(twice, once)


def test_intervals_ignore_cases_without_a_value() -> None:
    values = np.array([*random_values(), NA])
    low, high = mean_intervals(values[:, None], [str(n) for n in range(21)])
    expected = bootstrap_interval(values[:20])
    assert (low[0], high[0]) == pytest.approx(expected, abs=0.02)


def test_fewer_than_six_patients_have_no_interval_however_many_scans() -> None:
    patients = [f"p{number % 5}" for number in range(20)]
    found = summarise_cases(cohort(random_values(), patients), [DICE])[DICE]
    assert (found.n, found.patients) == (20, 5)
    assert math.isnan(found.low)
    assert not math.isnan(summarise_cases(cohort(random_values(6)), [DICE])[DICE].low)


def test_the_order_of_cases_and_the_other_columns_change_nothing() -> None:
    cases = cohort(random_values())
    alone = summarise_cases(cases, [DICE])
    assert summarise_cases(cases[::-1], [DICE]) == alone
    wider = [Scored(c.case, c.patient, {}, {**c.values, ("et", "dice"): NA}) for c in cases]
    assert summarise_cases(wider, [("et", "dice"), DICE])[DICE] == alone[DICE]


def test_no_value_and_no_case_are_null_with_n_0() -> None:
    empty = summarise_cases(cohort([NA, NA]), [DICE])
    assert nested(empty)["wt"]["dice"] == {
        **{"n": 0, "patients": 0, "mean": None, "low": None, "high": None, "median": None, "sd": None},
        **{"q1": None, "q3": None, "minimum": None, "maximum": None},
    }
    assert nested(summarise_cases([], [DICE])) == nested(empty)


def test_strata_hold_every_case_once_with_a_word_for_what_is_not_stated() -> None:
    cases = [*cohort([0.5, 0.6], grade="HGG"), *cohort([0.7], grade=UNKNOWN), *cohort([0.8], grade="LGG")]
    found = strata_of(cases, "grade")
    assert {value: len(held) for value, held in found.items()} == {"HGG": 2, "LGG": 1, "not stated": 1}
    assert list(found) == sorted(found)


def test_intervals_cover_the_mean_of_a_grouped_cohort_as_often_as_they_say() -> None:
    """Normal patients' means with three scans each; 95 % of 200 intervals, give or take three standard errors."""
    rng, covered = np.random.default_rng(1), 0
    for trial in range(200):
        means = rng.normal(0, 1, 12)
        values = np.repeat(means, 3) + rng.normal(0, 0.3, 36)
        low, high = mean_intervals(
            values[:, None], [str(n) for n in np.repeat(range(12), 3)], resamples=500, seed=trial
        )
        covered += bool(low[0] <= 0 <= high[0])
    assert abs(covered / 200 - 0.95) < 0.047
