"""Every naming in the world, generated with everyone in it known by construction."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from segan_pl.data.case import MODALITIES, CaseError
from segan_pl.data.conventions import label_convention
from segan_pl.data.labels import label_scheme
from segan_pl.data.layouts import DataSet, find_cases, find_data_set
from tests.generators.people import Identity
from tests.generators.trees import FORMS, identities, write_cohort


def facts(data_set: DataSet) -> list[tuple[str | None, ...]]:
    return [(case.name, case.patient, case.grade, case.institution) for case in data_set.cases]


def expected(everyone: list[Identity]) -> list[tuple[str | None, ...]]:
    return sorted(((one.name, one.patient, one.grade, one.institution) for one in everyone), key=str)


def empty(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def bare(root: Path, layout: str, cases: int) -> list[Identity]:
    """A tree of empty files in a form of a folder a case: a layout reads no voxel."""
    everyone = identities(layout, cases)
    for one in everyone:
        name = one.folder.split("/")[-1]
        for part in ("t1", "t1ce", "t2", "flair", "seg"):
            empty(root / one.folder / f"{name}_{part}.nii.gz")
    return everyone


def vsd(root: Path, case: str, kind: str, number: int) -> Path:
    name = f"VSD.Brain.XX.O.{kind}.{number}"
    empty(root / case / name / f"{name}.mha")
    return root / case / name


@pytest.mark.parametrize("layout", FORMS)
def test_each_form_is_found_by_itself_one_folder_up_with_all_that_it_tells(tmp_path, layout):
    everyone = write_cohort(tmp_path / "downloaded", layout=layout, cases=7)
    found = find_data_set(tmp_path)
    assert found.layout == layout
    assert facts(found) == expected(everyone)
    assert found.native_labels == FORMS[layout].convention
    assert found.notes == ()
    held = {"lgg": ("t1", "t1ce", "flair"), "brats_men_rt": ("t1ce",)}.get(layout, MODALITIES)
    for case in found.cases:
        assert tuple(case.images) == held
        assert all(path.is_file() for path in case.images.values())
        assert case.mask is not None
        assert case.mask.is_file()
    assert find_data_set(tmp_path / "downloaded", layout) == found


@pytest.mark.parametrize("layout", sorted(set(FORMS) - {"msd", "nnunet", "brats_men_rt"}))
def test_a_set_without_masks_and_with_missing_sequences_is_found_with_what_it_has(tmp_path, layout):
    write_cohort(tmp_path, layout=layout, cases=3, masks=False, lacking={1: ("t1ce", "flair")})
    name = identities(layout, 3)[1].name
    for case in find_cases(tmp_path):
        assert case.mask is None
        assert ("flair" in case.images, "t1ce" in case.images) == (case.name != name, case.name != name)


def test_every_case_of_2015_has_its_own_upload_name_with_the_id_of_its_flair(tmp_path):
    write_cohort(tmp_path, layout="brats2015", cases=12)
    cases = find_cases(tmp_path)
    assert len({case.output for case in cases}) == 12
    for case in cases:
        assert case.output == f"VSD.Seg.{case.images['flair'].parent.name.split('.')[-1]}.mha"


def test_2015_has_ten_names_in_both_grades_and_274_scans_of_198_patients():
    everyone = identities("brats2015", 274)
    folders = {grade: {one.folder.split("/")[1] for one in everyone if one.grade == grade} for grade in ("HGG", "LGG")}
    assert {grade: len(names) for grade, names in folders.items()} == {"HGG": 220, "LGG": 54}
    assert len(folders["HGG"] & folders["LGG"]) == 10
    assert len({one.name for one in everyone}) == 274
    scans = Counter(one.patient for one in everyone)
    assert len(scans) == 198
    assert sorted(count for count in scans.values() if count > 1)[::19] == [2, 10]
    assert sum(count for count in scans.values() if count > 1) == 96


def test_2015_keeps_the_same_name_in_both_grades_apart(tmp_path):
    for grade, number in (("HGG", 1), ("LGG", 2)):
        vsd(tmp_path / grade, "brats_2013_pat0001_1", "MR_Flair", number)
    first, second = find_cases(tmp_path)
    assert (first.name, first.patient) == ("HGG_brats_2013_pat0001_1", "HGG_2013_pat0001")
    assert (second.name, second.patient) == ("LGG_brats_2013_pat0001_1", "LGG_2013_pat0001")
    assert (first.institution, first.output, second.output) == ("2013", "VSD.Seg.1.mha", "VSD.Seg.2.mha")


def test_2015s_test_set_has_neither_grades_nor_masks(tmp_path):
    for number, kind in enumerate(("MR_Flair", "MR_T1", "MR_T1c", "MR_T2")):
        folder = vsd(tmp_path / "Testing/HGG_LGG", "brats_tcia_pat101_0002", kind, 30000 + number)
        (folder / f"{folder.name}.txt").touch()
    (case,) = find_cases(tmp_path)
    assert (case.name, case.patient, case.grade) == ("brats_tcia_pat101_0002", "tcia_pat101", None)
    assert (case.institution, case.mask, case.output) == ("tcia", None, "VSD.Seg.30000.mha")
    assert list(case.images) == list(MODALITIES)


def test_two_flair_of_one_case_of_2015_are_refused(tmp_path):
    for number in (1, 2):
        vsd(tmp_path / "HGG", "brats_tcia_pat101_0002", "MR_Flair", number)
    with pytest.raises(CaseError, match=r"brats_tcia_pat101_0002: VSD\S+1.mha and VSD\S+2.mha both claim to be flair"):
        find_cases(tmp_path)


def test_2019_has_the_335_cases_of_the_challenge_at_18_sites_some_of_1_to_3_cases():
    strata = Counter((one.grade, one.institution) for one in identities("brats2019", 335))
    assert sum(count for (grade, _), count in strata.items() if grade == "HGG") == 259
    assert sum(count for (grade, _), count in strata.items() if grade == "LGG") == 76
    assert len(strata) == 18
    assert sorted(strata.values())[:3] == [1, 1, 2]


@pytest.mark.parametrize(
    ("name", "patient", "site"),
    [
        ("Brats17_2013_0_1", "Brats17_2013_0", "2013"),
        ("Brats17_CBICA_AAB_1", "Brats17_CBICA_AAB", "CBICA"),
        ("Brats17_TCIA_101_1", "Brats17_TCIA_101", "TCIA"),
        ("Brats18_TCIA01_131_1", "Brats18_TCIA01_131", "TCIA01"),
        ("Brats18_WashU_S036_1", "Brats18_WashU_S036", "WashU"),
        ("BraTS19_TMC_06290_1", "BraTS19_TMC_06290", "TMC"),
    ],
)
def test_names_of_2017_to_2019(tmp_path, name, patient, site):
    empty(tmp_path / "hgg" / name / f"{name}_FLAIR.NII.GZ")
    (case,) = find_cases(tmp_path)
    assert (case.name, case.patient, case.institution, case.grade) == (name, patient, site, "HGG")
    assert list(case.images) == ["flair"]


def test_2020_takes_grade_site_and_patient_from_the_latest_earlier_name(tmp_path):
    names = [f"BraTS20_Training_{number:03d}" for number in (1, 2, 3, 355)]
    for name in names:
        empty(tmp_path / name / f"{name}_flair.nii")
    rows = [
        ["HGG", "Brats17_CBICA_AAB_1", "Brats18_CBICA_AAB_1", "NA", "BraTS19_CBICA_AAB_1", names[0]],
        ["LGG", "Brats17_TCIA_620_1", "Brats18_TCIA13_620_1", "TCGA-CS-4942", "NA", names[1]],
        ["HGG", "NA", "NA", "NA", "NA", names[2]],
    ]
    header = ["Grade", "BraTS_2017_subject_ID", "BraTS_2018_subject_ID", "TCGA_TCIA_subject_ID"]
    with (tmp_path / "name_mapping.csv").open("w", newline="") as file:
        csv.writer(file).writerows([[*header, "BraTS_2019_subject_ID", "BraTS_2020_subject_ID"], *rows])
    (tmp_path / "survival_info.csv").write_text("Brats20ID,Age,Survival_days\n")
    found = find_data_set(tmp_path)
    assert facts(found) == [
        (names[0], "CBICA_AAB", "HGG", "CBICA"),
        (names[1], "TCIA13_620", "LGG", "TCIA13"),
        (names[2], names[2], "HGG", None),
        (names[3], names[3], None, None),
    ]
    assert found.notes == (
        f"name_mapping.csv has no row for 1 cases, so their grade and institution are unknown: {names[3]}",
    )


def test_2020s_validation_set_has_a_mapping_without_grades_under_another_name(tmp_path):
    empty(tmp_path / "BraTS20_Validation_001/BraTS20_Validation_001_t1.nii")
    (tmp_path / "name_mapping_validation_data.csv").write_text(
        "BraTS_2019_subject_ID,BraTS_2020_subject_ID\nBraTS19_UAB_3446_1,BraTS20_Validation_001\n"
    )
    assert facts(find_data_set(tmp_path)) == [("BraTS20_Validation_001", "UAB_3446", None, "UAB")]


def test_case_355_of_2020_has_its_mask_under_a_foreign_name_and_it_is_said(tmp_path):
    folder = tmp_path / "BraTS20_Training_355"
    for part in ("t1", "t2"):
        empty(folder / f"{folder.name}_{part}.nii")
    empty(folder / "W39_1998.09.19_Segm.nii")
    found = find_data_set(tmp_path)
    assert found.cases[0].mask == folder / "W39_1998.09.19_Segm.nii"
    assert "BraTS20_Training_355: its mask has the foreign name W39_1998.09.19_Segm.nii" in found.notes
    (folder / "W39_1998.09.19_Segm.nii").rename(folder / "W39_segmented_by_hand.nii")
    assert find_cases(tmp_path)[0].mask == folder / "W39_segmented_by_hand.nii"
    empty(folder / "W39_segmented_twice.nii")
    assert find_cases(tmp_path)[0].mask is None  # which one is not for us to say


@pytest.mark.parametrize("cohort", ["GLI", "MEN", "MET", "SSA"])
def test_the_time_points_of_2023_share_their_patient(tmp_path, cohort):
    for case in (f"BraTS-{cohort}-00003-000", f"BraTS-{cohort}-00003-001"):
        for part in ("t1n", "t1c", "t2w", "t2f", "seg"):
            empty(tmp_path / case / f"{case}-{part}.nii.gz")
    found = find_data_set(tmp_path)
    assert {case.patient for case in found.cases} == {f"BraTS-{cohort}-00003"}
    assert [path.name[-10:-7] for path in found.cases[0].images.values()] == ["t1n", "t1c", "t2w", "t2f"]
    assert found.notes == ()


def test_the_pediatric_cohort_is_warned_of_the_labels_of_another_year(tmp_path):
    empty(tmp_path / "BraTS-PED-00003-000/BraTS-PED-00003-000-t1c.nii.gz")
    assert "those of 2024 mean something else" in find_data_set(tmp_path).notes[0]


def test_a_cavity_in_what_looks_like_2023_is_refused_with_the_year_that_knows_it(tmp_path):
    empty(tmp_path / "BraTS-GLI-00003-000/BraTS-GLI-00003-000-t1c.nii.gz")
    convention = label_convention(find_data_set(tmp_path).native_labels or "")
    with pytest.raises(CaseError, match="brats2024"):
        convention.require_known([0, 3, 4], "BraTS-GLI-00003-000")


def test_goat_has_no_time_points_and_each_of_its_cases_is_a_patient(tmp_path):
    for case in ("BraTS-GoAT-00003", "BraTS-GLI-00003", "BraTS-GoAT-3"):  # only the first is so named
        empty(tmp_path / case / f"{case}-t1c.nii.gz")
    (case,) = find_cases(tmp_path)
    assert (case.name, case.patient) == ("BraTS-GoAT-00003", "BraTS-GoAT-00003")


def test_men_rt_has_one_sequence_and_a_target_volume(tmp_path):
    for part in ("t1c", "gtv"):
        empty(tmp_path / f"BraTS-MEN-RT-0002-1/BraTS-MEN-RT-0002-1_{part}.nii.gz")
    empty(tmp_path / "BraTS-MEN-RT-0010-1/BraTS-MEN-RT-0010-1_t1c.nii.gz")  # of the validation set
    found = find_data_set(tmp_path)
    assert (found.layout, found.native_labels) == ("brats_men_rt", "binary")
    assert [(case.patient, list(case.images), case.mask is None) for case in found.cases] == [
        ("BraTS-MEN-RT-0002", ["t1ce"], False),
        ("BraTS-MEN-RT-0010", ["t1ce"], True),
    ]


def test_the_labels_of_2024s_pediatric_cohort_make_regions():
    scheme = label_scheme("regions", "brats2024_ped")
    assert dict(zip(scheme.channels, scheme.members, strict=True)) == {"wt": (1, 2, 3, 4), "tc": (1, 2, 3), "et": (1,)}
    label = np.arange(5, dtype=np.uint8)
    assert scheme.decode(scheme.encode(label)).tolist() == [0, 1, 2, 2, 4]  # a cyst comes back as the core


def test_msd_says_which_volume_of_the_4d_image_is_which(tmp_path):
    write_cohort(tmp_path, layout="msd", cases=2)
    (tmp_path / "imagesTr/._BRATS_000.nii.gz").touch()
    case, _ = find_cases(tmp_path)
    assert case.channels == {"t1": 1, "t1ce": 2, "t2": 3, "flair": 0}
    assert set(case.images.values()) == {tmp_path / "imagesTr/BRATS_000.nii.gz"}


@pytest.mark.parametrize(("layout", "files"), [("msd", 2), ("nnunet", 8)])
def test_test_images_are_said_not_to_be_used_and_are_a_data_set_of_their_own(tmp_path, layout, files):
    write_cohort(tmp_path, layout=layout, cases=3)
    write_cohort(tmp_path / "more", layout=layout, cases=2, masks=False)
    (tmp_path / "more/imagesTs").rename(tmp_path / "imagesTs")
    found = find_data_set(tmp_path)
    assert len(found.cases) == 3
    assert found.notes == (f"{files} image files in imagesTs are not used; give that folder as --root to use them",)
    tests = find_data_set(tmp_path / "imagesTs")
    assert (tests.layout, len(tests.cases), tests.notes) == (layout, 2, ())
    assert all(case.mask is None and len(case.images) == 4 for case in tests.cases)
    training = find_data_set(tmp_path / "imagesTr")
    assert all(case.mask for case in training.cases)
    assert [case.name for case in training.cases] == [case.name for case in found.cases]


def test_a_relative_root_is_as_good_as_an_absolute_one(tmp_path, monkeypatch):
    write_cohort(tmp_path / "HGG", layout="nnunet", cases=1)
    bare(tmp_path / "graded", "brats2019", 1)
    monkeypatch.chdir(tmp_path / "HGG/imagesTr")
    assert find_cases(".")[0].mask is not None
    monkeypatch.chdir(tmp_path / "graded/HGG")
    assert find_cases(".")[0].grade == "HGG"


def describe(root: Path, **content: object) -> None:
    (root / "dataset.json").write_text(json.dumps(content))


def test_nnunets_first_version_is_told_from_msd_by_the_numbers_of_the_channels(tmp_path):
    for name in ("a_0000", "a_0001", "b_0000"):
        empty(tmp_path / f"imagesTr/{name}.nii.gz")
    empty(tmp_path / "labelsTr/a.nii.gz")
    describe(tmp_path, modality={"0": "T1", "1": "FLAIR"}, labels={"0": "background", "1": "tumour"})
    found = find_data_set(tmp_path)
    assert (found.layout, found.native_labels) == ("nnunet", "binary")
    assert [(case.name, list(case.images), case.mask is None) for case in found.cases] == [
        ("a", ["t1", "flair"], False),
        ("b", ["t1"], True),
    ]


def test_a_channel_of_any_name_is_a_modality_and_what_is_no_channel_is_said(tmp_path):
    for name in ("a_0000", "a_0001", "a_0007", "stray"):
        empty(tmp_path / f"imagesTr/{name}.nii.gz")
    for name in ("a", "z"):
        empty(tmp_path / f"labelsTr/{name}.nii.gz")
    describe(tmp_path, channel_names={"0": "T2w", "1": "ADC"}, labels={"background": 0, "x": 1, "y": 2})
    found = find_data_set(tmp_path)
    assert found.native_labels is None
    assert [list(case.images) for case in found.cases] == [["t2", "adc"]]
    assert found.notes == (
        "2 images end with no channel's number: a_0007.nii.gz, stray.nii.gz",
        "1 masks belong to no image: z.nii.gz",
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"dataset.json: cannot be read \(.*\); expected JSON"),
        ("[1]", "neither 'channel_names' nor 'modality'"),
        ('{"labels": {}}', "neither 'channel_names' nor 'modality'"),
        ('{"channel_names": ["T1"]}', r"channels \['T1'\]; expected"),
        ('{"channel_names": {"0": "-"}}', r"channels {0: '-'}, expected another name for each, e.g. t1, t1_ir, flair"),
        ('{"channel_names": {"0": "T1", "1": "T1w"}}', "expected another name for each"),
        ('{"channel_names": {"0": "T1"}, "file_ending": ".png"}', r"file_ending .png, expected one of .*convert"),
        ('{"channel_names": {"0": "T1"}, "dataset": {}}', "lists its files under 'dataset'.* CSV manifest"),
    ],
)
def test_a_dataset_json_that_cannot_be_understood_is_refused(tmp_path, content, message):
    empty(tmp_path / "imagesTr/a_0000.nii.gz")
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(CaseError, match=message):
        find_cases(tmp_path)


def test_two_files_for_one_channel_are_refused(tmp_path):
    for suffix in (".nii", ".nii.gz"):
        empty(tmp_path / f"imagesTr/a_0000{suffix}")
    describe(tmp_path, channel_names={"0": "T1"}, labels={})
    with pytest.raises(CaseError, match=r"a: a_0000.nii and a_0000.nii.gz are one channel"):
        find_cases(tmp_path)


def test_a_dataset_json_of_something_else_is_none_of_ours(tmp_path):
    bare(tmp_path, "brats2021", 1)
    (tmp_path / "dataset.json").write_text("{")
    assert len(find_cases(tmp_path)) == 1
