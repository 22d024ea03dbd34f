from __future__ import annotations

from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segan_pl.data.case import Case, CaseError
from segan_pl.data.split.drawing import stratified_split
from segan_pl.data.split.record import Split
from segan_pl.errors import UsageError


def cohort(**strata: int) -> list[Case]:
    """So many cases of each GRADE_SITE, each of its own patient."""
    return [
        Case(f"{key}_{i:03d}", f"{key}_{i:03d}", {}, None, *key.split("_"))
        for key, count in strata.items()
        for i in range(count)
    ]


def names(split: Split) -> list[str]:
    return [*split.train, *split.val, *split.test]


def test_every_stratum_gets_its_share_and_every_case_is_in_one_part():
    cases = cohort(HGG_A=50, HGG_B=20, LGG_A=10)
    split = stratified_split(cases, val_fraction=0.2, test_fraction=0.1, seed=0)
    assert sorted(names(split)) == sorted(case.name for case in cases)
    assert Counter(name[:5] for name in split.val) == {"HGG_A": 10, "HGG_B": 4, "LGG_A": 2}
    assert Counter(name[:5] for name in split.test) == {"HGG_A": 5, "HGG_B": 2, "LGG_A": 1}
    assert split.notes == ()


def test_the_seed_decides_and_the_order_of_the_cases_does_not():
    cases = cohort(HGG_A=30, LGG_B=30)
    first = stratified_split(cases, seed=3)
    assert first == stratified_split(cases[::-1], seed=3)
    assert first.val != stratified_split(cases, seed=4).val


def test_a_seeded_draw_stays_what_it_was():
    cases = cohort(HGG_A=9, HGG_B=5, LGG_A=4, LGG_C=1)
    split = stratified_split(cases, val_fraction=0.25, test_fraction=0.2, seed=7)  # names noted at commit 96da820
    assert split.val == ("HGG_A_000", "HGG_A_008", "HGG_B_004", "LGG_A_000")
    assert split.test == ("HGG_A_001", "HGG_A_007", "HGG_B_003", "LGG_A_003")


def test_the_total_is_right_where_each_stratum_alone_would_round_to_nothing():
    split = stratified_split(cohort(**{f"HGG_{site}": 4 for site in "ABCDEFGHIJ"}), val_fraction=0.1, seed=0)
    assert len(split.val) == 4


def test_scans_of_one_patient_stay_together():
    cases = [Case(f"p{i // 3}_{i % 3}", f"p{i // 3}", {}) for i in range(60)]
    split = stratified_split(cases, val_fraction=0.25, seed=0)
    assert len(split.val) == 15
    assert {name.split("_")[0] for name in split.val}.isdisjoint(name.split("_")[0] for name in split.train)


def test_a_column_that_no_case_has_is_one_stratum_and_noted():
    cases = [Case(f"c{i}", f"c{i}", {}) for i in range(5)]
    split = stratified_split(cases, seed=0)
    assert (len(split.train), len(split.val)) == (4, 1)
    assert split.notes == tuple(
        f"no case has '{column}': the split is balanced by no column" for column in ("grade", "institution")
    )


def test_a_column_that_no_case_has_names_the_strata_by_another():
    cases = [Case(f"c{i}", f"c{i}", {}, institution="AB"[i % 2]) for i in range(20)]
    assert stratified_split(cases, seed=0).notes == ("no case has 'grade': the split is balanced by institution",)


def test_a_stratum_too_small_goes_to_training_and_is_noted():
    split = stratified_split(cohort(HGG_A=10, HGG_B=1, LGG_A=2), test_fraction=0.2, seed=0)
    assert {"HGG_B_000", "LGG_A_000", "LGG_A_001"} <= set(split.train)
    assert split.notes == (
        "stratum HGG B has 1 of the 3 patients that a split takes: all in training",
        "stratum LGG A has 2 of the 3 patients that a split takes: all in training",
    )


