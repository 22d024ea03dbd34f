"""Two score tables compared over the same cases; patients are the units."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from segan_pl.data.case import CaseError
from segan_pl.evaluation.statistics.paired import (
    LEAST,
    Differences,
    bootstrap_interval,
    cohens_dz,
    least_p,
    sign_flip,
    signed_rank,
)

# Of a difference: a score table has 6, so equal scores stay equal after averages over seeds.
DECIMALS = 9


class Score(NamedTuple):
    """One case's value of one metric in one region.

    Attributes:
        case: Unique within a run.
        patient: Scans of one patient share it.
        value: NaN where it is not available.
    """

    case: str
    patient: str
    value: float


@dataclass(frozen=True)
class Comparison:
    """What `compare` found of run a against run b.

    Attributes:
        cases: Pairs of cases that were compared.
        patients: Units of every number here: a patient's scans are averaged first.
        mean_a: Mean over patients.
        mean_b: The same of b, over the same cases.
        difference: mean_a - mean_b.
        interval: Bootstrap interval of the difference; None where it was not computed.
        permutation_p: Of the mean difference; None where it was not computed.
        exact: Whether the permutation test looked at every sign pattern.
        wilcoxon_p: Of the signed ranks; None where it was not computed.
        rank_biserial: -1 to 1, positive where a is higher; NaN without a difference.
        cohens_dz: Mean over standard deviation of the differences; NaN where they do not vary.
        wins: Patients for whom a is better.
        ties: Patients with equal values.
        losses: Patients for whom b is better.
        unavailable: Cases of both runs with no value in one of them: left out.
        unpaired: Cases of one run only: left out.
        notes: Why something was not computed.
    """

    cases: int
    patients: int
    mean_a: float
    mean_b: float
    difference: float
    interval: tuple[float, float] | None
    permutation_p: float | None
    exact: bool
    wilcoxon_p: float | None
    rank_biserial: float
    cohens_dz: float
    wins: int
    ties: int
    losses: int
    unavailable: tuple[str, ...] = ()
    unpaired: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def compare(
    a: Sequence[Score],
    b: Sequence[Score],
    *,
    higher_is_better: bool | None = True,
    seed: int = 0,
    resamples: int = 10_000,
) -> Comparison:
    """Compare run a with run b over the cases that both have a value for.

    Args:
        a: One score for each case, in any order.
        b: The same.
        higher_is_better: False for distances; decides wins and losses only. Where nobody says it (None), a win is a
            higher value.
        seed: Of the bootstrap and of a sampled permutation test.
        resamples: Of both.

    Raises:
        CaseError: A case is twice in a run, or belongs to different patients.
    """
    first, second = _by_case(a), _by_case(b)
    both = sorted(first.keys() & second.keys())
    for case in both:
        if first[case].patient != second[case].patient:
            raise CaseError(
                f"{case}: patient {first[case].patient} in one run and {second[case].patient} in the other; "
                f"expected the same; correct the patient column"
            )
    there = [case for case in both if not math.isnan(first[case].value + second[case].value)]
    mean_a, mean_b = (patient_means(run[case] for case in there) for run in (first, second))
    differences = np.round(np.array([mean_a[patient] - mean_b[patient] for patient in mean_a]), DECIMALS)
    better = np.sign(differences) * (-1 if higher_is_better is False else 1)
    inference = _inference(differences, seed, resamples)
    return Comparison(
        cases=len(there),
        patients=len(differences),
        mean_a=_mean(mean_a.values()),
        mean_b=_mean(mean_b.values()),
        difference=_mean(differences),
        rank_biserial=signed_rank(differences).rank_biserial,
        cohens_dz=cohens_dz(differences),
        wins=int((better > 0).sum()),
        ties=int((better == 0).sum()),
        losses=int((better < 0).sum()),
        unavailable=tuple(case for case in both if case not in set(there)),
        unpaired=tuple(sorted(first.keys() ^ second.keys())),
        **inference._asdict(),
    )


def patient_means(scores: Iterable[Score]) -> dict[str, float]:
    """Patient to the mean over its scans, in the patients' order."""
    values: dict[str, list[float]] = {}
    for score in scores:
        values.setdefault(score.patient, []).append(score.value)
    return {patient: math.fsum(values[patient]) / len(values[patient]) for patient in sorted(values)}


class _Inference(NamedTuple):
    interval: tuple[float, float] | None
    permutation_p: float | None
    exact: bool
    wilcoxon_p: float | None
    notes: tuple[str, ...]


def _inference(differences: Differences, seed: int, resamples: int) -> _Inference:
    """Interval and tests, or why there are none."""
    patients, used = len(differences), int(np.count_nonzero(differences))
    if patients < LEAST:
        reason = f"{patients} patients are too few for an interval or a test (least p {least_p(max(1, patients)):.3g})"
        return _Inference(None, None, False, None, (f"{reason}; at least {LEAST} are needed",))
    if used == 0:
        return _Inference(None, None, False, None, (f"all {patients} patients have equal values; nothing to test",))
    interval = bootstrap_interval(differences, resamples=resamples, seed=seed)
    if used < LEAST:
        reason = f"only {used} of {patients} patients differ: p cannot get below {least_p(used):.3g}, so no test"
        return _Inference(interval, None, False, None, (reason,))
    flipped = sign_flip(differences, resamples=resamples, seed=seed)
    return _Inference(interval, flipped.p, flipped.exact, signed_rank(differences).p, ())


def _by_case(scores: Sequence[Score]) -> Mapping[str, Score]:
    if double := sorted(name for name, count in Counter(score.case for score in scores).items() if count > 1):
        raise CaseError(f"{double[0]}: has several scores in one run; expected one for each case; correct the table")
    return {score.case: score for score in scores}


def _mean(values: Iterable[float]) -> float:
    """NaN of nothing."""
    found = [float(value) for value in values]
    return math.fsum(found) / len(found) if found else math.nan
