from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segan_pl.data.splits import Split, stratified_split
from segan_pl.data.volume import Case, CaseError


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
    assert split.notes == ("no case has a grade: one stratum", "no case has a institution: one stratum")


def test_a_stratum_too_small_goes_to_training_and_is_noted():
    split = stratified_split(cohort(HGG_A=10, HGG_B=1, LGG_A=2), test_fraction=0.2, seed=0)
    assert {"HGG_B_000", "LGG_A_000", "LGG_A_001"} <= set(split.train)
    assert split.notes == (
        "stratum HGG B has 1 of 3 patients: all in training",
        "stratum LGG A has 2 of 3 patients: all in training",
    )


@pytest.mark.parametrize(
    ("cases", "options", "message"),
    [
        (cohort(HGG_A=1, HGG_B=1, LGG_A=1), {}, "3 cases in 3 strata, none with a patient for each of 2 parts"),
        ([], {}, "0 cases in 0 strata"),
        (cohort(HGG_A=9), {"val_fraction": 0.0}, "expected val > 0"),
        (cohort(HGG_A=9), {"val_fraction": 0.6, "test_fraction": 0.4}, "sum below 1"),
        (cohort(HGG_A=9), {"by": ("age",)}, r"cannot stratify by \['age'\]"),
    ],
)
def test_a_split_that_would_be_empty_or_unknown_is_refused(cases, options, message):
    with pytest.raises(CaseError, match=message):
        stratified_split(cases, seed=0, **options)


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


def test_save_then_load_is_the_identity(tmp_path):
    split = stratified_split(cohort(HGG_A=10, HGG_B=1), seed=5)
    split.save(tmp_path / "split.json")
    assert Split.load(tmp_path / "split.json") == split
    assert [path.name for path in tmp_path.iterdir()] == ["split.json"]


def test_a_file_of_two_lists_is_a_split(tmp_path):
    (tmp_path / "s.json").write_text('{"train": ["a", "b"], "val": ["c"]}')
    assert Split.load(tmp_path / "s.json") == Split(("a", "b"), ("c",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as JSON"),
        ('["a"]', "no split; expected"),
        ('{"train": ["a"]}', "no split; expected"),
        ('{"train": "ab", "val": ["c"]}', '"train" is not a list of case names'),
        ('{"train": ["a"], "val": []}', '"val" is empty'),
        ('{"train": ["a"], "val": ["a"]}', "a named twice"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, text, message):
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(CaseError, match=message):
        Split.load(tmp_path / "s.json")


def test_a_split_for_other_data_is_refused_with_both_differences():
    cases = cohort(HGG_A=4)
    split = Split(("HGG_A_000", "x"), ("HGG_A_001", "y"))
    with pytest.raises(
        CaseError, match="names 2 cases that the data lacks: x, y; the data has 2 that the split lacks: "
    ):
        split.require_matches(cases)


def test_a_patient_on_two_sides_is_refused():
    cases = [Case("p1_1", "p1", {}), Case("p1_2", "p1", {}), Case("p2_1", "p2", {})]
    with pytest.raises(CaseError, match=r"patients on two sides: p1 \(train, val\)"):
        Split(("p1_1", "p2_1"), ("p1_2",)).require_matches(cases)


def test_leftovers_and_cases_set_aside_become_notes():
    cases = cohort(HGG_A=5)
    split = Split(("HGG_A_000", "HGG_A_001"), ("HGG_A_002",), notes=("before",))
    matched = split.require_matches(cases[:1] + cases[2:], dropped=cases[1:2])
    assert matched.train == ("HGG_A_000",)
    assert matched.notes == (
        "before",
        "1 cases of the split cannot be used and are left out: HGG_A_001",
        "2 cases are in no part of the split and not used: HGG_A_003, HGG_A_004",
    )
    assert matched.require_matches(cases[:1] + cases[2:]) == matched


def test_a_validation_emptied_by_what_was_set_aside_is_refused():
    cases = cohort(HGG_A=2)
    with pytest.raises(CaseError, match='"val" is empty'):
        Split(("HGG_A_000",), ("HGG_A_001",)).require_matches(cases[:1], dropped=cases[1:])


@pytest.mark.real_data
def test_the_splits_of_lgg_fit_its_complete_cases(real_data_root):
    from segan_pl.data.layouts import find_cases, require_modalities

    complete, dropped = require_modalities(find_cases(real_data_root / "lgg"), ("t1", "t1ce", "flair"), allow=True)
    for path in sorted((real_data_root / "lgg/splits").glob("*.json")):
        matched = Split.load(path).require_matches(complete, dropped=dropped)
        assert (len(matched.train), len(matched.val), matched.notes) == (40, 10, ())
        assert set(json.loads(path.read_text())["val"]) == set(matched.val)
