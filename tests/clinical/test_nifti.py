"""What names of NIfTI files, and dcm2niix's .json next to them, say of patients and modalities."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from segan_pl.clinical.modality import recognise
from segan_pl.clinical.search import find_series
from segan_pl.clinical.series import Series
from segan_pl.data.io import write_volume


def found(root: Path, *names: str) -> dict[str, Series]:
    """File name below the root to series, of images that differ."""
    for number, name in enumerate(names, 1):
        array = np.full((4, 6, 6), number, np.float32)
        write_volume(root / f"{name}.nii.gz", array, np.diag([-1.0, -1.0, 4.0, 1.0]))
    series, _ = find_series(root)
    return {str(one.files[0].relative_to(root)).removesuffix(".nii.gz"): one for one in series}


@pytest.mark.parametrize(
    ("name", "modality"),
    [
        ("a/KM_1970_t1", "t1"),
        ("a/CE-014_t1", "t1"),
        ("a/PD_1950_t1", "t1"),
        ("a/Meier_post_contrast_t1", "t1ce"),
        ("a/Meier_no_contrast_t1", "t1"),
        ("a/Meier_post_op_t1", "t1"),
        ("a/KM_1970_t1_gd", "t1ce"),
        ("sub-01/sub-01_ce-gad_T1w", "t1ce"),
    ],
)
def test_initials_before_the_modality_say_nothing(tmp_path: Path, name: str, modality: str) -> None:
    assert recognise(found(tmp_path, name)[name]).modality == modality


def test_brain_at_the_end_of_a_name_is_a_mask_or_a_copy_and_is_noted(tmp_path: Path) -> None:
    names = ("a/x_t1", "a/x_t1_brain", "a/x_brain", "b/MRI_Brain_t2_3", "c/t1_bet", "c/t2_bet", "c/brain")
    kept = found(tmp_path, *names)
    assert set(kept) == {"a/x_t1", "b/MRI_Brain_t2_3", "c/t1_bet", "c/t2_bet"}
    assert [recognise(kept[name]).modality for name in sorted(kept)] == ["t1", "t2", "t1", "t2"]
    _, notes = find_series(tmp_path)
    assert notes == [
        "3 files end with brain or bet, of images that are there whole or of no modality, and are left alone"
    ]


def test_a_key_follows_from_what_a_file_holds_and_not_from_names(tmp_path: Path) -> None:
    series = found(tmp_path / "one", "Meier/v1/t1", "Meier/v2/t1")
    first, second = (series[f"Meier/{visit}/t1"].key for visit in ("v1", "v2"))
    assert first != second
    other = found(tmp_path / "two", "Huber/t1")
    assert other["Huber/t1"].key == first


def test_equal_copies_have_keys_of_their_own(tmp_path: Path) -> None:
    found(tmp_path, "a/t1")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "t1.nii.gz").write_bytes((tmp_path / "a" / "t1.nii.gz").read_bytes())
    one, other = find_series(tmp_path)[0]
    assert one.key != other.key


def test_names_in_a_flat_root_tell_patients_apart(tmp_path: Path) -> None:
    series = found(tmp_path, "A_t1", "A_flair", "B_t2")
    assert {name: one.patient for name, one in series.items()} == {"A_t1": "A", "A_flair": "A", "B_t2": "B"}
    assert series["A_t1"].visit == series["A_flair"].visit != series["B_t2"].visit


def test_one_patients_files_in_a_flat_root_are_one_case(tmp_path: Path) -> None:
    series = found(tmp_path / "Meier", "t1", "t2", "flair")
    assert {one.patient for one in series.values()} == {"Meier"}


def test_bids_sessions_are_one_visit_each(tmp_path: Path) -> None:
    folder = "sub-01/ses-1/anat/sub-01_ses-1"
    series = found(tmp_path, f"{folder}_T1w", f"{folder}_ce-gad_T1w", f"{folder}_FLAIR")
    assert {one.patient for one in series.values()} == {"sub-01"}
    assert len({one.visit for one in series.values()}) == 1
    assert [recognise(series[name]).modality for name in sorted(series)] == ["flair", "t1", "t1ce"]


@pytest.mark.parametrize(
    ("said", "role", "modality"),
    [
        ({"EchoTime": 0.095, "RepetitionTime": 4.5}, "image", "t2"),
        ({"EchoTime": None, "RepetitionTime": "4.5", "SeriesNumber": "4"}, "image", ""),
        ({"ProtocolName": "AX FLAIR"}, "image", "flair"),
        ({"ProtocolName": "T1", "ImageType": ["DERIVED", "PRIMARY"]}, "derived", ""),
        ({"EchoTime": 0.12, "RepetitionTime": 9, "ScanningSequence": "SE_IR"}, "image", ""),
        ({"EchoTime": 0.12, "RepetitionTime": 9, "ScanningSequence": "EP\\SE"}, "other", ""),
        ({"ProtocolName": "T1", "ContrastBolusIngredient": "GADOLINIUM"}, "image", "t1ce"),
    ],
)
def test_the_json_next_to_a_file_counts(tmp_path: Path, said: dict, role: str, modality: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "head.json").write_text(json.dumps(said))
    seen = recognise(found(tmp_path, "a/head")["a/head"])
    assert (seen.role, seen.modality) == (role, modality)
