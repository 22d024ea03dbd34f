"""DICOM-SEG: voxels as they were, by pydicom and by highdicom; what made them; nobody named; valid by dciodvfy."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segan_pl.clinical.search import find_series
from segan_pl.clinical.segmentation import DESCRIPTION, Algorithm, segment_masks, write_segmentation
from segan_pl.clinical.series import read_series
from segan_pl.data.case import CaseError
from segan_pl.data.conventions import label_convention
from segan_pl.data.io import held_volume
from tests.generators.dicom import IDENTITY, NAME, rigid, write_series

pydicom = pytest.importorskip("pydicom")
highdicom = pytest.importorskip("highdicom")
CONVENTION = label_convention("brats2017")


def written(
    folder: Path, *, identifying: bool = False, empty: bool = False, changes: dict[str, Any] | None = None
) -> tuple[Path, np.ndarray, np.ndarray]:
    """A segmentation of a small oblique series: its file, its labels and their affine."""
    affine = np.diag([-1.0, -1.0, 4.0, 1.0])
    affine[:3, :3] = rigid((8.0, -5.0, 3.0), (0, 0, 0))[:3, :3] @ affine[:3, :3]
    write_series(folder / "t1ce", held_volume(np.full((6, 24, 20), 100, np.float32), affine), "t1ce", changes=changes)
    (series,), _ = find_series(folder / "t1ce")
    volume = read_series(series)
    label = np.random.default_rng(0).choice([0, 1, 2, 4], volume.shape, p=[0.7, 0.1, 0.1, 0.1]).astype(np.uint8)
    label[0] = 0
    label *= not empty
    algorithm = Algorithm("segan_pl", ("abc123",))
    file = folder / "seg.dcm"
    write_segmentation(
        file, series.files, label, volume.affine, CONVENTION, algorithm, pseudonym="P001", identifying=identifying
    )
    return file, label, volume.affine


def test_highdicom_reads_the_same_voxels_in_the_same_places(tmp_path: Path) -> None:
    file, label, affine = written(tmp_path)
    found = highdicom.seg.segread(file)
    masks = segment_masks(label, CONVENTION)
    names = {"Whole tumour": "wt", "Tumour core": "tc", "Enhancing tumour": "et", "Oedema": "oedema"}
    assert [found.get_segment_description(n).segment_label for n in found.segment_numbers] == list(names)
    for number in found.segment_numbers:
        name = names[found.get_segment_description(number).segment_label]
        volume = found.get_volume(segment_numbers=[number], combine_segments=False, allow_missing_positions=True)
        indices = np.argwhere(volume.array[..., 0])
        lps = (volume.affine @ np.c_[indices, np.ones(len(indices))].T)[:3]
        ras = np.c_[lps.T * [-1, -1, 1], np.ones(len(indices))].T
        there = np.linalg.solve(affine, ras)[2::-1].T  # (z, y, x) on the grid of the labels
        np.testing.assert_allclose(there, np.rint(there), atol=0.01)
        assert {tuple(one) for one in np.rint(there).astype(int)} == {tuple(one) for one in np.argwhere(masks[name])}


def test_pydicom_reads_equal_frames_and_sources(tmp_path: Path) -> None:
    file, label, _ = written(tmp_path)
    held = pydicom.dcmread(file)
    sums: dict[int, int] = {}
    for frame, group in zip(held.pixel_array, held.PerFrameFunctionalGroupsSequence, strict=True):
        number = int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        sums[number] = sums.get(number, 0) + int(frame.sum())
        source = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        place = [pydicom.dcmread(one) for one in (tmp_path / "t1ce").iterdir()]
        (slice_,) = [one for one in place if one.SOPInstanceUID == source]
        np.testing.assert_allclose(
            group.PlanePositionSequence[0].ImagePositionPatient, slice_.ImagePositionPatient, atol=1e-3
        )
    assert list(sums.values()) == [int(mask.sum()) for mask in segment_masks(label, CONVENTION).values()]


def test_it_says_what_made_it_and_that_it_is_for_research(tmp_path: Path) -> None:
    held = pydicom.dcmread(written(tmp_path)[0])
    assert held.SeriesDescription == DESCRIPTION
    assert "RESEARCH USE ONLY" in DESCRIPTION
    algorithm = held.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    assert algorithm.AlgorithmName == "segan_pl"
    assert "abc123" in algorithm.AlgorithmParameters
    codes = [one.SegmentedPropertyTypeCodeSequence[0].CodeValue for one in held.SegmentSequence]
    assert codes == ["108369006", "TUMOUR_CORE", "C113842", "79654002"]


def test_nobody_is_named_unless_asked(tmp_path: Path) -> None:
    file, *_ = written(tmp_path)
    content = file.read_bytes()
    for word in (IDENTITY, NAME, "Elsewhere", "House", "19700101", "20200101", "ACC1", "POST GD"):
        assert word.encode() not in content
    assert str(pydicom.dcmread(file).PatientID) == "P001"
    named = pydicom.dcmread(written(tmp_path / "named", identifying=True)[0])
    assert (str(named.PatientName), str(named.PatientID)) == (NAME, IDENTITY)


def test_whole_modules_of_the_patient_the_study_and_the_trial_are_left_out(tmp_path: Path) -> None:
    names = ("ClinicalTrialSubjectID", "ClinicalTrialSponsorName", "ResponsiblePerson", "ReasonForVisit")
    names += ("ConsultingPhysicianName", "AdmittingDiagnosesDescription", "PatientComments", "StudyDescription")
    names += ("ImageComments", "StationName", "PerformedProcedureStepDescription", "OtherPatientIDs", "AdmissionID")
    file, *_ = written(tmp_path, changes=dict.fromkeys(names, "Telltale"))
    assert b"Telltale" not in file.read_bytes()


def test_the_same_input_gives_the_same_bits(tmp_path: Path) -> None:
    first, second = (written(tmp_path / name)[0] for name in "ab")
    assert first.read_bytes() == second.read_bytes()
    held = pydicom.dcmread(first)
    assert {held.ContentDate, held.InstanceCreationDate} == {"19000101"}


def test_an_archive_gets_its_own_fields_even_where_some_are_missing(tmp_path: Path) -> None:
    missing = dict.fromkeys(("PatientBirthDate", "AccessionNumber", "StudyID"))
    held = pydicom.dcmread(written(tmp_path, identifying=True, changes=missing)[0])
    assert (str(held.PatientName), held.StudyID) == (NAME, "")
    assert held.ContentDate != "19000101"


def test_labels_without_a_tumour_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="tell no tumour"):
        write_segmentation(
            tmp_path / "seg.dcm",
            [],
            np.zeros((2, 2, 2), np.uint8),
            np.eye(4),
            label_convention("mrbrains18"),
            Algorithm("segan_pl", ()),
            pseudonym="P001",
        )


def test_an_empty_mask_is_written_with_all_frames(tmp_path: Path) -> None:
    held = pydicom.dcmread(written(tmp_path, empty=True)[0])
    assert held.NumberOfFrames == 4 * 6
    assert not held.pixel_array.any()


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dciodvfy of Debian's dicom3tools")
@pytest.mark.parametrize("identifying", [False, True])
def test_dciodvfy_finds_no_error(tmp_path: Path, identifying: bool) -> None:
    file, *_ = written(tmp_path, identifying=identifying)
    done = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True, check=False)
    errors = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]
    assert not errors
