"""One case's files held against each other: what is refused, what is noted, and how a difference is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from segan_pl.data.case import Case, CaseError
from segan_pl.data.case_files import difference, duplicates, labels_of, read_case
from segan_pl.data.check.voxels import brain_notes
from segan_pl.data.io import Volume, read_volume, write_volume
from segan_pl.data.prepare.case import prepare
from segan_pl.data.prepare.preparation import Preparation


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


pytest_plugins = ["tests.cohort_fixtures"]

SHAPE = (8, 9, 10)
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
LPS[:3, 3] = 90, 126, -72
OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = Rotation.from_euler("xyz", [20, -10, 35], degrees=True).as_matrix() @ np.diag([0.9, 1.1, 5.5])


def turned(affine: np.ndarray, degrees: float) -> np.ndarray:
    """The same grid, rotated about its own z."""
    change = np.eye(4)
    change[:3, :3] = Rotation.from_euler("z", degrees, degrees=True).as_matrix()
    sizes = np.diag([*np.linalg.norm(affine[:3, :3], axis=0), 1.0])
    return affine @ np.linalg.inv(sizes) @ change @ sizes


def shifted(affine: np.ndarray, *mm: float) -> np.ndarray:
    """The same grid, moved along its own axes."""
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] / sizes @ np.array(mm)
    return moved


def sheared(affine: np.ndarray) -> np.ndarray:
    change = np.eye(4)
    change[:2, 1] = np.sin(np.radians(5)), np.cos(np.radians(5))
    return affine @ change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a: shifted(a, 0.5, 0, 0), "mask is shifted by 0.5 mm along x against t1"),
        (lambda a: shifted(a, 0, -3, 0.25), "mask is shifted by -3 mm along y and 0.25 mm along z against t1"),
        (lambda a: a @ np.diag([1, -1.0, 1, 1]), "mask is flipped along y against t1"),
        (lambda a: a @ np.diag([-1, -1.0, 1, 1]), "mask is flipped along x and y against t1"),
        (lambda a: turned(a, 12), "mask is rotated by 12.0 degrees against t1"),
        (
            lambda a: turned(a @ np.diag([1, -1.0, 1, 1]), 12),
            "mask is flipped along y and is rotated by 12.0 degrees against t1",
        ),
        (sheared, "mask is rotated by 2.5 degrees and is sheared against t1"),
    ],
)
@pytest.mark.parametrize("affine", [LPS, np.eye(4)])
def test_each_difference_has_its_words(
    change: Callable[[np.ndarray], np.ndarray], said: str, affine: np.ndarray
) -> None:
    assert difference("mask", (SHAPE, change(affine)), "t1", (SHAPE, affine)) == said


@pytest.mark.parametrize("degrees", [0.1, 12, 44])
def test_a_rotation_and_a_shift_are_told_along_an_oblique_files_own_axes(degrees: float) -> None:
    found = difference("mask", (SHAPE, turned(OBLIQUE, degrees)), "t1", (SHAPE, OBLIQUE))
    assert found == f"mask is rotated by {degrees:.1f} degrees against t1"
    shift = difference("mask", (SHAPE, shifted(OBLIQUE, 0, 0.5, 0)), "t1", (SHAPE, OBLIQUE))
    assert shift == "mask is shifted by 0.5 mm along y against t1"


def test_spacing_shape_and_order_of_axes_are_told_too() -> None:
    thick = LPS @ np.diag([1, 1, 3.0, 1])
    assert difference("mask", (SHAPE, thick), "t1", (SHAPE, LPS)) == (
        "mask has spacing (1, 1, 3) mm against (1, 1, 1) mm of t1"
    )
    assert difference("mask", (SHAPE[::-1], LPS), "t1", (SHAPE, LPS)) == (
        "mask has shape (8, 9, 10), t1 has shape (10, 9, 8)"
    )
    asr = np.array([[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])
    found = difference("mask", (SHAPE, asr), "t1", (SHAPE, LPS))
    assert found == "the axes of mask lead to ASR, those of t1 to LPS"


def test_one_grid_is_said_nothing_of() -> None:
    assert difference("mask", (SHAPE, shifted(LPS, 0.002, -0.009, 0)), "t1", (SHAPE, LPS)) is None
    assert difference("mask", (SHAPE, LPS + 0.0005), "t1", (SHAPE, LPS)) is None


def test_a_rotation_that_thick_slices_make_too_large_is_told_as_small_as_it_is() -> None:
    found = difference("mask", (SHAPE, turned(OBLIQUE, 0.08)), "t1", (SHAPE, OBLIQUE))
    assert found == "mask is rotated by 0.08 degrees against t1"


def test_the_tolerance_of_origins_is_an_option() -> None:
    near, far = shifted(LPS, 0.002, 0, 0), shifted(LPS, 0.4, 0, 0)
    assert difference("mask", (SHAPE, near), "t1", (SHAPE, LPS), origin_mm=0.001) == (
        "mask is shifted by 0.002 mm along x against t1"
    )
    assert difference("mask", (SHAPE, far), "t1", (SHAPE, LPS), origin_mm=0.5) is None


def moved(case: Case, mm: float) -> Case:
    """The case with its mask moved along x."""
    assert case.mask is not None
    volume = read_volume(case.mask)
    write_volume(case.mask, volume.array, shifted(volume.affine, mm, 0, 0))
    return case


def test_a_case_within_the_tolerance_is_used_and_one_beyond_is_refused_in_words(
    make_case: Callable[..., Case],
) -> None:
    prepare(moved(make_case("near"), 0.002), Preparation(crop=None))
    said = "far: mask is shifted by 0.5 mm along x against t1; resample one of them or drop the case, or allow it by "
    with pytest.raises(CaseError) as refused:
        prepare(moved(make_case("far"), 0.5), Preparation(crop=None))
    assert str(refused.value) == f"{said}--data.origin_tolerance_mm"


@pytest.mark.parametrize("command", ["check", "prepare"])
def test_the_option_is_one_of_every_command(
    command: str, cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    from segan_pl.__main__ import main

    root = Path(shutil.copytree(cohort, tmp_path / "cohort"))
    mask = min(root.rglob("*_seg.nii.gz"))
    image = nib.load(mask)
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj), shifted(image.affine, 0.4, 0, 0)), mask)
    more = ["--workers=1"] if command == "check" else [f"--data.cache_dir={tmp_path / 'cache'}"]
    line = [command, f"--root={root}", *more]
    assert main(line) == 1
    assert "mask is shifted by 0.4 mm along x against t1" in " ".join(capsys.readouterr().out.split())
    assert main([*line, "--data.origin_tolerance_mm=0.5"]) == 0