@pytest.mark.parametrize(
    ("cases", "options", "message"),
    [
        (
            cohort(HGG_A=1, HGG_B=1, LGG_A=1),
            {},
            "3 cases in 3 strata; validation would be empty, since a stratum needs a",
        ),
        ([], {}, "0 cases in 0 strata; validation would be empty"),
        (cohort(HGG_A=1), {}, "1 cases in 1 strata; validation would be empty"),
        (cohort(HGG_A=2), {"test_fraction": 0.2}, "needs a patient for each of 3 parts"),
        (cohort(HGG_A=1), {"rounding": "floor"}, "training would be empty"),
        (cohort(HGG_A=2)[:1] * 2, {}, "2 cases have 1 names"),
    ],
)
def test_a_split_that_would_be_empty_is_refused(cases, options, message):
    with pytest.raises(CaseError, match=message):
        stratified_split(cases, seed=0, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_fraction": 0.0}, "expected val > 0"),
        ({"val_fraction": 0.6, "test_fraction": 0.4}, "sum below 1"),
        ({"seed": -1}, "--data.split_seed -1: expected a whole number from 0"),
    ],
)
def test_impossible_numbers_are_wrong_options(options, message):
    with pytest.raises(UsageError, match=message):
        stratified_split(cohort(HGG_A=9), **{"seed": 0, **options})


@given(
    st.dictionaries(st.sampled_from(["HGG_A", "HGG_B", "LGG_A", "LGG_C"]), st.integers(1, 30), min_size=1),
    st.floats(0.01, 0.6),
    st.floats(0, 0.35),
    st.integers(0, 99),
)
def test_any_split_is_whole_disjoint_and_trains_on_every_stratum(strata, val, test, seed):
    cases = cohort(**strata)
    if max(strata.values()) <= (2 if test else 1):
        with pytest.raises(CaseError, match="validation would be empty"):
            stratified_split(cases, val_fraction=val, test_fraction=test, seed=seed)
        return
    split = stratified_split(cases, val_fraction=val, test_fraction=test, seed=seed)
    assert sorted(names(split)) == sorted(case.name for case in cases)
    assert split.val
    assert {name[:5] for name in split.train} == set(strata)
    split.require_matches(cases)


@st.composite
def scans(draw) -> list[Case]:
    """Cases of patients with 1 to 4 scans, whose grade and site may differ between scans or be unknown."""
    column = st.sampled_from(["HGG", "LGG", None])
    counts = draw(st.lists(st.integers(1, 4), min_size=2, max_size=25))
    return [
        Case(f"p{patient:02d}_{scan}", f"p{patient:02d}", {}, None, draw(column), draw(st.sampled_from("AB")))
        for patient, count in enumerate(counts)
        for scan in range(count)
    ]


@given(scans(), st.randoms(use_true_random=False), st.integers(0, 99))
def test_no_patient_is_on_two_sides_and_the_order_of_the_cases_does_not_matter(cases, random, seed):
    options = {"val_fraction": 0.3, "by": ("grade",), "seed": seed}
    try:
        split = stratified_split(cases, **options)
    except CaseError as error:
        assert "validation would be empty" in str(error)  # noqa: PT017 - only some examples can be split
        return
    sides = defaultdict(set)
    for part in ("train", "val"):
        for name in getattr(split, part):
            sides[name.split("_")[0]].add(part)
    assert all(len(on) == 1 for on in sides.values())
    assert sorted(names(split)) == [case.name for case in cases]
    shuffled = random.sample(cases, len(cases))
    assert stratified_split(shuffled, **options) == split


