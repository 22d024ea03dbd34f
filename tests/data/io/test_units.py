"""Lengths are mm whatever unit a header counts in, and the header of what is written back stays as it was."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from segan_pl.data.case import CaseError
from segan_pl.data.io import read_grid, read_volume, write_like, write_volume

ARRAY = np.random.default_rng(1).integers(0, 900, (4, 5, 6)).astype(np.int16)
UNITS = {"meter": (1, 1000.0, "metre"), "micron": (3, 0.001, "micron")}
OFFSET = 123  # of xyzt_units in a NIfTI-1 header


def in_unit(path: Path, affine: np.ndarray, name: str, form: str) -> Path:
    """A NIfTI file whose numbers are of the unit; its place said by the sform, the qform or the spacing alone."""
    _, factor, _ = UNITS[name]
    small = affine.copy()
    small[:3] /= factor
    image = nib.Nifti1Image(ARRAY.T, small)
    image.header.set_xyzt_units(name, "sec")
    image.set_sform(small, code=int(form == "sform"))
    image.set_qform(small, code=int(form == "qform"))
    nib.save(image, path)
    return path


@pytest.mark.parametrize("name", UNITS)
@pytest.mark.parametrize("form", ["sform", "qform", "pixdim"])
def test_a_header_that_counts_in_another_unit_is_read_in_mm_with_a_note(tmp_path: Path, name: str, form: str) -> None:
    affine = np.diag([0.9, 1.1, 5.5, 1.0])
    if form != "pixdim":
        affine[:3, 3] = 10, -20, 30
    volume = read_volume(in_unit(tmp_path / "a.nii.gz", affine, name, form))
    np.testing.assert_allclose(volume.affine, affine, rtol=1e-6)
    assert volume.spacing_mm == pytest.approx((0.9, 1.1, 5.5), rel=1e-6)
    assert f"the header's unit is {UNITS[name][2]}: voxels of 0.9 x 1.1 x 5.5 mm" in volume.notes
    np.testing.assert_array_equal(read_grid(tmp_path / "a.nii.gz").affine, volume.affine)


@pytest.mark.parametrize("code", [0, 2, 2 + 8, 4])
def test_no_unit_is_mm_and_nothing_is_said_of_it(tmp_path: Path, code: int) -> None:
    write_volume(tmp_path / "a.nii", ARRAY, np.diag([1.0, 2.0, 3.0, 1.0]))
    data = bytearray((tmp_path / "a.nii").read_bytes())
    data[OFFSET] = code
    (tmp_path / "a.nii").write_bytes(bytes(data))
    volume = read_volume(tmp_path / "a.nii")
    assert (volume.spacing_mm, volume.notes) == ((1, 2, 3), ())


@pytest.mark.parametrize(("code", "found"), [(1, "1000 x 2000 x 3000 mm"), (3, "0.001 x 0.002 x 0.003 mm")])
def test_a_unit_that_makes_no_head_is_taken_for_the_mistake_that_it_is(tmp_path: Path, code: int, found: str) -> None:
    write_volume(tmp_path / "a.nii", ARRAY, np.diag([1.0, 2.0, 3.0, 1.0]))
    data = bytearray((tmp_path / "a.nii").read_bytes())
    data[OFFSET] = code
    (tmp_path / "a.nii").write_bytes(bytes(data))
    volume = read_volume(tmp_path / "a.nii")
    assert volume.spacing_mm == (1, 2, 3)
    assert len(volume.notes) == 1
    assert f"makes voxels of {found}; its numbers are taken as mm" in volume.notes[0]


@pytest.mark.parametrize("name", UNITS)
def test_what_is_written_back_keeps_the_unit_to_the_byte(tmp_path: Path, name: str) -> None:
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    source = in_unit(tmp_path / "a.nii", affine, name, "sform")
    write_like(source, (ARRAY > 400).astype(np.uint8), tmp_path / "mask.nii")
    before, after = (path.read_bytes() for path in (source, tmp_path / "mask.nii"))
    assert after[OFFSET] == before[OFFSET]
    assert after[252:328] == before[252:328]  # codes, quaternion, offsets and the sform's rows
    assert after[76:108] == before[76:108]  # pixdim
    np.testing.assert_array_equal(read_volume(tmp_path / "mask.nii").affine, read_volume(source).affine)


@pytest.mark.parametrize(("unit", "factor", "word"), [("cm", 10, "centimetre"), ("um", 0.001, "micron")])
def test_metaimages_unit_is_read_too(tmp_path: Path, unit: str, factor: float, word: str) -> None:
    affine = np.array([[-0.5, 0, 0, 7], [0, -1.5, 0, 8], [0, 0, 4, 9], [0, 0, 0, 1]])
    small = np.vstack([affine[:3] / factor, affine[3:]])
    write_volume(tmp_path / "a.mha", ARRAY, small, compresslevel=0)
    data = (tmp_path / "a.mha").read_bytes().replace(b"NDims", f"DistanceUnits = {unit}\nNDims".encode(), 1)
    (tmp_path / "a.mha").write_bytes(data)
    volume = read_volume(tmp_path / "a.mha")
    np.testing.assert_allclose(volume.affine, affine)
    assert any(f"the header's unit is {word}" in note for note in volume.notes)
    write_like(tmp_path / "a.mha", (ARRAY > 400).astype(np.uint8), tmp_path / "mask.mha")
    assert f"DistanceUnits = {unit}\n".encode() in (tmp_path / "mask.mha").read_bytes()
    np.testing.assert_array_equal(read_volume(tmp_path / "mask.mha").affine, volume.affine)


def test_a_metaimage_unit_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    write_volume(tmp_path / "a.mha", ARRAY, np.eye(4), compresslevel=0)
    data = (tmp_path / "a.mha").read_bytes().replace(b"NDims", b"DistanceUnits = ell\nNDims", 1)
    (tmp_path / "a.mha").write_bytes(data)
    with pytest.raises(CaseError, match="DistanceUnits = ell, expected"):
        read_volume(tmp_path / "a.mha")


def test_volumes_and_distances_of_a_case_in_metres_are_those_of_its_copy_in_mm(tmp_path: Path) -> None:
    from segan_pl.__main__ import main

    affine = np.diag([0.8, 0.8, 2.0, 1.0])
    mask = np.zeros((8, 20, 20), np.uint8)
    mask[2:5, 4:12, 5:15] = 1
    other = np.roll(mask, 2, axis=2)
    tables = {}
    for unit, factor in (("mm", 1.0), ("meter", 1000.0)):
        for part, array in (("reference", mask), ("prediction", other)):
            small = np.vstack([affine[:3] / factor, affine[3:]])
            image = nib.Nifti1Image(array.T, small)
            image.header.set_xyzt_units(unit)
            (tmp_path / unit / part).mkdir(parents=True)
            nib.save(image, tmp_path / unit / part / "a.nii.gz")
        folder = tmp_path / unit
        options = ["--pred", folder / "prediction", "--root", folder / "reference", "--output", folder / "scores"]
        assert main(["evaluate", *map(str, options), "--data.labels=binary", "--workers", "1"]) == 0
        tables[unit] = sorted(path.read_text() for path in (folder / "scores").rglob("*.csv"))
    assert tables["mm"]
    assert tables["meter"] == tables["mm"]
