from __future__ import annotations

import json
from pathlib import Path

import pytest

from segan_pl.data.case import Case, CaseError
from segan_pl.data.layouts import LAYOUTS, find_cases, missing_parts, require_modalities
from segan_pl.errors import UsageError

PARTS = ("flair", "seg", "t1", "t1ce", "t2")


def touch(root: Path, *cases: str, parts: tuple[str, ...] = PARTS, suffix: str = ".nii.gz") -> Path:
    """Empty files in a folder a case, as the challenge names them: a layout reads no voxel."""
    for case in cases:
        (root / case).mkdir(parents=True)
        for part in parts:
            (root / case / f"{Path(case).name}_{part}{suffix}").touch()
    return root


def table(root: Path, *rows: str) -> None:
    (root / "cases.csv").write_text("\n".join(("case,patient,institution,slices,missing", *rows)) + "\n")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_brats_2019_tells_grade_from_the_folder_and_site_and_patient_from_the_name(tmp_path, suffix):
    touch(tmp_path, "HGG/BraTS19_CBICA_AAB_1", "HGG/BraTS19_2013_10_1", "LGG/BraTS19_TCIA10_103_1", suffix=suffix)
    found = [(c.name, c.patient, c.grade, c.institution) for c in find_cases(tmp_path)]
    assert found == [
        ("BraTS19_2013_10_1", "BraTS19_2013_10", "HGG", "2013"),
        ("BraTS19_CBICA_AAB_1", "BraTS19_CBICA_AAB", "HGG", "CBICA"),
        ("BraTS19_TCIA10_103_1", "BraTS19_TCIA10_103", "LGG", "TCIA10"),
    ]


@pytest.mark.parametrize("prefix", ["Brats17", "Brats18", "BraTS19"])
def test_the_years_2017_to_2019_share_a_layout(tmp_path, prefix):
    touch(tmp_path, f"HGG/{prefix}_TCIA02_117_1", f"HGG/{prefix}_TCIA02_117_2")
    assert {case.patient for case in find_cases(tmp_path)} == {f"{prefix}_TCIA02_117"}


def test_a_case_has_its_images_in_the_papers_order_and_its_mask(tmp_path):
    root = touch(tmp_path, "HGG/BraTS19_CBICA_AAB_1")
    (case,) = find_cases(root)
    assert list(case.images) == ["t1", "t1ce", "t2", "flair"]
    assert case.images["t1ce"].name == "BraTS19_CBICA_AAB_1_t1ce.nii.gz"
    assert case.mask is not None
    assert case.mask.name == "BraTS19_CBICA_AAB_1_seg.nii.gz"


def test_the_validation_set_of_2019_lies_flat_without_grade(tmp_path):
    touch(tmp_path, "BraTS19_CBICA_AAM_1", parts=("t1", "flair"))
    (case,) = find_cases(tmp_path)
    assert (case.grade, case.institution, case.mask, list(case.images)) == (None, "CBICA", None, ["t1", "flair"])


def test_the_folder_of_one_grade_still_tells_the_grade(tmp_path):
    touch(tmp_path, "LGG/BraTS19_TCIA10_103_1")
    assert find_cases(tmp_path / "LGG")[0].grade == "LGG"


def test_brats_2021_is_flat_and_tells_neither_grade_nor_site(tmp_path):
    touch(tmp_path, "BraTS2021_00002", "BraTS2021_00000")
    cases = find_cases(tmp_path)
    assert [case.name for case in cases] == ["BraTS2021_00000", "BraTS2021_00002"]
    assert {(case.grade, case.institution) for case in cases} == {(None, None)}
    assert cases[0].patient == cases[0].name


def test_lgg_takes_patient_and_institution_from_its_table_and_leaves_missing_sequences_out(tmp_path):
    touch(tmp_path, "TCGA_CS_1_2000", parts=("t1", "t1ce", "flair", "seg"))
    touch(tmp_path, "TCGA_DU_2_2001", parts=("flair", "seg"))
    table(tmp_path, "TCGA_CS_1_2000,TCGA_CS_1,CS,20,", "TCGA_DU_2_2001,TCGA_DU_2,DU,49,pre+post")
    first, second = find_cases(tmp_path)
    assert (first.patient, first.institution, first.grade) == ("TCGA_CS_1", "CS", None)
    assert list(second.images) == ["flair"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (("A,A,CS,1,", "B,B,CS,1,"), "names 'B', which has no folder"),
        ((), r"\['A'\] not in cases.csv"),
        (("A,A,CS,1,pre",), r"calls \['t1'\] missing, but the file is there"),
    ],
)
def test_lgg_refuses_a_table_that_differs_from_the_folders(tmp_path, rows, message):
    touch(tmp_path, "A", parts=("t1", "flair"))
    table(tmp_path, *rows)
    with pytest.raises(CaseError, match=message):
        find_cases(tmp_path)


def test_a_table_of_files_under_lggs_name_is_a_manifest_and_is_not_taken_for_lgg(tmp_path):
    touch(tmp_path, "A", parts=("t1",))
    (tmp_path / "cases.csv").write_text("case,patient,institution,t1\nB,B,CS,A/A_t1.nii.gz\n")
    with pytest.raises(CaseError, match="no cases found"):
        find_cases(tmp_path)
    assert [case.name for case in find_cases(tmp_path / "cases.csv")] == ["B"]


