"""A header that says two things of one volume is read as always, and what it says is noted with numbers."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from segan_pl.data.io import read_volume, write_volume

ARRAY = np.random.default_rng(1).integers(0, 900, (12, 15, 18)).astype(np.int16)
AFFINE = np.diag([-1.0, -1.0, 3.0, 1.0])
AFFINE[:3, 3] = 90, 120, -60


def turned(degrees: float) -> np.ndarray:
    change = np.eye(4)
    change[:3, :3] = Rotation.from_euler("x", degrees, degrees=True).as_matrix()
    return change @ AFFINE


def saved(path: Path, sform: np.ndarray, qform: np.ndarray, *, pixdim: tuple[float, ...] = ()) -> Path:
    image = nib.Nifti1Image(ARRAY.T, sform)
    image.set_qform(qform, code=1)
    image.set_sform(sform, code=1)
    if pixdim:
        image.header["pixdim"][1:4] = pixdim
    nib.save(image, path)
    return path


def shifted(mm: float) -> np.ndarray:
    moved = AFFINE.copy()
    moved[1, 3] += mm
    return moved


@pytest.mark.parametrize(
    ("qform", "said"),
    [
        (turned(12.0), "qform and sform are 12.0 degrees apart; the sform is used"),
        (shifted(3.5), "qform and sform are 3.5 mm apart; the sform is used"),
        (AFFINE @ np.diag([-1, 1, 1, 1.0]), "the qform mirrors what the sform says; the sform is used"),
        (turned(0.3), None),
        (shifted(0.9), None),
        (AFFINE, None),
    ],
)
def test_a_qform_that_contradicts_the_sform_is_noted(tmp_path: Path, qform: np.ndarray, said: str | None) -> None:
    volume = read_volume(saved(tmp_path / "a.nii", AFFINE, qform))
    assert volume.notes == ((said,) if said else ())
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-5)


@pytest.mark.parametrize(
    ("pixdim", "said"),
    [
        ((1, 1, 1), "voxels of 1 x 1 x 3 mm by the sform, 1 x 1 x 1 mm by pixdim (a factor of 3); the sform is used"),
        ((1.005, 1, 3.01), None),
    ],
)
def test_a_pixdim_that_contradicts_the_sform_is_noted_with_the_factor(
    tmp_path: Path, pixdim: tuple[float, ...], said: str | None
) -> None:
    image = nib.Nifti1Image(ARRAY.T, AFFINE)
    image.set_sform(AFFINE, code=1)
    image.set_qform(None, code=0)
    image.header["pixdim"][1:4] = pixdim
    nib.save(image, tmp_path / "a.nii")
    assert read_volume(tmp_path / "a.nii").notes == ((said,) if said else ())


@pytest.mark.parametrize("name", ["a.nii", "a.mha"])
def test_sheared_axes_are_noted_with_their_angle(tmp_path: Path, name: str) -> None:
    shear = np.eye(4)
    shear[:2, 1] = np.sin(np.radians(5.7)), np.cos(np.radians(5.7))
    write_volume(tmp_path / name, ARRAY, AFFINE @ shear)
    notes = read_volume(tmp_path / name).notes
    assert "sheared: two axes are 84.3 degrees apart, not 90; volumes and distances take them for it" in notes


def test_in_metres_the_forms_are_held_against_each_other_in_mm(tmp_path: Path) -> None:
    small, moved = AFFINE.copy(), shifted(3.5)
    small[:3] /= 1000
    moved[:3] /= 1000
    image = nib.Nifti1Image(ARRAY.T, small)
    image.header.set_xyzt_units("meter")
    image.set_qform(moved, code=1)
    image.set_sform(small, code=1)
    nib.save(image, tmp_path / "a.nii")
    assert "qform and sform are 3.5 mm apart; the sform is used" in read_volume(tmp_path / "a.nii").notes


@pytest.mark.real_data
def test_real_files_contradict_themselves_in_nothing(real_data_root: Path) -> None:
    files = [
        *sorted(real_data_root.glob("brats2021/*_00008/*.nii.gz")),
        *sorted(real_data_root.glob("tcga_fg_6692/*/*.nii.gz")),
        *sorted(real_data_root.glob("lgg/*/*.nii.gz"))[:4],
        *sorted(real_data_root.glob("ibsr18/*/*.nii.gz"))[:4],
    ]
    noted = [note for file in files for note in read_volume(file).notes]
    assert not [note for note in noted if "used" in note or "sheared" in note]
