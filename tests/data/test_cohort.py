from __future__ import annotations

from pathlib import Path

import pytest

from segan_pl.data.case import CaseError
from segan_pl.data.cohort import find_cohort
from segan_pl.errors import UsageError


def write_tree(root: Path, lacking: dict[str, tuple[str, ...]]) -> None:
    """BraTS 2021 names without content; each case lacks some of its files."""
    for name, absent in lacking.items():
        folder = root / name
        folder.mkdir(parents=True)
        for part in ("t1", "t1ce", "t2", "flair", "seg"):
            if part not in absent:
                (folder / f"{name}_{part}.nii.gz").touch()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    lacking = {"BraTS2021_1": (), "BraTS2021_2": ("t2", "t1"), "BraTS2021_3": ("seg",), "BraTS2021_4": ("flair",)}
    write_tree(tmp_path, lacking)
    return tmp_path


def test_incomplete_cases_are_refused_together_by_name(root: Path) -> None:
    with pytest.raises(CaseError, match=r"3 of 4 cases are incomplete: BraTS2021_2 \(no t1, t2\), .*_3 \(no mask\)"):
        find_cohort(root)


def test_dropped_cases_are_named_in_the_notes(root: Path) -> None:
    cohort = find_cohort(root, missing="drop")
    assert [case.name for case in cohort.cases] == ["BraTS2021_1"]
    assert cohort.notes() == [
        "3 cases are incomplete and left out: BraTS2021_2 (no t1, t2), BraTS2021_3 (no mask), BraTS2021_4 (no flair)"
    ]


def test_zero_fills_modalities_but_invents_no_mask(root: Path) -> None:
    cohort = find_cohort(root, missing="zero")
    assert [case.name for case in cohort.cases] == ["BraTS2021_1", "BraTS2021_2", "BraTS2021_4"]
    assert cohort.absent == {"BraTS2021_2": ("t1", "t2"), "BraTS2021_4": ("flair",)}
    assert [case.name for case in cohort.dropped] == ["BraTS2021_3"]
    assert cohort.notes()[1] == (
        "2 cases have zeros for what they lack: BraTS2021_2 (no t1, t2), BraTS2021_4 (no flair)"
    )


def test_a_case_with_none_of_the_modalities_is_left_out_not_filled(root: Path) -> None:
    cohort = find_cohort(root, modalities=["flair"], missing="zero")
    assert [case.name for case in cohort.dropped] == ["BraTS2021_3", "BraTS2021_4"]


def test_without_a_mask_asked_for_a_case_without_one_is_complete(root: Path) -> None:
    cohort = find_cohort(root, modalities=["t1ce"], mask=False)
    assert len(cohort.cases) == 4
    assert not cohort.notes()


def test_the_layout_says_what_the_labels_mean_unless_asked_otherwise(root: Path) -> None:
    scheme = find_cohort(root, labels="regions", missing="drop").scheme
    assert scheme is not None
    assert scheme.name == "regions/brats2017"
    other = find_cohort(root, labels="regions", native_labels="brats2023", missing="drop").scheme
    assert other is not None
    assert other.members[2] == (3,)


def test_modalities_default_to_all_that_occur_in_their_usual_order(tmp_path: Path) -> None:
    write_tree(tmp_path, {"BraTS2021_1": ("t2",), "BraTS2021_2": ("t2",)})
    assert find_cohort(tmp_path).modalities == ("t1", "t1ce", "flair")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["t1c"], "--data.modalities t1c: no case of .* has it, they have t1, t1ce, t2, flair; did you mean 't1ce'"),
        (["t1", "flair", "t1"], "one is given twice"),
    ],
)
def test_what_no_case_has_or_is_given_twice_is_refused(root: Path, asked: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_cohort(root, modalities=asked, missing="zero")


def test_images_whose_names_end_strangely_are_named(root: Path) -> None:
    for name in ("BraTS2021_1", "BraTS2021_3"):
        (root / name / f"{name}_t2_brain.nii.gz").touch()
        (root / name / "notes.txt").touch()
    (note,) = find_cohort(root, missing="drop").source.notes
    assert note.startswith("2 image files in 2 folders of cases are by their names no part of a case and not used: ")
    assert "BraTS2021_1_t2_brain.nii.gz" in note
