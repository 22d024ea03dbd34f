"""What holds for many cases is said once."""

from __future__ import annotations

from segan_pl.data.case_pool import grouped

TRAILING = "trailing axes of 1 dropped from [256, 128, 256, 1]"


def test_a_note_that_many_cases_share_is_one_line() -> None:
    notes = [(f"c{number}", f"c{number}: t1: geometry assumed") for number in range(1000)]
    assert grouped(notes) == ("1000 cases: t1: geometry assumed: c0, c1, c2 and 997 more",)


def test_a_note_of_several_files_of_several_cases_is_one_line() -> None:
    notes = [(case, f"{case}: {part}: {TRAILING}") for case in ("a", "b") for part in ("t1", "mask")]
    assert grouped(notes) == (f"2 cases: t1, mask: {TRAILING}: a, b",)


def test_a_note_of_one_case_names_it_whether_it_did_or_not() -> None:
    notes = [("a", "a: t1 and t2 are the same file"), ("b", "the segmentation is empty")]
    assert grouped(notes) == ("a: t1 and t2 are the same file", "b: the segmentation is empty")


def test_what_differs_in_a_number_stays_apart() -> None:
    notes = [("a", "a: t1: 3 voxels are NaN"), ("b", "b: t1: 4 voxels are NaN")]
    assert grouped(notes) == ("a: t1: 3 voxels are NaN", "b: t1: 4 voxels are NaN")
