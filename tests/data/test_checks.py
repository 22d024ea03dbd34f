from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from segan_pl.data.checks import brain_notes, duplicates, labels_of, read_case
from segan_pl.data.io import Volume, write_volume
from segan_pl.data.volume import Case, CaseError


def volume(array: np.ndarray) -> Volume:
    return Volume(array, np.eye(4), "digest")


def brain(high: int = 900) -> np.ndarray:
    """A ball of intensities in a box of zeros."""
    z, y, x = np.ogrid[-1:1:20j, -1:1:24j, -1:1:22j]
    return np.where(z**2 + y**2 + x**2 < 0.8, np.random.default_rng(0).integers(1, high, (20, 24, 22)), 0).astype("i2")


def test_the_modalities_of_a_4d_file_are_told_apart_and_the_mask_comes_last(tmp_path, affine):
    stack = np.stack([np.full((6, 5, 4), number, np.int16) for number in range(4)], -1)
    nib.save(nib.Nifti1Image(stack, affine), tmp_path / "a.nii.gz")
    write_volume(tmp_path / "mask.nii.gz", np.zeros((4, 5, 6), np.uint8), affine)
    images = dict.fromkeys(("t1", "t1ce", "flair"), tmp_path / "a.nii.gz")
    case = Case("a", "a", images, tmp_path / "mask.nii.gz", channels={"t1": 1, "t1ce": 2, "flair": 0})
    found = dict(read_case(case))
    assert list(found) == ["t1", "t1ce", "flair", "mask"]
    assert [int(found[part].array[0, 0, 0]) for part in ("t1", "t1ce", "flair")] == [1, 2, 0]
    assert not duplicates({part: one.digest for part, one in found.items()})


def test_a_volume_that_the_4d_file_lacks_is_refused(tmp_path, affine):
    nib.save(nib.Nifti1Image(np.zeros((6, 5, 4, 2), np.int16), affine), tmp_path / "a.nii")
    case = Case("a", "a", {"t2": tmp_path / "a.nii"}, channels={"t2": 3})
    with pytest.raises(CaseError, match=r"a: .*a\.nii has 2 volumes, t2 should be number 3"):
        list(read_case(case))


def test_images_lose_their_nan_on_request_but_masks_never(make_case):
    image = np.ones((4, 5, 6), np.float32)
    image[0, 0, 0] = np.nan
    case = make_case(arrays={"t1": image}, shape=(4, 5, 6))
    with pytest.raises(CaseError, match="1 voxels are NaN or Inf"):
        list(read_case(case))
    assert dict(read_case(case, nonfinite="zero"))["t1"].array[0, 0, 0] == 0
    masked = make_case("masked", arrays={"seg": image}, shape=(4, 5, 6))
    with pytest.raises(CaseError, match="1 voxels are NaN or Inf"):
        list(read_case(masked, nonfinite="zero"))


@pytest.mark.parametrize("value", [0.9995, 1.0004, 3.9999998])
def test_a_label_nearly_whole_is_rounded_to_the_nearest(value):
    assert labels_of(volume(np.full((1, 1, 2), value)), "a").tolist() == [[[round(value)] * 2]]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0.4, "off an integer by up to 0.4"),
        (np.nan, "off an integer by up to nan"),
        (-1.0, "values from -1 to -1"),
        (256.0, "values from 256 to 256"),
    ],
)
def test_what_is_no_label_is_refused(value, message):
    with pytest.raises(CaseError, match=message):
        labels_of(volume(np.full((1, 1, 2), value)), "a")


def test_a_stripped_brain_raises_no_note():
    assert brain_notes(volume(brain())) == []


def test_negatives_outliers_and_a_skull_are_noted():
    negative = brain()
    negative[10, 12, 11] = -45
    assert brain_notes(volume(negative)) == ["negative intensities, the least is -45"]
    (note,) = brain_notes(volume(np.maximum(brain(), 3)))
    assert note.startswith("not skull-stripped")


@pytest.mark.parametrize("place", [(10, 13, 12), (9, 10, 10)])
def test_an_outlier_is_noted_wherever_it_lies(place):
    """The second place is one of those that the sample holds."""
    array = brain().astype(np.float32)
    array[place] = 1e30
    (note,) = brain_notes(volume(array))
    assert note.startswith("an outlier of 1e+30, most voxels stay below")


def test_the_least_int16_has_a_magnitude_too():
    array = brain()
    array[array > 0] = -32768
    assert brain_notes(volume(array)) == ["negative intensities, the least is -32768"]
