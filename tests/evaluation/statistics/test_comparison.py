from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from segan_pl.data.case import CaseError
from segan_pl.evaluation.statistics.comparison import Comparison, Score, compare


def run(values: list[float], patients: list[str] | None = None) -> list[Score]:
    names = [f"case{number:02d}" for number in range(len(values))]
    return [Score(*three) for three in zip(names, patients or names, values, strict=True)]


def planted(gain: float, patients: int = 30, seed: int = 0) -> Comparison:
    """Dice around 0.8 in both runs, with what is hard in a case shared, and a gain in the first."""
    rng = np.random.default_rng(seed)
    base = rng.beta(16, 4, patients)
    a, b = (np.clip(base + shift + rng.normal(0, 0.03, patients), 0, 1) for shift in (gain, 0))
    return compare(run(list(a)), run(list(b)), resamples=2000)


def test_a_planted_difference_is_found_and_none_is_not() -> None:
    found = planted(0.03)
    assert found.interval is not None
    assert found.interval[0] < 0.03 < found.interval[1]
    assert found.interval[0] > 0
    assert max(found.permutation_p or 1, found.wilcoxon_p or 1) < 0.01
    assert found.wins > found.losses
    nothing = planted(0.0)
    assert min(nothing.permutation_p or 0, nothing.wilcoxon_p or 0) > 0.05
    assert nothing.interval is not None
    assert nothing.interval[0] < 0 < nothing.interval[1]


def test_of_1000_pairs_of_equal_runs_5_in_100_seem_to_differ() -> None:
    """Skewed scores with ties and failures, what is hard in a case shared; 95 % intervals that leave out 0 as well."""
    rng, seeming = np.random.default_rng(11), np.zeros(3)
    for _ in range(1000):
        base = rng.beta(8, 2, 24)
        a, b = (np.round(np.clip(base + rng.normal(0, 0.05, 24), 0, 1) * (rng.random(24) > 0.1), 2) for _ in "ab")
        found = compare(run(list(a)), run(list(b)), resamples=2000)
        assert found.interval is not None
        p_values = found.permutation_p, found.wilcoxon_p
        outside = not found.interval[0] <= 0 <= found.interval[1]
        seeming += np.array([*((p or 1) <= 0.05 for p in p_values), outside])
    low, high = stats.binom.ppf([0.0005, 0.9995], 1000, 0.05)  # 29 to 74
    assert low <= seeming[0] <= high
    assert low <= seeming[1] <= high
    assert seeming[2] <= 100  # one failure among 24 patients is half of the variance: some 8 % rather than 5


def test_comparing_the_other_way_round_turns_every_sign_and_keeps_every_p() -> None:
    rng = np.random.default_rng(1)
    a, b = run(list(rng.random(20))), run(list(rng.random(20)))
    there, back = compare(a, b, resamples=1000), compare(b, a, resamples=1000)
    assert (there.difference, there.rank_biserial, there.cohens_dz) == pytest.approx(
        (-back.difference, -back.rank_biserial, -back.cohens_dz)
    )
    assert (there.wins, there.losses) == (back.losses, back.wins)
    assert (there.wilcoxon_p, there.permutation_p) == pytest.approx((back.wilcoxon_p, back.permutation_p))


def test_the_numbers_of_a_small_table_by_hand() -> None:
    found = compare(run([0.9, 0.8, 0.7, 0.6, 0.5, 0.5, 0.5]), run([0.8, 0.6, 0.4, 0.2, 0.6, 0.5, 0.3]))
    # differences 0.1 0.2 0.3 0.4 -0.1 0 0.2; ranks 1.5 3.5 5 6 1.5 . 3.5, of 21; against: 1.5
    assert (found.cases, found.patients, found.wins, found.ties, found.losses) == (7, 7, 5, 1, 1)
    assert found.difference == pytest.approx(1.1 / 7)
    assert found.rank_biserial == pytest.approx((21 - 3) / 21)
    # of 64 sign patterns, sums of at least 1.1: all up (1.3), one of the two 0.1 down (1.1); with mirrors 6
    assert found.permutation_p == 6 / 64
    assert found.exact