def test_a_case_table_that_check_or_a_run_wrote_is_not_taken_for_lgg(tmp_path):
    touch(tmp_path, "HGG/BraTS19_CBICA_AAB_1")
    (tmp_path / "cases.csv").write_text("case,patient,grade,institution,modalities\nx,x,HGG,CBICA,t1\n")
    assert [case.name for case in find_cases(tmp_path)] == ["BraTS19_CBICA_AAB_1"]


def test_the_parent_of_a_data_set_is_as_good_as_the_data_set(tmp_path):
    touch(tmp_path / "MICCAI_BraTS_2019_Data_Training", "HGG/BraTS19_CBICA_AAB_1")
    (tmp_path / ".hidden").mkdir()
    assert len(find_cases(tmp_path)) == 1


def test_two_data_sets_below_one_folder_are_refused_by_name(tmp_path):
    touch(tmp_path / "a", "BraTS2021_00000")
    touch(tmp_path / "b", "HGG/BraTS19_CBICA_AAB_1")
    with pytest.raises(CaseError, match=r"several data sets: .*a \(brats2021\), .*b \(brats2019\)"):
        find_cases(tmp_path)
    assert len(find_cases(tmp_path, "brats2021")) == 1


def test_a_name_under_both_grades_is_refused(tmp_path):
    touch(tmp_path, "HGG/BraTS19_2013_10_1", "LGG/BraTS19_2013_10_1")
    with pytest.raises(CaseError, match=r"BraTS19_2013_10_1 occurs twice, .*/HGG/BraTS19_.* and .*/LGG/BraTS19_"):
        find_cases(tmp_path)


def test_two_files_for_one_modality_are_refused(tmp_path):
    touch(tmp_path, "BraTS2021_00000", parts=("t1", "t1c", "t1ce"))
    with pytest.raises(CaseError, match="both claim to be t1ce"):
        find_cases(tmp_path)


def test_hidden_and_foreign_files_are_left_alone(tmp_path):
    touch(tmp_path, "BraTS2021_00000")
    for name in ("._BraTS2021_00000_t1.nii.gz", "notes.txt", "BraTS2021_00000_lesion.nii.gz"):
        (tmp_path / "BraTS2021_00000" / name).touch()
    assert len(find_cases(tmp_path)[0].images) == 4


def test_a_case_without_images_is_found_so_that_it_can_be_reported(tmp_path):
    touch(tmp_path, "BraTS2021_00000")
    (tmp_path / "BraTS2021_00001").mkdir()
    with pytest.raises(CaseError, match=r"1 of 2 cases are incomplete: BraTS2021_00001 \(no t1, flair\)"):
        require_modalities(find_cases(tmp_path), ("t1", "flair"))


def test_where_nothing_is_found_every_layout_is_named(tmp_path):
    with pytest.raises(CaseError) as caught:
        find_cases(tmp_path)
    assert all(name in str(caught.value) for name in LAYOUTS)


def test_a_missing_folder_and_an_unknown_layout_are_refused(tmp_path):
    with pytest.raises(UsageError, match="no such folder"):
        find_cases(tmp_path / "no")
    with pytest.raises(UsageError, match=r"layout brats202: unknown; known: auto, brats2015"):
        find_cases(tmp_path, "brats202")


def test_incomplete_cases_are_parted_only_when_allowed():
    full = Case("a", "a", {"t1": Path("x"), "flair": Path("y")}, Path("m"))
    part = Case("b", "b", {"flair": Path("y")})
    assert require_modalities([full, part], ("flair",)) == ([full, part], [])
    assert require_modalities([full, part], ("t1",), allow=True) == ([full], [part])
    assert missing_parts(part, ("t1", "flair"), mask=True) == ("t1", "mask")
    with pytest.raises(CaseError, match=r"b \(no mask\)"):
        require_modalities([full, part], ("flair",), mask=True)
    with pytest.raises(CaseError, match=r"^no case has t2; the cases have t1, flair: --data\.modalities '\[t1\]'$"):
        require_modalities([full, part], ("t1", "t2"), allow=True)
    with pytest.raises(
        CaseError, match=r"^no case has t2; the cases have t1, flair: --data\.modalities '\[t1, flair\]'$"
    ):
        require_modalities([full, part], ("t2",))
    with pytest.raises(CaseError, match=r"^1 of 2 cases .*or set --data\.missing=drop$"):
        require_modalities([full, part], ("t1",))
    other = Case("c", "c", {"t1": Path("x")})
    with pytest.raises(CaseError, match=r"^2 of 2 cases are incomplete: b \(no t1\), c \(no flair\).*are t1, flair\)$"):
        require_modalities([part, other], ("t1", "flair"), allow=True)


@pytest.mark.real_data
def test_real_data_sets_are_found_with_what_they_lack(real_data_root):
    brats = find_cases(real_data_root / "brats2021")
    assert len(brats) == 5
    require_modalities(brats, ("t1", "t1ce", "t2", "flair"), mask=True)
    complete, dropped = require_modalities(
        find_cases(real_data_root / "lgg"), ("t1", "t1ce", "flair"), mask=True, allow=True
    )
    named = json.loads((real_data_root / "lgg/splits/lgg_40_10_0.json").read_text())
    assert sorted(case.name for case in complete) == sorted(named["train"] + named["val"])
    assert {case.name[:12] for case in dropped} == {"TCGA_DU_7013", "TCGA_DU_8165", "TCGA_FG_7634", "TCGA_FG_A60K"}
