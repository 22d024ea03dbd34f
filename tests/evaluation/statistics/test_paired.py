from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from segan_pl.evaluation.statistics.paired import (
    bootstrap_interval,
    cohens_dz,
    holm,
    least_p,
    sign_flip,
    signed_rank,
)

SIMULATED = 1000
TOO_MANY = int(stats.binom.ppf(0.9995, SIMULATED, 0.05))  # 74: a right test of level 5 % is above once in 2000
TOO_FEW = int(stats.binom.ppf(0.0005, SIMULATED, 0.05))  # 29


def dice_like(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Skewed to the left, two digits (so that many are equal), one in ten a failure of exactly 0."""
    scores = np.round(rng.beta(8, 2, shape), 2)
    return np.where(rng.random(shape) < 0.1, 0.0, scores)


@pytest.mark.parametrize("n", [1, 2, 7, 25, 50])
def test_wilcoxon_without_ties_equals_scipys_exact_test(n: int) -> None:
    differences = np.random.default_rng(n).normal(0.3, 1, n)
    assert signed_rank(differences).p == pytest.approx(stats.wilcoxon(differences, method="exact").pvalue, rel=1e-12)


def test_wilcoxon_with_ties_and_zeros_equals_scipys_enumeration_of_all_signs() -> None:
    differences = np.array([0.1, 0.1, -0.1, 0.2, 0.2, -0.3, 0.5, 0.5, 0.0, 0.0])
    everything = stats.PermutationMethod(n_resamples=np.inf)
    oracle = stats.wilcoxon(differences[differences != 0], method=everything)
    found = signed_rank(differences)
    assert found.p == pytest.approx(oracle.pvalue, rel=1e-12)
    assert found.used == 8


def test_wilcoxon_of_many_differences_is_scipys_approximation_and_joins_the_exact_one() -> None:
    differences = np.round(np.random.default_rng(0).normal(0.1, 1, 320), 2)
    left = differences[differences != 0]
    assert len(left) > 300
    for some, tolerance in ((left, 1e-12), (left[:300], 0.02)):
        approximate = float(stats.wilcoxon(some, correction=False, method="asymptotic").pvalue)
        assert signed_rank(some).p == pytest.approx(approximate, rel=tolerance)


def test_rank_biserial_by_hand() -> None:
    """Ranks of 1, -2, 3, 4 are 1 to 4: favourable 8, unfavourable 2, of 10; the zero has no rank."""
    assert signed_rank(np.array([0.0, 1.0, -2.0, 3.0, 4.0])).rank_biserial == pytest.approx(0.6)
    assert signed_rank(np.array([-1.0, -1.0, -1.0])).rank_biserial == -1
    assert math.isnan(signed_rank(np.zeros(4)).rank_biserial)


def test_sign_flips_of_four_by_hand() -> None:
    """Of +-1 +-2 +-3 +-4: sums of at least 8 are 10 (none turned) and 8 (the 1 turned); with their mirrors 4 of 16."""
    assert sign_flip(np.array([-1.0, 2.0, 3.0, 4.0])) == (4 / 16, True)
    assert sign_flip(np.array([1.0, 2.0, 3.0, 4.0, 0.0])) == (2 / 16, True)


def test_equal_sums_are_not_parted_by_rounding() -> None:
    """0.1 + 0.2 - 0.3 is not 0 in binary; every pattern of these counts with a mean of 0."""
    assert sign_flip(np.array([0.1, 0.2, -0.3])).p == 1


def test_sign_flips_equal_scipys_permutation_test() -> None:
    differences = np.random.default_rng(1).normal(0.5, 1, 9)
    oracle = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=False
    )
    assert sign_flip(differences).p == pytest.approx(oracle.pvalue, rel=1e-12)


def test_sampled_sign_flips_are_seeded_near_the_exact_p_and_never_zero() -> None:
    differences = np.random.default_rng(2).normal(0.4, 1, 17)
    sizes = np.abs(differences)
    patterns = (np.arange(2**17)[:, None] >> np.arange(17) & 1) * 2.0 - 1
    exact = np.mean(np.abs(patterns @ sizes) >= abs(differences.sum()) - 1e-9)
    found = sign_flip(differences, resamples=20_000, seed=3)
    assert not found.exact
    assert found.p == pytest.approx(exact, abs=4 * math.sqrt(exact / 20_000))
    assert sign_flip(differences, resamples=20_000, seed=3) == found
    assert sign_flip(np.ones(100), resamples=999).p == 1 / 1000


def test_holm_by_hand() -> None:
    """0.01 x 4, 0.02 x 3 and 0.03 x 2 (0.06 either way), 0.04 x 1 raised to 0.06; a test not made is not counted."""
    assert holm([0.04, None, 0.01, 0.03, 0.02]) == pytest.approx([0.06, None, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([None]) == [None]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_no_correction_and_bonferroni_and_keeps_the_order(p_values: list[float]) -> None:
    adjusted = [p for p in holm(p_values) if p is not None]
    assert len(adjusted) == len(p_values)
    assert all(p <= q <= min(1, len(p_values) * p) + 1e-12 for p, q in zip(p_values, adjusted, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert np.all(np.diff(np.array(adjusted)[order]) >= 0)


def test_least_p_is_that_of_differences_of_one_sign() -> None:
    for used in (1, 5, 6, 12):
        same = np.arange(1.0, used + 1)
        assert signed_rank(same).p == sign_flip(same).p == least_p(used)
    assert least_p(5) > 0.05 > least_p(6)


def test_bootstrap_interval_of_many_normal_numbers_is_the_textbooks() -> None:
    differences = np.random.default_rng(0).normal(0.02, 0.1, 400)
    half = 1.96 * differences.std(ddof=1) / math.sqrt(400)
    low, high = bootstrap_interval(differences, resamples=4000)
    assert (low, high) == pytest.approx((differences.mean() - half, differences.mean() + half), abs=0.1 * half)


def test_bootstrap_interval_moves_and_stretches_with_the_numbers() -> None:
    differences = np.random.default_rng(1).exponential(1, 12)
    low, high = bootstrap_interval(differences, resamples=999, seed=5)
    assert bootstrap_interval(3 * differences + 1, resamples=999, seed=5) == pytest.approx((3 * low + 1, 3 * high + 1))
    assert bootstrap_interval(differences, resamples=999, seed=6) != (low, high)
    assert bootstrap_interval(np.full(7, 0.25)) == (0.25, 0.25)


def test_bootstrap_interval_of_few_numbers_is_as_wide_as_students() -> None:
    """Of normal numbers the two agree; plain percentiles of 8 numbers would be 0.79 of Student's."""
    widths = []
    for seed in range(50):
        differences = np.random.default_rng(seed).normal(0, 1, 8)
        low, high = bootstrap_interval(differences, resamples=4000, seed=seed)
        student = 2 * stats.t.ppf(0.975, 7) * differences.std(ddof=1) / math.sqrt(8)
        widths.append((high - low) / student)
    assert np.mean(widths) == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize("patients", [6, 25])
def test_bootstrap_interval_holds_the_true_mean_as_often_as_it_says(patients: int) -> None:
    rng, outside = np.random.default_rng(4), 0
    for seed in range(400):
        low, high = bootstrap_interval(rng.normal(0, 1, patients), resamples=2000, seed=seed)
        outside += not low <= 0 <= high
    assert outside <= stats.binom.ppf(0.9995, 400, 0.05)


def test_bootstrap_of_one_number_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        bootstrap_interval(np.array([1.0]))


def test_cohens_dz_by_hand() -> None:
    assert cohens_dz(np.array([1.0, 2.0, 3.0])) == 2
    assert math.isnan(cohens_dz(np.ones(3)))


@pytest.mark.parametrize("patients", [12, 30])
def test_two_equal_runs_differ_no_more_often_than_the_level_says(patients: int) -> None:
    rng = np.random.default_rng(patients)
    hard = rng.normal(0, 0.1, (SIMULATED, patients))  # what both runs share in a case
    differences = (hard + rng.normal(0, 0.05, hard.shape)) - (hard + rng.normal(0, 0.05, hard.shape))
    permutation = sum(sign_flip(row, resamples=499, seed=n).p <= 0.05 for n, row in enumerate(differences))
    wilcoxon = sum(signed_rank(row).p <= 0.05 for row in differences)
    assert TOO_FEW <= permutation <= TOO_MANY
    assert TOO_FEW <= wilcoxon <= TOO_MANY


def test_two_equal_runs_with_skewed_and_tied_scores_keep_the_level_too() -> None:
    rng = np.random.default_rng(7)
    differences = np.round(dice_like(rng, (SIMULATED, 20)) - dice_like(rng, (SIMULATED, 20)), 9)
    assert np.mean(differences == 0) > 0.02
    permutation = sum(sign_flip(row, resamples=499, seed=n).p <= 0.05 for n, row in enumerate(differences))
    wilcoxon = sum(signed_rank(row).p <= 0.05 for row in differences)
    assert TOO_FEW <= permutation <= TOO_MANY
    assert TOO_FEW <= wilcoxon <= TOO_MANY