def test_lower_is_better_turns_wins_and_nothing_else() -> None:
    rng = np.random.default_rng(2)
    a, b = run(list(rng.random(9))), run(list(rng.random(9)))
    higher, lower = compare(a, b), compare(a, b, higher_is_better=False)
    assert (higher.wins, higher.losses) == (lower.losses, lower.wins)
    assert (higher.difference, higher.rank_biserial) == (lower.difference, lower.rank_biserial)


def test_equal_scores_stay_ties_after_averages_over_seeds() -> None:
    mean = (0.1 + 0.2 + 0.3) / 3  # not 0.2 in binary
    assert mean != 0.2
    assert compare(run([mean]), run([0.2])).ties == 1
    assert compare(run([0.200001]), run([0.2])).wins == 1  # the last digit of a score table


def test_a_pair_without_a_value_leaves_and_is_named() -> None:
    found = compare(run([0.5, math.nan, 0.7, 0.1]), run([math.nan, 0.2, 0.6, 0.1])[:3])
    assert found.unavailable == ("case00", "case01")
    assert found.unpaired == ("case03",)
    assert (found.cases, found.mean_a, found.mean_b) == (1, 0.7, 0.6)


def test_no_pair_at_all_gives_no_number() -> None:
    found = compare(run([math.nan]), run([0.5]))
    assert (found.cases, found.patients, found.interval) == (0, 0, None)
    assert math.isnan(found.difference)


@pytest.mark.parametrize("patients", [1, 3, 5])
def test_too_few_patients_are_said_and_not_computed(patients: int) -> None:
    found = compare(run([0.9] * patients), run(list(np.linspace(0, 0.5, patients))))
    assert (found.interval, found.permutation_p, found.wilcoxon_p) == (None, None, None)
    assert found.notes[0].startswith(f"{patients} patients are too few")
    assert f"{2 / 2**patients:.3g}" in found.notes[0]


def test_six_patients_are_enough_to_reach_the_level() -> None:
    found = compare(run([0.9] * 6), run([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]))
    assert found.permutation_p == found.wilcoxon_p == 2 / 64


def test_equal_patients_do_not_make_a_test_possible() -> None:
    found = compare(run([0.5] * 20), run([0.4] * 5 + [0.5] * 15))
    assert found.wilcoxon_p is None
    assert found.notes == ("only 5 of 20 patients differ: p cannot get below 0.0625, so no test",)
    assert found.interval is not None
    same = compare(run([0.5] * 20), run([0.5] * 20))
    assert same.interval is None
    assert same.notes == ("all 20 patients have equal values; nothing to test",)


def test_scans_of_a_patient_weigh_as_one() -> None:
    found = compare(run([0.9, 0.9, 0.9, 0.5], list("aaab")), run([0.6, 0.7, 0.8, 0.5], list("aaab")))
    assert (found.cases, found.patients) == (4, 2)
    assert found.mean_a == pytest.approx(0.7)
    assert found.difference == pytest.approx(0.1)


def test_scans_of_a_patient_that_are_alike_do_not_pass_for_evidence() -> None:
    """Ten patients of six scans, whose difference is mostly the patient's: by scans 40 % of equal runs "differ"."""
    rng, patients, scans = np.random.default_rng(5), 10, 6
    owner = [f"p{number // scans}" for number in range(patients * scans)]
    right = naive = 0
    for _ in range(400):
        differences = np.repeat(rng.normal(0, 0.05, patients), scans) + rng.normal(0, 0.02, patients * scans)
        a, b = list(0.8 + differences), [0.8] * len(differences)
        right += (compare(run(a, owner), run(b, owner), resamples=100).wilcoxon_p or 1) <= 0.05
        naive += stats.wilcoxon(differences).pvalue <= 0.05
    assert right <= stats.binom.ppf(0.9995, 400, 0.05)
    assert naive > 100


def test_the_order_of_cases_does_not_matter() -> None:
    rng = np.random.default_rng(8)
    a, b = run(list(rng.random(20))), run(list(rng.random(20)))
    assert compare(a[::-1], b, resamples=500) == compare(a, b[::-1], resamples=500)


def test_a_case_twice_is_refused() -> None:
    with pytest.raises(CaseError, match=r"case00: has several scores"):
        compare([*run([0.5]), *run([0.6])], run([0.5]))


def test_a_case_of_two_patients_is_refused() -> None:
    with pytest.raises(CaseError, match=r"case00: patient a in one run and b in the other"):
        compare(run([0.5], ["a"]), run([0.5], ["b"]))
