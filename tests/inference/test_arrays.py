"""Arrays through a predictor: what their files give, to the bit, on the grid that is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segan_pl.data.case import CaseError
from segan_pl.data.io import read_volume, write_volume
from segan_pl.data.prepare.preparation import Preparation
from segan_pl.errors import UsageError
from segan_pl.inference.prediction import Settings
from segan_pl.inference.predictor import Predictor
from tests.inference.segmentors import segmentor

AFFINE = np.array([[0.0, 0, 2, -7], [-1, 0, 0, 40], [0, 1.5, 0, -33], [0, 0, 0, 1]])


@pytest.fixture
def images(tmp_path: Path) -> dict[str, Path]:
    rng = np.random.default_rng(0)
    files = {name: tmp_path / f"a_{name}.nii.gz" for name in ("t1", "flair")}
    for file in files.values():
        write_volume(file, rng.normal(100, 40, (5, 12, 16)).astype(np.float32), AFFINE)
    return files


def predictor(*modalities: str, **settings: object) -> Predictor:
    return Predictor([segmentor(*modalities, preparation=Preparation(crop=(4, 12, 20)))], Settings(**settings))  # type: ignore[arg-type]


def arrays(images: dict[str, Path]) -> dict[str, np.ndarray]:
    return {name: read_volume(file).array for name, file in images.items()}


def test_arrays_give_what_their_files_give(images: dict[str, Path], tmp_path: Path) -> None:
    of_files = predictor("flair", "t1")(images, probability=True)
    of_arrays = predictor("flair", "t1")(arrays(images), affine=AFFINE, probability=True)
    np.testing.assert_array_equal(of_arrays.label, of_files.label)
    np.testing.assert_array_equal(of_arrays.probability, of_files.probability)  # type: ignore[arg-type]
    np.testing.assert_allclose(of_arrays.affine, of_files.affine, atol=1e-6)
    assert of_arrays.spacing_mm == pytest.approx((1, 1.5, 2))
    assert of_files.label.any()
    of_files.save(tmp_path / "files.nii.gz")
    of_arrays.save(tmp_path / "arrays.nii.gz")
    written = [read_volume(tmp_path / f"{name}.nii.gz") for name in ("files", "arrays")]
    np.testing.assert_array_equal(written[0].array, written[1].array)
    np.testing.assert_allclose(written[0].affine, written[1].affine, atol=1e-5)
    assert (of_files.like, of_arrays.like) == (images["flair"], None)


def test_files_and_arrays_may_be_mixed_on_one_grid(images: dict[str, Path]) -> None:
    mixed = {"t1": images["t1"], "flair": arrays(images)["flair"]}
    found = predictor("flair", "t1")(mixed, affine=AFFINE)
    np.testing.assert_array_equal(found.label, predictor("flair", "t1")(images).label)
    assert found.like == images["t1"]  # not the name that stands for the array
    with pytest.raises(CaseError, match=r"a_t1: t1 is shifted by -3 mm along z against flair"):
        predictor("flair", "t1")(mixed, affine=AFFINE + np.eye(4)[:, ::-1] * [0, 0, 0, 3])


def test_a_spacing_alone_places_arrays_as_brats_places_its_files(images: dict[str, Path]) -> None:
    voxels = arrays(images)["flair"]
    found = predictor("flair")({"flair": voxels}, spacing_mm=(1, 1.5, 2))
    np.testing.assert_array_equal(found.affine, np.diag([-1, -1.5, 2, 1]))
    write_volume(images["flair"], voxels, np.diag([-1, -1.5, 2, 1]))
    np.testing.assert_array_equal(found.label, predictor("flair")({"flair": images["flair"]}).label)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float16, np.float64, ">i2"])
def test_an_array_may_have_any_type_of_number_and_is_left_as_it_is(dtype: object) -> None:
    voxels = np.random.default_rng(1).integers(0, 200, (5, 12, 16)).astype(dtype)  # type: ignore[call-overload]
    before = voxels.copy()
    found = predictor("flair")({"flair": voxels}, spacing_mm=(1, 1, 1))
    plain = predictor("flair")({"flair": before.astype(np.float32)}, spacing_mm=(1, 1, 1))
    np.testing.assert_array_equal(found.label, plain.label)
    np.testing.assert_array_equal(voxels, before)
    assert voxels.flags.writeable


def test_places_that_are_missing_doubled_or_needless_are_refused(images: dict[str, Path]) -> None:
    voxels = arrays(images)
    with pytest.raises(UsageError, match=r"t1, flair: arrays with neither; give their affine, or their spacing_mm"):
        predictor("flair", "t1")(voxels)
    with pytest.raises(UsageError, match=r"arrays with both affine and spacing_mm"):
        predictor("flair")(voxels, affine=AFFINE, spacing_mm=(1, 1, 1))
    with pytest.raises(UsageError, match=r"the files of a case say their own"):
        predictor("flair")(images, spacing_mm=(1, 1, 1))
    with pytest.raises(UsageError, match=r"spacing_mm \[1, 0, 1\]: expected three positive sizes"):
        predictor("flair")(voxels, spacing_mm=(1, 0, 1))


def test_arrays_that_are_no_volume_are_refused_by_their_modality() -> None:
    def refused(voxels: np.ndarray, affine: np.ndarray = AFFINE, **settings: object) -> str:
        with pytest.raises(CaseError) as caught:
            predictor("flair", **settings)({"flair": voxels}, affine=affine)
        return str(caught.value)

    volume = np.ones((5, 12, 16), np.float32)
    assert "flair: an array of shape (12, 16), expected one volume (D, H, W)" in refused(volume[0])
    assert "flair: data type bool, expected integers or floats" in refused(volume > 0)
    assert "flair: an affine of shape (3, 3), expected (4, 4)" in refused(volume, np.eye(3))
    assert "flair: the affine is singular" in refused(volume, np.diag([1.0, 1, 0, 1]))
    volume[2, 3, 4] = np.nan
    assert refused(volume).startswith("arrays: flair: 1 voxels are NaN or Inf")
    found = predictor("flair", nonfinite="zero")({"flair": volume}, affine=AFFINE)
    assert "1 voxels were NaN or Inf and are 0 now" in " ".join(found.notes)


def test_an_array_twice_is_noted_as_a_file_twice_is(images: dict[str, Path]) -> None:
    voxels = arrays(images)["t1"]
    notes = predictor("flair", "t1")({"t1": voxels, "flair": voxels.copy()}, affine=AFFINE).notes
    assert any("are the same file" in note for note in notes)


def test_modalities_are_understood_by_their_usual_names(images: dict[str, Path]) -> None:
    plain = predictor("flair", "t1")(images)
    found = predictor("flair", "t1")({"T1n": images["t1"], "T2-FLAIR": images["flair"]})
    np.testing.assert_array_equal(found.label, plain.label)
    assert found.notes == plain.notes
    held = {"MR_T1": arrays(images)["t1"], "FLAIR": arrays(images)["flair"]}
    np.testing.assert_array_equal(predictor("flair", "t1")(held, affine=AFFINE).label, plain.label)


def test_a_modality_that_is_not_read_is_noted(images: dict[str, Path]) -> None:
    found = predictor("flair")(images)
    assert found.notes[0] == "t1 is not read: the checkpoint takes flair"
    np.testing.assert_array_equal(found.label, predictor("flair")({"flair": images["flair"]}).label)
    with pytest.raises(CaseError, match=r"^t1 is not read: the checkpoint takes flair; give one of these$"):
        predictor("flair")({"t1": images["t1"]})


def test_a_name_that_is_no_modality_and_one_modality_twice_are_refused(images: dict[str, Path]) -> None:
    with pytest.raises(CaseError, match=r"^'flare': the checkpoint takes no such modality; did you mean 'flair'\?"):
        predictor("flair", "t1", missing="zero")({"t1": images["t1"], "flare": images["flair"]})
    with pytest.raises(CaseError, match=r"^'t1' and 'T1n' are both t1; expected one image for each modality$"):
        predictor("flair", "t1")({**images, "T1n": images["t1"]})
