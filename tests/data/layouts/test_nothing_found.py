"""What is said of a folder without a case."""

from __future__ import annotations

from pathlib import Path

import pytest

from segan_pl.data.case import CaseError
from segan_pl.data.layouts import find_cases
from segan_pl.data.layouts.nothing_found import FOLDERS
from tests.data.layouts.test_layouts import touch


def said(root: Path, layout: str = "auto") -> str:
    with pytest.raises(CaseError) as error:
        find_cases(root, layout)
    return str(error.value).removeprefix(f"{root}: ")


def dicom(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\0" * 128 + b"DICM")


def test_folders_of_dicom_are_told_with_the_way_to_convert_them(tmp_path: Path) -> None:
    for name in ("a/IM0001", "b/1.2.840.7", "c/x.dcm"):
        dicom(tmp_path / name)
    assert said(tmp_path).startswith("no cases found; it holds 3 DICOM files in 3 folders (e.g. IM0001); convert them")


def test_a_folder_above_or_below_that_holds_the_data_set_is_named(tmp_path: Path) -> None:
    touch(tmp_path / "x/y/z/Training", "HGG/BraTS19_CBICA_AAA_1")
    below = f"no cases found; the data set is further down: give --root {tmp_path}/x/y/z/Training (layout 'brats2019')"
    assert said(tmp_path) == below
    case = tmp_path / "x/y/z/Training/HGG/BraTS19_CBICA_AAA_1"
    assert f"the data set is above: give --root {tmp_path}/x/y/z/Training (layout" in said(case)


def test_another_layout_than_was_asked_for_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "BraTS2021_00000")
    assert said(tmp_path, "brats2023").endswith("the folder is of layout 'brats2021': give --data.layout brats2021")


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("p1/p1_flair.nii.gz", "layout 'brats2021' would expect BraTS2021_"),
        ("p1/p1-t2f.nii.gz", "layout 'brats2023' would expect"),
        ("a_0000.nii.gz", "layout 'nnunet' would expect dataset.json"),
        ("brain.nii.gz", "(e.g. brain.nii.gz); rename and move them, or list the files in a CSV manifest"),
        ("BraTS.zip", "it holds 1 archive in 1 folder (e.g. BraTS.zip); unpack them"),
        ("slice.png", "it holds 1 .png file in 1 folder (e.g. slice.png); check --root: expected NIfTI"),
    ],
)
def test_what_lies_there_and_the_nearest_layout_are_told(tmp_path: Path, file: str, words: str) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).touch()
    assert words in said(tmp_path)


def test_a_table_of_cases_under_another_name_is_proposed(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("case,t1\na,a.nii.gz\n")
    assert said(tmp_path).endswith(f"if list.csv lists the cases, give it: --root {tmp_path}/list.csv")


def test_an_empty_folder_and_one_of_very_many_are_told_in_one_line(tmp_path: Path) -> None:
    assert "it holds no file; check --root" in said(tmp_path)
    for number in range(FOLDERS + 10):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}/x.txt").touch()
    assert "\n" not in said(tmp_path)
