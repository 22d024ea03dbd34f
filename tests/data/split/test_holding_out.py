"""A value of a column held out as the test part: nobody of it trains, not even without labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segan_pl.data.case import Case, CaseError
from segan_pl.data.module import MRIDataModule
from segan_pl.data.split.choice import UnlabelledCases, expected_in
from segan_pl.data.split.drawing import stratified_folds, stratified_split
from segan_pl.data.split.holding_out import part_held_out, with_held_out
from segan_pl.data.split.record import Split, case_digest
from segan_pl.data.synthetic.healthy import make_healthy_cohort
from segan_pl.errors import UsageError

MASK = Path("mask.nii")


def cases(sites: str, mask: Path | None = MASK) -> list[Case]:
    """A case of each letter, which is its institution, named after its place too."""
    return [Case(f"{site}{place}", f"{site}{place}", {}, mask, institution=site) for place, site in enumerate(sites)]


def held_out(found: Sequence[Case], text: str = "institution=C", **options: object) -> Split:
    rest, held = part_held_out(found, text, **options)  # type: ignore[arg-type]
    return with_held_out(stratified_split(rest, val_fraction=0.3, seed=0), rest, held, text)


@given(st.text("ABC", min_size=8, max_size=30).filter(lambda sites: min(map(sites.count, "ABC")) > 1))
def test_the_test_part_is_all_of_the_value_and_the_rest_is_drawn_as_if_it_were_not_there(sites):
    found = cases(sites)
    split = held_out(found)
    assert set(split.test) == {case.name for case in found if case.institution == "C"}
    alone = stratified_split([case for case in found if case.institution != "C"], val_fraction=0.3, seed=0)
    assert (split.train, split.val) == (alone.train, alone.val)
    assert split.digest == case_digest(found)
    assert split.require_matches(found).notes == split.notes


def test_a_patient_with_one_scan_of_the_value_is_held_out_with_all_of_them():
    found = [*cases("AABB"), Case("x1", "x", {}, MASK, institution="A"), Case("x2", "x", {}, MASK, institution="C")]
    assert set(held_out(found).test) == {"x1", "x2"}
    assert set(held_out(found, grouped="scan").test) == {"x2"}
    assert set(held_out(found, grouped="scan", together=[["A0", "x2"]]).test) == {"A0", "x2"}


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("institution", UsageError, "--hold_out institution: expected COLUMN=VALUE, e.g. institution=C"),
        ("institution=D", UsageError, "--hold_out institution=D: no case with a mask has that value; they have A, C"),
        ("grade=HGG", UsageError, "no case with a mask has that value; no case has that column"),
        ("scanner=C", UsageError, r"--hold_out scanner=C: the case table has no column \['scanner'\]; "),
    ],
)
def test_what_cannot_be_held_out_is_refused_in_one_line(text, error, message):
    with pytest.raises(error, match=message):
        part_held_out(cases("AACC"), text)


def test_with_nobody_left_to_train_it_is_refused():
    with pytest.raises(CaseError, match="all 3 cases have it, none is left to train; choose another"):
        part_held_out(cases("CCC"), "institution=C")


def test_cases_without_a_mask_of_the_value_do_not_train_either():
    found = cases("AABBCC")
    bare = [Case(name, name, {}, None, institution=name[0]) for name in ("A_bare", "C_bare")]
    split = UnlabelledCases("use").part(held_out(found), [*found, *bare])
    assert split.unlabelled == ("A_bare",)
    assert split.notes[-1].startswith("1 cases without a mask have institution=C, which is held out, and are not used")
    assert {case.name for case in expected_in(split, [*found, *bare])} == split.named


def test_a_file_keeps_what_is_held_out_and_a_split_without_does_not_name_it(tmp_path):
    split = held_out(cases("AABBCC"))
    split.save(tmp_path / "s.json")
    assert Split.load(tmp_path / "s.json") == split
    assert '"held_out": "institution=C"' in (tmp_path / "s.json").read_text()
    Split(("a",), ("b",)).save(tmp_path / "t.json")
    assert "held_out" not in (tmp_path / "t.json").read_text()
    (tmp_path / "t.json").write_text('{"train": ["a"], "val": ["b"], "held_out": 3}')
    with pytest.raises(CaseError, match=r'"held_out" is not a text, COLUMN=VALUE; fix the file'):
        Split.load(tmp_path / "t.json")


def test_a_run_by_the_file_never_sees_the_scanner_that_is_held_out(tmp_path):
    root = tmp_path / "ibsr"
    make_healthy_cohort(root, form="ibsr18", subjects=9, unlabelled=3, shape=(4, 8, 8))
    options = {"labels": "labels", "modalities": ["t1"], "unlabelled": "use", "patch": [8, 8]}
    plain = MRIDataModule(str(root), **options)
    labelled = [case for case in plain.cohort.cases if case.mask]
    held_out(labelled).save(tmp_path / "s.json")  # drawn without those that have no mask
    data = MRIDataModule(str(root), split_file=str(tmp_path / "s.json"), **options)
    data.find()
    assert data.split is not None
    scanner = {case.name: case.institution for case in data.cohort.cases}
    assert {scanner[name] for name in data.split.test} == {"C"}
    assert data.split.unlabelled == ("IBSR_10", "IBSR_11")
    assert {scanner[name] for name in (*data.split.train, *data.split.val, *data.split.unlabelled)} == {"A", "B"}
    assert any("1 cases without a mask have institution=C" in note for note in data.notes())


def test_each_subject_is_left_out_once_with_as_many_folds_as_subjects():
    found = cases("AAABBC")
    folds = stratified_folds(found, folds=6, seed=0)
    assert sorted(fold.val for fold in folds) == sorted((case.name,) for case in found)
    assert all(len(fold.train) == 5 and not fold.test for fold in folds)
    bare = Case("bare", "bare", {}, None, institution="A")
    assert all(UnlabelledCases("use").part(fold, [*found, bare]).unlabelled == ("bare",) for fold in folds)
