"""Folds, presets and balance tables."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.split_tables import alike, brats_2015, brats_2019, tables
from segan_pl.data.case import Case, CaseError
from segan_pl.data.split.balance import balance_of, render
from segan_pl.data.split.drawing import stratified_folds
from segan_pl.data.split.presets import PRESETS, preset_split
from segan_pl.data.split.record import Split
from segan_pl.errors import UsageError

PAGE = Path(__file__).parents[3] / "docs" / "splits.md"
STRATA = st.dictionaries(
    st.sampled_from(["HGG_A", "HGG_B", "HGG_C", "LGG_A", "LGG_C"]), st.integers(1, 30), min_size=1
).filter(lambda strata: sum(strata.values()) >= 12)


def cohort(strata: dict[str, int]) -> list[Case]:
    """So many patients of each GRADE_SITE, every third with two scans."""
    return [
        Case(f"{key}_{i:02d}_{scan}", f"{key}_{i:02d}", {}, None, *key.split("_"))
        for key, count in strata.items()
        for i in range(count)
        for scan in range(2 if i % 3 == 0 else 1)
    ]


def patients(names: tuple[str, ...]) -> set[str]:
    return {name[:8] for name in names}


@given(STRATA, st.integers(2, 6), st.sampled_from([0.0, 0.2]), st.integers(0, 99))
def test_each_patient_validates_once_and_the_folds_are_as_even_as_they_can_be(strata, number, test, seed):
    cases = cohort(strata)
    if test and max(strata.values()) == 1:
        return
    folds = stratified_folds(cases, folds=number, test_fraction=test, seed=seed)
    left = {case.patient for case in cases} - patients(folds[0].test)
    assert Counter(patient for fold in folds for patient in patients(fold.val)) == dict.fromkeys(left, 1)
    for fold in folds:
        assert sorted((*fold.train, *fold.val, *fold.test)) == sorted(case.name for case in cases)
        assert fold.test == folds[0].test
        assert not patients(fold.train) & patients(fold.val)
        assert not patients(fold.test) & (patients(fold.val) | patients(fold.train))
    for prefix in ("", "HGG", "LGG", *strata):  # in all, in each grade, in each stratum
        sizes = [sum(patient.startswith(prefix) for patient in patients(fold.val)) for fold in folds]
        assert max(sizes) - min(sizes) <= 1
    assert stratified_folds(cases[::-1], folds=number, test_fraction=test, seed=seed) == folds


@given(STRATA, st.integers(2, 4), st.integers(2, 4), st.integers(0, 99))
def test_nested_each_patient_tests_once_and_validates_once_in_every_other_outer_fold(strata, outer, inner, seed):
    cases = cohort(strata)
    splits = stratified_folds(cases, folds=outer, nested=inner, seed=seed)
    assert [split.name for split in splits] == [f"outer {o} inner {i}" for o in range(outer) for i in range(inner)]
    tested = Counter(patient for split in splits[::inner] for patient in patients(split.test))
    assert tested == dict.fromkeys({case.patient for case in cases}, 1)
    for start in range(0, len(splits), inner):
        group = splits[start : start + inner]
        assert len({split.test for split in group}) == 1
        validated = Counter(patient for split in group for patient in patients(split.val))
        assert validated == dict.fromkeys({case.patient for case in cases} - patients(group[0].test), 1)
        for split in group:
            split.require_matches(cases)


def test_small_strata_do_not_all_begin_with_the_first_fold():
    folds = stratified_folds(cohort(dict.fromkeys(["HGG_A", "HGG_B", "HGG_C", "LGG_A", "LGG_C"], 1)), folds=5, seed=0)
    assert [len(patients(fold.val)) for fold in folds] == [1] * 5


def test_the_seed_decides_the_folds():
    first, second = (stratified_folds(alike(20), folds=4, seed=seed) for seed in (0, 1))
    assert [fold.val for fold in first] != [fold.val for fold in second]


def test_a_stratum_smaller_than_the_folds_is_noted():
    (note,) = stratified_folds(cohort({"HGG_A": 9, "HGG_B": 2}), folds=3, seed=0)[0].notes
    assert note == "stratum HGG B has 2 patients for 3 folds: not in every validation part"


def test_a_stratum_of_one_patient_is_not_in_the_test_part_and_noted():
    folds = stratified_folds(cohort({"HGG_A": 9, "LGG_B": 1}), folds=2, test_fraction=0.3, seed=0)
    assert folds[0].notes[0] == "stratum LGG B has 1 patient: not in the test part"
    assert len(patients(folds[0].test)) == 3  # 0.3 * 9 = 2.7
    assert not any(name.startswith("LGG") for name in folds[0].test)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_keeps_what_must_share_a_side_together(name):
    cases = brats_2019()
    pair = [cases[0].name, cases[-1].name]
    for seed in range(12):
        split = preset_split(name, cases, seed=seed, together=[pair])
        split.require_matches(cases, together=[pair])


def test_cases_that_must_share_a_side_validate_in_the_same_fold():
    for fold in stratified_folds(alike(9), folds=3, seed=0, together=[["case_0000", "case_0005"]]):
        assert ("case_0000" in fold.val) == ("case_0005" in fold.val)


@pytest.mark.parametrize(
    ("number", "options", "error", "message"),
    [
        (3, {"folds": 5}, CaseError, "3 patients for 5 folds; validation would be empty in 2; use fewer folds"),
        (0, {"folds": 2}, CaseError, "0 patients for 2 folds"),
        (4, {"folds": 2, "nested": 3}, CaseError, "2 patients for 3 inner folds"),
        (9, {"folds": 1}, UsageError, "1 folds, 0 inner folds; expected at least 2"),
        (9, {"folds": 2, "nested": 1}, UsageError, "2 folds, 1 inner folds; expected at least 2"),
        (9, {"folds": 2, "nested": 2, "test_fraction": 0.1}, UsageError, "the outer folds as test parts"),
        (9, {"folds": 2, "test_fraction": 1.0}, UsageError, "expected from 0 to below 1"),
        (1, {"folds": 2, "test_fraction": 0.2}, CaseError, "the test part would be empty"),
    ],
)
def test_impossible_folds_are_refused_with_the_numbers(number, options, error, message):
    with pytest.raises(error, match=message):
        stratified_folds(alike(number), seed=0, **options)


def sizes(split: Split) -> tuple[int, int, int]:
    return len(split.train), len(split.val), len(split.test)


def test_segan_cat_2015_gives_the_authors_counts_by_scan():
    split = preset_split("segan_cat_2015", brats_2015(), seed=0, grouped="scan")
    counts = [Counter(name[:3] for name in part) for part in (split.train, split.val, split.test)]
    assert counts == [{"HGG": 176, "LGG": 43}, {"HGG": 22, "LGG": 5}, {"HGG": 22, "LGG": 6}]
    merged = preset_split("segan_cat_2015_paper", brats_2015(), seed=0, grouped="scan")
    assert sizes(merged) == (219, 55, 0)


def test_segan_cat_2015_by_patient_leaks_none():
    split = preset_split("segan_cat_2015", brats_2015(), seed=0)
    assert split.require_matches(brats_2015()) == split
    # 144 HGG patients: 115, 14, 15; 54 LGG: 43, 5, 6
    assert [len({name.rsplit("_")[0] for name in part}) for part in (split.train, split.val, split.test)] == [
        158,
        19,
        21,
    ]


@pytest.mark.parametrize(
    ("name", "number", "expected"),
    [("albunet", 285, (228, 57, 0)), ("reciprocal", 1251, (1000, 251, 0)), ("reciprocal_code", 1251, (1125, 126, 0))],
)
def test_the_other_papers_counts(name, number, expected):
    assert sizes(preset_split(name, alike(number), seed=0)) == expected


def test_the_rules_for_2019_give_the_authors_totals_on_a_generated_list():
    assert sizes(preset_split("segan_cat_2019", brats_2019(), seed=0)) == (294, 41, 0)
    assert sizes(preset_split("segan_cat_2019_v2", brats_2019(), seed=0)) == (227, 49, 59)


def test_the_generated_lists_have_the_published_totals():
    assert Counter(case.grade for case in brats_2019()) == {"HGG": 259, "LGG": 76}
    assert Counter(case.grade for case in brats_2015()) == {"HGG": 220, "LGG": 54}
    scans = Counter(case.patient for case in brats_2015())
    assert (len(scans), sum(n for n in scans.values() if n > 1), sum(n > 1 for n in scans.values())) == (198, 96, 20)


def test_an_unknown_preset_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match="--preset albunett: no such preset; did you mean 'albunet'"):
        preset_split("albunett", alike(9), seed=0)


def test_a_balance_table_counts_scans_and_patients_as_worked_by_hand():
    cases = [
        Case(f"{p}{i}", p, {}, None, g)
        for p, g, n in (("a", "HGG", 3), ("b", "HGG", 1), ("c", "LGG", 2))
        for i in range(n)
    ]
    scans, people = balance_of([Split(("a0", "a1", "a2", "c0", "c1"), ("b0",))], cases, ("grade", "institution"))
    assert (scans.title, scans.columns) == ("scans", ("train", "val"))
    assert scans.rows == (("HGG", 4, (3, 1)), ("LGG", 2, (2, 0)), ("all", 6, (5, 1)))
    assert people.rows == (("HGG", 2, (1, 1)), ("LGG", 1, (1, 0)), ("all", 3, (2, 1)))
    assert render(scans).splitlines()[:3] == [
        "scans:",
        "stratum  total       train        val",
        "HGG          4   3 (75.0%)  1 (25.0%)",
    ]
    assert render(scans, "markdown").splitlines()[2:5] == [
        "| stratum | total |      train |       val |",
        "| ------- | ----: | ---------: | --------: |",
        "| HGG     |     4 |  3 (75.0%) | 1 (25.0%) |",
    ]


def test_the_page_shows_the_tables_that_the_code_makes():
    page = PAGE.read_text(encoding="utf-8")
    shown = list(tables())
    assert len(shown) == len(PRESETS) + 4
    for options, text in shown:
        assert f"### `{options}`\n\n{text.strip()}" in page
