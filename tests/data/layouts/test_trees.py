"""Trees as people have them: nested, mixed, linked, with strange folders, broken, large."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from segan_pl.data.case import CaseError
from segan_pl.data.cohort import find_cohort
from segan_pl.data.layouts import find_cases, find_data_set
from segan_pl.errors import UsageError
from tests.data.layouts.test_forms import bare, empty, vsd
from tests.data.layouts.test_layouts import touch
from tests.generators.trees import identities

BOTH = ("t1", "seg")


def test_a_data_set_two_folders_down_is_found_and_three_down_is_not(tmp_path):
    touch(tmp_path / "kaggle/BraTS2020_TrainingData/MICCAI_BraTS2020_TrainingData", "BraTS20_Training_001")
    assert find_data_set(tmp_path / "kaggle").layout == "brats2020"
    with pytest.raises(CaseError, match="no cases found"):
        find_cases(tmp_path)


def test_the_deep_tree_of_2015_is_found_from_above(tmp_path):
    vsd(tmp_path / "BRATS2015/BRATS2015_Training/HGG", "brats_2013_pat0001_1", "MR_T1", 5)
    assert [case.grade for case in find_cases(tmp_path)] == ["HGG"]


def test_training_and_test_set_of_one_year_side_by_side_are_two_data_sets(tmp_path):
    vsd(tmp_path / "BRATS2015_Training/HGG", "brats_2013_pat0001_1", "MR_T1", 5)
    vsd(tmp_path / "Testing/HGG_LGG", "brats_2013_pat0103_1", "MR_T1", 6)
    with pytest.raises(
        CaseError, match=r"several data sets: .*BRATS2015_Training \(brats2015\), .*Testing \(brats2015\)"
    ):
        find_cases(tmp_path)


def test_cases_of_two_layouts_in_one_folder_are_refused_with_both_named(tmp_path):
    touch(tmp_path, "BraTS2021_00000", "BraTS19_CBICA_AAB_1", parts=BOTH)
    with pytest.raises(CaseError, match=r"\(brats2019\), .*\(brats2021\); part them into folders of their own"):
        find_cases(tmp_path)


def test_cases_of_another_layout_in_the_folder_of_a_grade_are_refused_with_both_named(tmp_path):
    touch(tmp_path, "HGG/BraTS19_CBICA_AAB_1", "LGG/BraTS2021_00000", parts=BOTH)
    with pytest.raises(
        CaseError, match=r"two layouts, brats2019 and brats2021 \(\S+/LGG/BraTS2021_00000\); expected one"
    ):
        find_cases(tmp_path)


def test_naming_the_layout_does_not_make_the_others_cases_vanish(tmp_path):
    touch(tmp_path, "BraTS2021_00000", "BraTS19_CBICA_AAB_1", parts=BOTH)
    with pytest.raises(CaseError, match="cases of two layouts, brats2021 and brats2019"):
        find_cases(tmp_path, "brats2021")


def test_folders_with_images_that_are_no_cases_are_said_and_others_are_not(tmp_path):
    touch(tmp_path, "HGG/BraTS19_CBICA_AAB_1", parts=BOTH)
    empty(tmp_path / "HGG/Patient 7/t1.nii.gz")
    empty(tmp_path / "later/more/T1.NII")
    empty(tmp_path / "documents/readme.pdf")
    empty(tmp_path / "atlas.nii")
    found = find_data_set(tmp_path)
    assert [case.name for case in found.cases] == ["BraTS19_CBICA_AAB_1"]
    assert found.notes == (
        "2 folders hold images but fit no case of layout 'brats2019' and are not used: "
        f"{tmp_path / 'later'}, {tmp_path / 'HGG/Patient 7'}",
        "1 image files lie outside any case and are not used: atlas.nii",
    )
    assert find_cohort(tmp_path).notes() == list(found.notes)


def test_many_strange_folders_are_counted_and_five_named(tmp_path):
    touch(tmp_path, "BraTS2021_00000", *(f"other{i}" for i in range(7)), parts=BOTH)
    (note,) = find_data_set(tmp_path).notes
    assert note.startswith("7 folders hold images")
    assert note.endswith(f"{tmp_path / 'other4'} and 2 more")


def test_links_to_data_sets_to_cases_and_to_files_are_followed(tmp_path):
    store = touch(tmp_path / "store", "BraTS2021_00000", "BraTS2021_00001", parts=BOTH)
    linked = tmp_path / "linked"
    (linked / "BraTS2021_00001").mkdir(parents=True)
    (linked / "BraTS2021_00000").symlink_to(store / "BraTS2021_00000")
    image = "BraTS2021_00001/BraTS2021_00001_t1.nii.gz"
    (linked / image).symlink_to(store / image)
    (tmp_path / "alias").symlink_to(linked)
    assert [list(case.images) for case in find_cases(tmp_path / "alias")] == [["t1"], ["t1"]]


def test_a_link_that_leads_to_itself_ends(tmp_path):
    touch(tmp_path, "BraTS2021_00000", parts=BOTH)
    (tmp_path / "again").symlink_to(tmp_path)
    assert len(find_cases(tmp_path)) == 1


@pytest.mark.parametrize(
    ("case", "layout"),
    [
        ("BraTS2021_00009", "brats2021"),
        ("HGG/BraTS19_CBICA_AAB_1", "brats2019"),
        ("HGG/brats_2013_pat0001_1/VSD.Brain.XX.O.MR_T1.54513", "brats2015"),
    ],
)
def test_a_broken_link_in_place_of_a_case_is_refused_with_its_target(tmp_path, case, layout):
    bare(tmp_path, layout, 1)
    (tmp_path / case).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / case).symlink_to("/nowhere/at/all")
    with pytest.raises(CaseError, match=f"{case}: a broken link to /nowhere/at/all; restore its target or remove"):
        find_cases(tmp_path)


def test_a_broken_link_in_place_of_an_image_is_left_for_the_reader_to_name(tmp_path):
    touch(tmp_path, "BraTS2021_00000", parts=BOTH)
    path = tmp_path / "BraTS2021_00000/BraTS2021_00000_t2.nii.gz"
    path.symlink_to("/nowhere")
    assert find_cases(tmp_path)[0].images["t2"] == path


@pytest.fixture
def locked(monkeypatch):
    """Makes folders unlistable, for root too."""
    names: set[str] = set()
    scandir = os.scandir

    def refuse(path):
        if Path(path).name in names:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", refuse)
    return names


@pytest.mark.parametrize("name", ["BraTS19_CBICA_AAB_1", "HGG"])
def test_a_case_or_a_grade_that_may_not_be_listed_is_refused(tmp_path, locked, name):
    touch(tmp_path, "HGG/BraTS19_CBICA_AAB_1", "LGG/BraTS19_TMC_1_1", parts=BOTH)
    locked.add(name)
    with pytest.raises(CaseError, match=rf"{name}: cannot be listed \(Permission denied\); .* check its permissions"):
        find_cases(tmp_path)


@pytest.mark.parametrize("place", ["", "data"])
def test_a_strange_folder_that_may_not_be_listed_is_said(tmp_path, locked, place):
    touch(tmp_path / place, "BraTS2021_00000", parts=BOTH)
    (tmp_path / "lost+found").mkdir()
    locked.add("lost+found")
    (note,) = find_data_set(tmp_path).notes
    assert note.startswith(f"{tmp_path / 'lost+found'}: cannot be listed (Permission denied)")


def test_where_nothing_is_found_what_could_not_be_listed_is_said_too(tmp_path, locked):
    (tmp_path / "data").mkdir()
    locked.add("data")
    with pytest.raises(CaseError, match=r"no cases found; \S+/data: cannot be listed"):
        find_cases(tmp_path)


def test_one_name_for_two_cases_is_refused_with_both_paths(tmp_path):
    touch(tmp_path, "LGG/BraTS19_2013_10_1", "BraTS19_2013_10_1", parts=BOTH)
    with pytest.raises(CaseError, match=rf"twice, {tmp_path}/BraTS19_2013_10_1 and {tmp_path}/LGG/BraTS19_2013_10_1;"):
        find_cases(tmp_path)


def test_an_image_in_place_of_the_data_set_is_refused(tmp_path):
    empty(tmp_path / "a.nii.gz")
    with pytest.raises(UsageError, match="is a file; expected the folder of a data set, or a manifest"):
        find_cases(tmp_path / "a.nii.gz")
    with pytest.raises(UsageError, match="is a file"):
        find_cases(tmp_path / "a.nii.gz", "brats2021")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".NII.GZ", ".mha", ".mhd", ".hdr"])
def test_the_suffix_of_an_image_in_any_letters(tmp_path, suffix):
    touch(tmp_path, "BraTS2021_00000", suffix=suffix)
    assert len(find_cases(tmp_path)[0].images) == 4


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["brats2015", "brats2019"])
def test_a_thousand_cases_are_found_within_a_second(tmp_path, layout):
    """Of processor time, whatever else runs; measured: 0.12 s (2015, 6,000 folders) and 0.05 s (2019)."""
    if layout == "brats2019":
        bare(tmp_path, layout, 1000)
    else:
        for number, one in enumerate(identities(layout, 1000)):
            for offset, kind in enumerate(("MR_T1", "MR_T1c", "MR_T2", "MR_Flair", "OT")):
                vsd(tmp_path, one.folder, kind, 5 * number + offset)
    times = []
    for _ in range(3):  # the least of them: what else this process has in its memory is collected at any time
        start = time.thread_time()
        assert len(find_cases(tmp_path)) == 1000
        times.append(time.thread_time() - start)
    assert min(times) < 1
