"""A split as a record: its files, and the data that it fits."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segan_pl.data.case import Case, CaseError
from segan_pl.data.split.drawing import stratified_folds, stratified_split
from segan_pl.data.split.record import Split, case_digest, load_folds, save_folds
from segan_pl.errors import UsageError


def alike(number: int) -> list[Case]:
    """Cases c0, c1, ..., each of its own patient."""
    return [Case(f"c{i}", f"c{i}", {}) for i in range(number)]


def of(**parts: str) -> Split:
    """A split of names written as one text."""
    return Split(**{part: tuple(names.split()) for part, names in parts.items()})


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=3, max_size=9, unique=True),
    st.none() | st.integers(0),
    st.lists(st.text(st.characters(exclude_categories=["Cs"]))),
    st.sampled_from(["patient", "scan"]),
)
def test_save_then_load_is_the_identity_for_any_names(tmp_path_factory, names, seed, notes, grouped):
    split = Split(tuple(names[2:]), (names[0],), (names[1],), seed, tuple(notes), "0f", grouped, "fold 0")
    path = tmp_path_factory.getbasetemp() / "any.json"
    split.save(path)
    assert Split.load(path) == split
    save_folds([split, split], path)
    assert load_folds(path) == [split, split]


def test_saving_leaves_one_file_and_the_same_bytes_each_time(tmp_path):
    path = tmp_path / "split.json"
    stratified_split(alike(10), seed=5).save(path)
    first = path.read_bytes()
    stratified_split(alike(10)[::-1], seed=5).save(path)
    assert path.read_bytes() == first
    assert [found.name for found in tmp_path.iterdir()] == ["split.json"]


def test_a_failed_save_keeps_the_file_that_was_there(tmp_path, monkeypatch):
    path = tmp_path / "split.json"
    of(train="a", val="b").save(path)
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("no space left")))
    with pytest.raises(OSError, match="no space left"):
        of(train="c", val="d").save(path)
    assert Split.load(path) == of(train="a", val="b")
    assert [found.name for found in tmp_path.iterdir()] == ["split.json"]


def test_a_file_of_two_lists_is_a_split(tmp_path):
    (tmp_path / "s.json").write_text('{"train": ["a", "b"], "val": ["c"]}')
    assert Split.load(tmp_path / "s.json") == of(train="a b", val="c")


def test_a_file_of_the_first_version_loads_without_digest(tmp_path):
    old = {"train": ["a"], "val": ["b"], "test": ["c"], "seed": 3, "notes": ["n"]}
    (tmp_path / "s.json").write_text(json.dumps(old))
    assert Split.load(tmp_path / "s.json") == Split(("a",), ("b",), ("c",), 3, ("n",))


def test_nnunets_splits_final_is_read_fold_by_fold(tmp_path):
    path = tmp_path / "splits_final.json"
    path.write_text('[{"train": ["a", "b"], "val": ["c"]}, {"train": ["c", "b"], "val": ["a"]}]')
    assert Split.load(path, 1) == of(train="c b", val="a")


def test_folds_written_for_nnunet_are_its_list_of_two_lists(tmp_path):
    path = tmp_path / "splits_final.json"
    folds = stratified_folds(alike(7), folds=3, seed=0)
    save_folds(folds, path, "nnunet")
    found = json.loads(path.read_text())
    assert [set(fold) for fold in found] == [{"train", "val"}] * 3
    assert sorted(name for fold in found for name in fold["val"]) == [f"c{i}" for i in range(7)]
    assert [(fold.train, fold.val) for fold in load_folds(path)] == [(fold.train, fold.val) for fold in folds]


@pytest.mark.parametrize(
    ("fold", "message"),
    [
        (None, r"holds 3 folds; choose one of 0 to 2 with --data\.fold"),
        (3, "no fold 3; it holds the folds 0 to 2"),
        (-1, "no fold -1; it holds the folds 0 to 2"),
    ],
)
def test_a_fold_that_is_not_there_is_refused_with_the_range(tmp_path, fold, message):
    save_folds(stratified_folds(alike(6), folds=3, seed=0), tmp_path / "f.json")
    with pytest.raises(UsageError, match=message):
        Split.load(tmp_path / "f.json", fold)


def test_a_fold_of_a_file_with_one_split_is_refused(tmp_path):
    of(train="a", val="b").save(tmp_path / "s.json")
    with pytest.raises(UsageError, match=r"no fold 1; it holds one split; leave out --data\.fold"):
        Split.load(tmp_path / "s.json", 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[" * 100000, "cannot be read as JSON"),
        ("3", "no split; expected"),
        ("[]", "no split; expected"),
        ('["a"]', "no split; expected"),
        ('{"folds": {}}', "no split; expected"),
        ('{"train": ["a"]}', '"val" is empty'),
        ('[{"train": ["a"], "val": ["b"]}, {"train": ["a"]}]', 'fold 1: "val" is empty'),
        ('{"train": "ab", "val": ["c"]}', '"train" is not a list of case names'),
        ('{"train": ["a", 1], "val": ["c"]}', '"train" is not a list of case names'),
        ('{"train": ["a"], "val": []}', '"val" is empty'),
        ('{"train": [], "val": ["a"]}', '"train" is empty'),
        ('{"train": ["a"], "val": ["a"]}', "a named twice"),
        ('[{"train": ["a"], "val": ["b"]}, {"train": ["a"], "val": ["a"]}]', "fold 1: a named twice"),
        ('{"train": ["a"], "val": ["b"], "grouped": "site"}', '"grouped" is not "patient" or "scan"'),
        ('{"train": ["a"], "val": ["b"], "seed": "x"}', '"seed" is not a whole number'),
        ('{"train": ["a"], "val": ["b"], "notes": "x"}', '"notes" is not a list of texts'),
        ('{"train": ["a"], "val": ["b"], "digest": 5}', '"digest" is not a text'),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, text, message):
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(CaseError, match=message):
        load_folds(tmp_path / "s.json")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"none\.json: no such file"):
        Split.load(tmp_path / "none.json")


def test_the_digest_depends_on_names_and_patients_and_not_on_the_order():
    cases = alike(4)
    assert case_digest(cases) == case_digest(cases[::-1])
    others = [cases[1:], [*cases[:3], Case("x", "c3", {})], [*cases[:3], Case("c3", "x", {})]]
    assert len({case_digest(cases), *map(case_digest, others)}) == 4


def test_a_drawn_split_fits_its_data_and_nothing_changes():
    split = stratified_split(alike(9), seed=0)
    assert split.digest == case_digest(alike(9))
    assert split.require_matches(alike(9)) == split


def test_a_split_for_other_data_is_refused_with_both_differences():
    with pytest.raises(
        CaseError,
        match="names 2 cases that the data lacks: x, y; the data has 2 that the split lacks: c2, c3; choose the split",
    ):
        of(train="c0 x", val="c1 y").require_matches(alike(4))


def test_a_split_that_leaves_cases_out_is_refused_unless_they_are_ignored():
    split = of(train="c0", val="c1")
    with pytest.raises(
        CaseError, match="leaves out 2 of the data's 4 cases: c2, c3; it names none that the data lacks"
    ):
        split.require_matches(alike(4))
    matched = split.require_matches(alike(4), leftovers="ignore")
    assert matched.notes == ("2 cases are in no part of the split and not used: c2, c3",)


def test_a_patient_on_two_sides_is_refused_unless_allowed():
    cases = [Case("p1_1", "p1", {}), Case("p1_2", "p1", {}), Case("p2_1", "p2", {})]
    split = of(train="p1_1 p2_1", val="p1_2")
    with pytest.raises(CaseError, match=r"the split has patients on two sides: p1 \(train, val\)"):
        split.require_matches(cases)
    noted = ("1 patients are on two sides of the split: p1 (train, val)",)
    assert split.require_matches(cases, leaks="allow").notes == noted
    assert replace(split, grouped="scan").require_matches(cases).notes == noted


def test_one_content_on_two_sides_is_refused_unless_allowed():
    split = of(train="c0 c1", val="c2")
    groups = [["c0", "c1"], ["c1", "c2"]]
    with pytest.raises(CaseError, match=r"cases with the same content on two sides: \{c1, c2\} \(train, val\)"):
        split.require_matches(alike(3), together=groups)
    assert "{c1, c2} (train, val)" in split.require_matches(alike(3), together=groups, leaks="allow").notes[0]


def test_the_same_names_with_other_patients_are_refused_unless_allowed():
    split = stratified_split(alike(6), seed=0)
    others = [Case(case.name, f"patient {case.name}", {}) for case in alike(6)]
    with pytest.raises(
        CaseError, match=r"made for the same 6 case names, but for other patients \(its digest is \w{12},"
    ):
        split.require_matches(others)
    matched = split.require_matches(others, leaks="allow")
    assert matched.notes[-1] == "the split was made for the same 6 case names, but for other patients"
    assert matched.digest == case_digest(others)


def test_cases_that_came_since_can_be_ignored_and_are_no_other_patients():
    split = stratified_split(alike(5), seed=0)
    matched = split.require_matches(alike(7), leftovers="ignore")
    assert matched.notes[-1] == "2 cases are in no part of the split and not used: c5, c6"
    assert matched.digest == split.digest


def test_cases_set_aside_become_a_note_and_the_rest_fits_again_without_another():
    split = replace(stratified_split(alike(5), seed=0), notes=("before",))
    gone = split.train[0]
    left = [case for case in alike(5) if case.name != gone]
    matched = split.require_matches(left, dropped=[Case(gone, gone, {})])
    assert set(matched.train) == set(split.train) - {gone}
    assert matched.notes == ("before", f"1 cases of the split cannot be used and are left out: {gone} (train: no mask)")
    assert matched.require_matches(left) == matched


def test_a_validation_emptied_by_what_was_set_aside_is_refused():
    with pytest.raises(CaseError, match='"val" is empty'):
        of(train="c0", val="c1").require_matches(alike(1), dropped=alike(2)[1:])


@pytest.mark.real_data
def test_the_splits_of_lgg_fit_its_complete_cases(real_data_root):
    from segan_pl.data.layouts import find_cases, require_modalities

    complete, dropped = require_modalities(find_cases(real_data_root / "lgg"), ("t1", "t1ce", "flair"), allow=True)
    paths = sorted((real_data_root / "lgg/splits").glob("*.json"))
    assert len(paths) == 3
    for path in paths:
        matched = Split.load(path).require_matches(complete, dropped=dropped)
        assert (len(matched.train), len(matched.val), matched.notes) == (40, 10, ())
        assert set(json.loads(path.read_text())["val"]) == set(matched.val)


@pytest.mark.parametrize("key", ["unlabelled", "unlabeled"])
def test_cases_to_train_on_without_labels_are_a_part_of_their_own(tmp_path, key):
    path = tmp_path / "s.json"
    path.write_text(json.dumps({"train": ["a"], "val": ["b"], key: []}))
    assert Split.load(path).notes == ()
    assert "unlabelled" not in Split.load(path).as_dict()
    path.write_text(json.dumps({"train": ["a"], "val": ["b"], key: ["c"]}))
    split = Split.load(path)
    assert (split.unlabelled, split.notes, split.named) == (("c",), (), {"a", "b", "c"})
    split.save(tmp_path / "again.json")
    assert Split.load(tmp_path / "again.json") == split
    path.write_text(json.dumps({"train": ["a"], "val": ["b"], key: ["a"]}))
    with pytest.raises(CaseError, match="a named twice"):
        Split.load(path)


def test_a_patient_may_train_with_and_without_labels_but_not_validate_too():
    cases = [Case(name, patient, {}) for name, patient in (("a", "p"), ("b", "q"), ("c", "p"), ("d", "q"))]
    split = of(train="a", val="b d", unlabelled="c")
    assert split.require_matches(cases).notes == ()
    with pytest.raises(CaseError, match=r"patients on two sides: q \(train, val\)"):
        of(train="a", val="b", unlabelled="c d").require_matches(cases)


def test_keys_that_mean_nothing_are_noted_with_what_was_meant(tmp_path):
    path = tmp_path / "s.json"
    path.write_text(json.dumps({"train": ["a"], "val": ["b"], "tset": ["c"], "author": "me", "notes": ["old"]}))
    assert Split.load(path).notes == ("old", f'{path}: not read: "tset" (did you mean test?), "author"')


@pytest.mark.parametrize(("of_split", "of_data"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_in_another_unicode_form_are_the_same_names(of_split, of_data):
    def cases(form: str) -> list[Case]:
        return [Case(name, name, {}) for name in (unicodedata.normalize(form, f"Jos\u00e9{i}") for i in range(5))]

    drawn = stratified_split(cases(of_split), seed=1)
    drawn = drawn.require_matches(cases(of_split))  # with the digest of these patients
    matched = drawn.require_matches(cases(of_data))
    assert matched.named == {case.name for case in cases(of_data)}
    assert [unicodedata.normalize(of_split, name) for name in matched.val] == list(drawn.val)
    with pytest.raises(CaseError, match="for other patients"):
        drawn.require_matches([Case(case.name, "x", {}) for case in cases(of_data)])