@given(
    st.dictionaries(st.sampled_from(["HGG_A", "HGG_B", "LGG_A", "LGG_C"]), st.integers(3, 40), min_size=1),
    st.floats(0.05, 0.4),
    st.floats(0.05, 0.4),
)
def test_each_stratum_is_within_one_of_its_share_and_the_total_is_rounded(strata, val, test):
    split = stratified_split(cohort(**strata), val_fraction=val, test_fraction=test, seed=0)
    for part, fraction in (("val", val), ("test", test)):
        counts = Counter(name[:5] for name in getattr(split, part))
        assert all(abs(counts[key] - fraction * number) <= 1 for key, number in strata.items())
        assert abs(sum(counts.values()) - fraction * sum(strata.values())) <= 1


def test_by_scan_a_patient_may_be_on_both_sides_and_by_patient_not():
    cases = [Case(f"p{i // 20}_{i % 20:02d}", f"p{i // 20}", {}) for i in range(40)]
    sides = {
        grouped: stratified_split(cases, val_fraction=0.5, seed=0, grouped=grouped) for grouped in ("patient", "scan")
    }
    assert {name[:2] for name in sides["scan"].val} == {"p0", "p1"}
    assert {name[:2] for name in sides["patient"].val} in ({"p0"}, {"p1"})
    assert (sides["scan"].grouped, sides["patient"].grouped) == ("scan", "patient")


def test_cases_that_must_share_a_side_do_even_through_a_third():
    cases = cohort(HGG_A=12)
    chain = [["HGG_A_003", "HGG_A_007"], ["HGG_A_000", "HGG_A_003"], ["HGG_A_001", "HGG_A_002"]]
    for seed in range(20):
        split = stratified_split(cases, val_fraction=0.5, seed=seed, together=chain)
        for group in (("HGG_A_000", "HGG_A_003", "HGG_A_007"), ("HGG_A_001", "HGG_A_002")):
            assert len({name in split.val for name in group}) == 1


def test_a_group_that_names_a_case_that_is_not_there_is_refused():
    with pytest.raises(CaseError, match="cases that must share a side are not in the data: x"):
        stratified_split(cohort(HGG_A=9), seed=0, together=[["HGG_A_000", "x"]])


def test_any_column_of_the_case_table_makes_strata():
    cases = [Case(f"c{i:02d}", f"c{i:02d}", {}, extra={"scanner": "Skyra" if i < 10 else "Prisma"}) for i in range(30)]
    split = stratified_split(cases, by=("scanner",), seed=0)
    assert Counter(name < "c10" for name in split.val) == {True: 2, False: 4}


def test_an_unknown_column_is_refused_with_the_nearest_and_the_list():
    cases = [Case("a", "a", {}, extra={"scanner": "Skyra"}), Case("b", "b", {})]
    with pytest.raises(
        UsageError,
        match=r"cannot stratify by \['scaner'\]; did you mean 'scanner'\? known: grade, institution, scanner",
    ):
        stratified_split(cases, by=("scaner",), seed=0)


def test_rounding_down_parts_each_stratum_by_itself_as_worked_by_hand():
    # 11: int(8.8) = 8 train, int(0.5 * 3) = 1 validates, 2 test; 3: int(2.4) = 2, int(0.5) = 0, 1; 1: 0, 0, 1
    cases = cohort(HGG_A=11, HGG_B=3, LGG_A=1)
    split = stratified_split(cases, val_fraction=0.1, test_fraction=0.1, seed=0, rounding="floor")
    counted = [Counter(name[:5] for name in part) for part in (split.train, split.val, split.test)]
    assert counted == [{"HGG_A": 8, "HGG_B": 2}, {"HGG_A": 1}, {"HGG_A": 2, "HGG_B": 1, "LGG_A": 1}]
    assert split.notes == ("stratum LGG A has 1 patient: none in training (rounded down)",)


def test_rounding_down_knows_that_1_minus_nine_tenths_is_a_tenth():
    assert int((1 - (0.5 + 0.4)) * 10) == 0  # what floating point alone gives
    split = stratified_split(cohort(HGG_A=10), val_fraction=0.5, test_fraction=0.4, seed=0, rounding="floor")
    assert (len(split.train), len(split.val), len(split.test)) == (1, 5, 4)
