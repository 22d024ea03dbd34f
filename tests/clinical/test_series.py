"""DICOM series as scanners write them, and as they should not be: read, or refused by name."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segan_pl.clinical.modality import recognise
from segan_pl.clinical.search import find_series
from segan_pl.clinical.series import Series, read_series
from segan_pl.data.case import CaseError
from segan_pl.data.io import Volume, held_volume, write_volume
from tests.generators.dicom import IDENTITY, NAME, rigid, uid, write_series

pytest.importorskip("highdicom")


@pytest.fixture
def volume() -> Volume:
    """A small oblique volume with a value of its own in each voxel."""
    affine = np.diag([-1.0, -1.2, 5.0, 1.0])
    affine[:3, :3] = rigid((10.0, 5.0, -8.0), (0, 0, 0))[:3, :3] @ affine[:3, :3]
    affine[:3, 3] = (30.0, 40.0, -20.0)
    return held_volume(np.arange(7 * 40 * 48, dtype=np.float32).reshape(7, 40, 48), affine)


def only(root: Path) -> Series:
    (series,), _ = find_series(root)
    return series


def places(volume: Volume) -> dict[int, tuple[float, ...]]:
    """Value of some voxels to where they lie, whatever the order of the axes."""
    found = {}
    for z, y, x in ((0, 0, 0), (0, 3, 5), (2, 1, 1), (6, 19, 23)):
        at = volume.affine @ (x, y, z, 1)
        found[round(float(volume.array[z, y, x]))] = tuple(np.round(at[:3], 3))
    return found


def test_voxels_lie_where_the_scanner_put_them(tmp_path: Path, volume: Volume) -> None:
    write_series(tmp_path / "any" / "where", volume, "t2")
    series = only(tmp_path)
    found = read_series(series)
    index = {round(float(value)): at for at, value in np.ndenumerate(found.array)}
    for value, place in places(volume).items():
        z, y, x = index[value]
        np.testing.assert_allclose((found.affine @ (x, y, z, 1))[:3], place, atol=2e-3)
    assert series.slices == 7
    np.testing.assert_allclose(series.spacing_mm, (1.0, 1.2, 5.0), atol=1e-5)


def test_files_of_several_series_in_one_folder_are_sorted_by_uid(tmp_path: Path, volume: Volume) -> None:
    for number, modality in enumerate(("t2", "flair"), 1):
        for file in write_series(tmp_path / "x", volume, modality, number=number):
            file.rename(tmp_path / f"{number}_{file.name}")
    series, _ = find_series(tmp_path)
    assert [recognise(one).modality for one in series] == ["t2", "flair"]
    assert [one.slices for one in series] == [7, 7]


def test_rescaling_is_applied(tmp_path: Path, volume: Volume) -> None:
    write_series(tmp_path, volume, "t2", changes={"RescaleSlope": "2", "RescaleIntercept": "-5", "RescaleType": "US"})
    found = read_series(only(tmp_path)).array
    assert {found.min(), found.max()} == {-5.0, 2.0 * volume.array.max() - 5}


@pytest.mark.parametrize("syntax", ["JPEG2000Lossless", "JPEGLSLossless", "RLELossless"])
def test_compressed_slices_are_read(tmp_path: Path, volume: Volume, syntax: str) -> None:
    pydicom = importlib.import_module("pydicom")
    for file in write_series(tmp_path, volume, "t2"):
        one = pydicom.dcmread(file)
        one.compress(getattr(pydicom.uid, syntax), generate_instance_uid=False)
        one.save_as(file)
    found = read_series(only(tmp_path))
    assert sorted(found.array.ravel()) == sorted(volume.array.ravel())


def test_an_enhanced_multi_frame_object_is_read(tmp_path: Path, volume: Volume) -> None:
    pydicom, highdicom = importlib.import_module("pydicom"), importlib.import_module("highdicom")
    plain = [pydicom.dcmread(file) for file in write_series(tmp_path / "plain", volume, "flair")]
    for one in plain:
        one.AcquisitionNumber, one.ContentDate, one.ContentTime = 1, "20200101", "120000"
    enhanced = highdicom.legacy.LegacyConvertedEnhancedMRImage(plain, uid("enhanced"), 9, uid("instance"), 1)
    (tmp_path / "enhanced").mkdir()
    enhanced.save_as(tmp_path / "enhanced" / "one")
    series = only(tmp_path / "enhanced")
    assert series.slices == 7
    found, usual = read_series(series), read_series(only(tmp_path / "plain"))
    index = {round(float(value)): at for at, value in np.ndenumerate(found.array)}
    for value, place in places(usual).items():
        z, y, x = index[value]
        np.testing.assert_allclose((found.affine @ (x, y, z, 1))[:3], place, atol=2e-3)


def faulty(folder: Path, volume: Volume, fault: str) -> None:
    """A series with one fault."""
    pydicom = importlib.import_module("pydicom")
    files = write_series(folder, volume, "t2")

    def change(number: int, **fields: Any) -> None:
        one = pydicom.dcmread(files[number])
        for name, value in fields.items():
            setattr(one, name, value)
        one.save_as(files[number])

    if fault == "missing":
        files[3].unlink()
    elif fault == "doubled":
        one = pydicom.dcmread(files[3])
        one.SOPInstanceUID = uid("another")
        one.PixelData = bytes(len(one.PixelData))
        one.save_as(folder / "again.dcm")
    elif fault == "volumes":
        for file in files:
            one = pydicom.dcmread(file)
            one.SOPInstanceUID = uid(one.SOPInstanceUID)
            one.save_as(folder / f"again{file.name}")
    elif fault == "orientations":
        change(2, ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    elif fault == "tilt":
        for number, file in enumerate(files):
            place = np.array(pydicom.dcmread(file).ImagePositionPatient, float)
            axis = np.array(pydicom.dcmread(file).ImageOrientationPatient, float)[3:]
            change(number, ImagePositionPatient=[f"{value:.6f}" for value in place + number * 1.0 * axis])
    elif fault == "uneven":
        place = np.array(pydicom.dcmread(files[3]).ImagePositionPatient, float)
        change(3, ImagePositionPatient=[f"{value:.6f}" for value in place + 0.2 * (volume.affine[:3, 2] * [-1, -1, 1])])
    elif fault == "sizes":
        change(1, PixelSpacing=[2.0, 2.0])
    elif fault == "place":
        for number in range(len(files)):
            one = pydicom.dcmread(files[number])
            del one.ImagePositionPatient
            one.save_as(files[number])
    elif fault == "ct":
        for number in range(len(files)):
            change(number, Modality="CT")
    elif fault == "cut":
        files[3].write_bytes(files[3].read_bytes()[:-200])


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("missing", "lacks 1 of its slices, the first after slice 3 of 6"),
        ("doubled", "holds 1 slices twice, and they are different images"),
        ("volumes", "holds 2 images at each place"),
        ("orientations", "holds slices of 2 orientations"),
        ("tilt", "is tilted: slices are displaced along themselves by 11.3 degrees"),
        ("uneven", "has slices that are 4.00 to 6.00 mm apart"),
        ("sizes", "holds slices of several sizes"),
        ("place", "lacks the slices' place in space"),
        ("ct", "is of modality CT, expected MR"),
        ("cut", "cannot be read"),
    ],
)
def test_a_series_that_is_no_volume_is_refused_by_name(tmp_path: Path, volume: Volume, fault: str, says: str) -> None:
    faulty(tmp_path / "Mustermann", volume, fault)
    series = only(tmp_path)
    with pytest.raises(CaseError, match=f"series {series.key}: {says}") as refused:
        read_series(series)
    assert not any(word in str(refused.value) for word in (IDENTITY, NAME, "Mustermann", str(tmp_path)))


def test_equal_copies_of_files_are_dropped_with_a_note(tmp_path: Path, volume: Volume) -> None:
    write_series(tmp_path / "one", volume, "t2")
    write_series(tmp_path / "two", volume, "t2")
    series = only(tmp_path)
    assert series.slices == 7
    assert series.notes == ("7 files are there twice",)


def test_two_echoes_of_one_series_are_two_images(tmp_path: Path, volume: Volume) -> None:
    pydicom = importlib.import_module("pydicom")
    for file in write_series(tmp_path / "x", volume, "t2"):
        one = pydicom.dcmread(file)
        one.EchoTime, one.SOPInstanceUID = 15.0, uid(one.SOPInstanceUID)
        one.save_as(tmp_path / file.name)
    series, _ = find_series(tmp_path)
    assert sorted(one.header.echo_time_ms or 0 for one in series) == [15.0, 95.0]
    assert [one.fault for one in series] == ["", ""]


def test_nifti_patients_are_folders_or_beginnings_of_names(tmp_path: Path, volume: Volume) -> None:
    for name in ("a/x_t1.nii.gz", "a/x_flair.nii.gz", "b/t1.nii.gz", "c_t2.nii.gz", "d_t2.nii.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_volume(tmp_path / name, volume.array, volume.affine)
    series, _ = find_series(tmp_path)
    assert sorted((one.patient, recognise(one).modality) for one in series) == [
        ("a", "flair"), ("a", "t1"), ("b", "t1"), ("c", "t2"), ("d", "t2")
    ]  # fmt: skip
