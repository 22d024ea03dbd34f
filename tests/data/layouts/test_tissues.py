"""The data sets of a healthy brain's tissues: found in each form, with what a header or a name tells."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from segan_pl.data.case import CaseError
from segan_pl.data.cohort import find_cohort
from segan_pl.data.io import read_volume
from segan_pl.data.layouts import find_cases, find_data_set
from segan_pl.data.layouts.tissues import scanner_of
from segan_pl.data.synthetic.healthy import HEALTHY_FORMS, make_healthy_cohort
from tests.data.layouts.test_forms import bare, empty

SHAPE = (8, 16, 16)
CONVENTIONS = {"iseg": "iseg", "mrbrains13": "mrbrains13_training", "mrbrains18": "mrbrains18", "ibsr18": "ibsr18"}


def files(root: Path, *names: str) -> None:
    for name in names:
        empty(root / name)


@pytest.mark.parametrize("form", HEALTHY_FORMS)
def test_each_form_is_found_by_itself_with_its_unlabelled_subjects(tmp_path, form):
    names = make_healthy_cohort(tmp_path / "downloaded", form=form, subjects=2, unlabelled=2, shape=SHAPE)
    found = find_data_set(tmp_path)
    assert (found.layout, found.native_labels) == (form, CONVENTIONS[form])
    assert [case.name for case in found.cases] == sorted(names)
    assert {case.name for case in found.cases if case.mask} == set(names[:2])
    assert all(set(case.images) == set(HEALTHY_FORMS[form].modalities) for case in found.cases)
    assert all(case.patient == case.name and case.grade is None for case in found.cases)
    assert find_data_set(tmp_path / "downloaded", form) == found
    with pytest.raises(CaseError, match=r"2 of 4 cases are incomplete.*--data.unlabelled use"):
        find_cohort(tmp_path, labels="labels")
    assert len(find_cohort(tmp_path, labels="labels", unlabelled=True).cases) == 4


@pytest.mark.parametrize("form", HEALTHY_FORMS)
def test_cases_of_another_layout_in_the_same_folder_are_refused_with_both_named(tmp_path, form):
    make_healthy_cohort(tmp_path, form=form, subjects=1, shape=SHAPE)
    bare(tmp_path, "brats2021", 1)
    with pytest.raises(CaseError, match=rf"several data sets: .*\(brats2021\), .*\({form}\)"):
        find_cases(tmp_path)


# -- iSEG ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".hdr"])
@pytest.mark.parametrize("year", ["2017", "2019"])
def test_training_and_test_folder_of_iseg_are_one_data_set_in_any_format(tmp_path, suffix, year):
    for number, part in ((1, "Training"), (10, "Training"), (11, "Testing")):
        for kind in ("T1", "T2", *(["label"] if part == "Training" else [])):
            files(tmp_path, f"iSeg-{year}-{part}/subject-{number}-{kind}{suffix}")
            if suffix == ".hdr":
                files(tmp_path, f"iSeg-{year}-{part}/subject-{number}-{kind}.img")
    found = find_data_set(tmp_path)
    assert (found.layout, found.notes) == ("iseg", ())
    assert [(case.name, list(case.images), case.mask is None) for case in found.cases] == [
        ("subject-1", ["t1", "t2"], False),
        ("subject-10", ["t1", "t2"], False),
        ("subject-11", ["t1", "t2"], True),
    ]
    assert all(path.name.endswith(suffix) for case in found.cases for path in case.images.values())
    part = find_data_set(tmp_path / f"iSeg-{year}-Training")
    assert [case.name for case in part.cases] == ["subject-1", "subject-10"]


def test_mondals_tree_of_folders_for_each_kind_is_iseg_too(tmp_path):
    for number, part in ((1, "Training"), (11, "Testing")):
        for kind in ("T1", "T2", "label")[: 3 if number == 1 else 2]:
            files(tmp_path, f"{part}/{kind}/subject-{number}-{kind}.nii")
    files(tmp_path, "Training/T1_corrected/subject-1-T1.nii")  # of his bias correction
    found = find_data_set(tmp_path)
    assert [(case.name, case.mask is None) for case in found.cases] == [("subject-1", False), ("subject-11", True)]
    assert found.cases[0].images["t1"] == tmp_path / "Training/T1/subject-1-T1.nii"
    assert found.notes == (
        "1 folders hold images but fit no case of layout 'iseg' and are not used: "
        f"{tmp_path / 'Training/T1_corrected'}",
    )
    assert [case.name for case in find_cases(tmp_path / "Training")] == ["subject-1"]


def test_voxels_of_iseg_without_their_header_are_found_and_the_reader_says_what_is_missing(tmp_path):
    make_healthy_cohort(tmp_path, form="iseg", subjects=2, shape=SHAPE)
    (tmp_path / "iSeg-2017-Training/subject-2-T2.hdr").unlink()
    _, second = find_cases(tmp_path)
    with pytest.raises(CaseError, match=r"subject-2-T2.img: .*header is missing, expected subject-2-T2.hdr; restore"):
        read_volume(second.images["t2"])
    (tmp_path / "iSeg-2017-Training/subject-1-T1.img").unlink()
    first, _ = find_cases(tmp_path)
    with pytest.raises(CaseError, match=r"subject-1-T1.hdr: .*voxels is missing, expected subject-1-T1.img; restore"):
        read_volume(first.images["t1"])


def test_two_formats_of_one_image_of_iseg_are_refused(tmp_path):
    files(tmp_path, "subject-1-T1.hdr", "subject-1-T1.img", "subject-1-T1.nii.gz")
    with pytest.raises(CaseError, match=r"subject-1: subject-1-T1.hdr and subject-1-T1.nii.gz both claim to be t1"):
        find_cases(tmp_path)


def test_both_years_of_iseg_have_the_same_subjects_and_are_refused_together(tmp_path):
    files(tmp_path, *(f"iSeg-{year}-Training/subject-1-T1.nii" for year in (2017, 2019)))
    with pytest.raises(CaseError, match=r"case subject-1 occurs twice, .*2017-Training and .*2019-Training"):
        find_cases(tmp_path)


# -- MRBrainS --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mhd"])
def test_mrbrains13_never_takes_the_t1_of_another_grid_and_says_so(tmp_path, suffix):
    for part, number in (("TrainingData", 1), ("TestData", 1)):
        stems = ["T1", "T1_IR", "T2_FLAIR", "T1_1mm", *(["LabelsForTraining"] if part == "TrainingData" else [])]
        files(tmp_path, *(f"{part}/{number}/{stem}{suffix}" for stem in stems))
    files(tmp_path, "TrainingData/notes/T1.nii")
    found = find_data_set(tmp_path)
    assert [case.name for case in found.cases] == ["test_1", "training_1"]
    for case in found.cases:
        assert [path.name for path in case.images.values()] == [f"T1{suffix}", f"T2_FLAIR{suffix}", f"T1_IR{suffix}"]
    assert found.notes[1].endswith(f"and are not used: {tmp_path / 'TrainingData/notes'}")
    assert found.notes[2].startswith("2 image files in 2 folders of cases are by their names no part of a case")
    assert f"T1_1mm{suffix}" in found.notes[2]
    assert [case.name for case in find_cases(tmp_path / "TestData")] == ["test_1"]


def masks(root: Path, layout: str = "auto") -> tuple[dict[str, str | None], str | None, str]:
    found = find_data_set(root, layout)
    return {case.name: case.mask and case.mask.name for case in found.cases}, found.native_labels, found.notes[0]


def test_of_the_two_masks_of_mrbrains13_that_of_all_labelled_cases_is_taken_and_the_other_by_name(tmp_path):
    files(tmp_path, *(f"TrainingData/1/{stem}.nii" for stem in ("T1", "LabelsForTraining", "LabelsForTesting")))
    training = "LabelsForTraining, whose cerebellum and brainstem are ignored"
    testing = "LabelsForTesting, in which cerebellum and brainstem are background"
    assert masks(tmp_path) == (
        {"training_1": "LabelsForTraining.nii"},
        "mrbrains13_training",
        f"the masks are {training}; --data.layout mrbrains13_testing takes {testing}",
    )
    expected = {"training_1": "LabelsForTesting.nii"}, "mrbrains13"
    assert masks(tmp_path, "mrbrains13_testing")[:2] == expected
    files(tmp_path, "TestData/1/T1.nii", "TestData/1/LabelsForTesting.nii", "TestData/2/T1.nii")
    several = {"training_1": "LabelsForTesting.nii", "test_1": "LabelsForTesting.nii", "test_2": None}
    assert masks(tmp_path) == (
        several,
        "mrbrains13",
        f"the masks are {testing}; --data.layout mrbrains13_training takes {training}",
    )
    named = {"training_1": "LabelsForTraining.nii", "test_1": None, "test_2": None}
    assert masks(tmp_path, "mrbrains13_training")[:2] == (named, "mrbrains13_training")


def test_folders_of_other_names_with_a_t1_and_a_flair_are_not_taken_for_mrbrains13(tmp_path):
    files(tmp_path, "p1/T1.nii", "p1/T1_IR.nii", "7/T1.nii", "7/T2_FLAIR.nii")
    with pytest.raises(CaseError, match="no cases found"):
        find_cases(tmp_path)


def test_mrbrains18_takes_registered_images_and_says_where_there_is_none(tmp_path):
    stems = ("T1", "reg_T1", "IR", "reg_IR", "FLAIR")
    files(tmp_path, *(f"training/1/pre/{stem}.nii.gz" for stem in stems), "training/1/segm.nii.gz")
    files(tmp_path, *(f"training/070/pre/{stem}.nii.gz" for stem in stems if stem != "reg_IR"))
    files(tmp_path, *(f"training/{name}/orig/{stem}.nii.gz" for stem in stems for name in ("1", "070")))
    found = find_data_set(tmp_path)
    assert (found.layout, found.native_labels) == ("mrbrains18", "mrbrains18")
    assert [
        (case.name, [path.name[:-7] for path in case.images.values()], case.mask is None) for case in found.cases
    ] == [("070", ["reg_T1", "FLAIR", "IR"], True), ("1", ["reg_T1", "FLAIR", "reg_IR"], False)]
    assert found.notes[0] == "1 cases have no reg_IR, IR is used: 070"
    assert found.notes[1].startswith("3 image files in 2 folders of cases are by their names no part of a case")


# -- IBSR18 ----------------------------------------------------------------------------------------------------------


def test_the_scanner_of_ibsr18_is_told_by_the_header_alone(tmp_path):
    make_healthy_cohort(tmp_path, form="ibsr18", subjects=4, unlabelled=1, shape=SHAPE)
    image = tmp_path / "IBSR_02/IBSR_02.nii.gz"
    header = gzip.decompress(image.read_bytes())[:352]
    image.write_bytes(gzip.compress(header, mtime=0))  # without a voxel
    found = find_data_set(tmp_path)
    assert [case.institution for case in found.cases] == ["A", "B", "C", "A", "B"]
    assert found.notes == (
        "the institution is the scanner, told by the voxel size and named by us: A (0.9375 mm in plane) 2, "
        "B (1 mm in plane) 2, C (0.8371 mm in plane) 1",
    )


def test_of_another_voxel_size_or_a_broken_header_no_scanner_is_told_and_it_is_said(tmp_path):
    make_healthy_cohort(tmp_path, form="ibsr18", subjects=2, shape=SHAPE)
    shutil.copytree(tmp_path / "IBSR_01", tmp_path / "IBSR_07")
    for file in (tmp_path / "IBSR_07").iterdir():
        file.rename(file.with_name(file.name.replace("01", "07")))
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)), tmp_path / "IBSR_02/IBSR_02.nii.gz")
    (tmp_path / "IBSR_07/IBSR_07.nii.gz").write_bytes(b"no image")
    files(tmp_path, "later/IBSR_03.nii.gz")
    found = find_data_set(tmp_path)
    assert [case.institution for case in found.cases] == ["A", None, None]
    assert "2 cases are of no known voxel size, or cannot be read: IBSR_02, IBSR_07" in found.notes
    assert any(str(tmp_path / "later") in note for note in found.notes)


@pytest.mark.real_data
def test_the_real_ibsr18_is_found_with_three_scanners_and_three_unlabelled_subjects(real_data_root):
    found = find_data_set(real_data_root / "ibsr18")
    institutions = "".join(case.institution or "-" for case in found.cases)
    assert (found.layout, institutions) == ("ibsr18", "AAAAAABBBBCCC")
    assert [case.name for case in found.cases if case.mask is None] == ["IBSR_02", "IBSR_10", "IBSR_15"]
    for case in found.cases:
        zooms = nib.load(case.images["t1"]).header.get_zooms()
        assert zooms[0] == pytest.approx(
            {"A": 0.9375, "B": 1.0, "C": 0.8371}[scanner_of(case.images["t1"]) or ""], abs=1e-4
        )
