"""What a bundle makes of files: which are a case, where its voxels lie, and how its labels are saved."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from segan_pl.data.io import read_volume
from segan_pl.export.scripts.postprocessing import SaveLabeld
from segan_pl.export.scripts.reading import ReadCased, find_cases

NAMES = {"t1": ["t1"], "flair": ["flair"]}


def write(path: Path, *, form: str = "sform", unit: str = "mm", scale: float = 1) -> NDArray[np.float64]:
    """A file of ascending voxels; returns its affine in mm, as segan_pl reads it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(
        np.arange(24, dtype=np.float32).reshape(4, 3, 2), np.diag([2.0 * scale, 1.5 * scale, scale, 1.0])
    )
    image.set_sform(image.affine, code=1 if form == "sform" else 0)
    image.set_qform(image.affine, code=1 if form == "qform" else 0)
    image.header.set_xyzt_units(unit)
    nib.save(image, path)
    return np.asarray(read_volume(path).affine)


@pytest.mark.parametrize(("unit", "scale"), [("mm", 1), ("meter", 1e-3), ("micron", 1e3), ("meter", 1), ("micron", 1)])
@pytest.mark.parametrize("form", ["sform", "qform", "none"])
def test_voxels_lie_where_segan_pl_has_them(form: str, unit: str, scale: float, tmp_path: Path) -> None:
    ours = write(tmp_path / "a_t1.nii.gz", form=form, unit=unit, scale=scale)
    read = ReadCased(["t1"])({"t1": str(tmp_path / "a_t1.nii.gz")})
    assert np.allclose(read["affine"], ours)


@pytest.mark.parametrize("form", ["sform", "none"])
def test_labels_are_saved_with_the_files_own_header(form: str, tmp_path: Path) -> None:
    ours = write(tmp_path / "a_t1.nii.gz", form=form, unit="meter", scale=1e-3)
    read = ReadCased(["t1"])({"case": "a", "t1": str(tmp_path / "a_t1.nii.gz")})
    label = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    saved = SaveLabeld(str(tmp_path / "out"))({**read, "label": label})
    again = read_volume(Path(saved["file"]))
    assert np.allclose(again.affine, ours)
    assert np.array_equal(again.array, label)


def test_a_case_that_lacks_a_modality_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a/a_t1", "a/a_flair", "b/b_t1"):
        write(tmp_path / f"{name}.nii.gz")
    assert [case["case"] for case in find_cases(str(tmp_path), NAMES)] == ["a"]
    assert capsys.readouterr().out == "left out, for want of a modality: b (no flair)\n"
