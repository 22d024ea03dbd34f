"""Labels brought to another subject: a known deformation is found, whatever axes and voxels the files have."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from segan_pl.data.case import CaseError
from segan_pl.data.io import Volume, held_volume
from segan_pl.data.synthetic.healthy import healthy_case
from segan_pl.errors import UsageError
from segan_pl.inference.atlases import registration
from segan_pl.inference.atlases.registration import IGNORED, WHOLE, Registration, warped

SHAPE = (24, 44, 40)
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
FOUND = np.array([0.7, 0.8, 0.9])  # Dice of fluid (a voxel thin), grey and white matter


@pytest.fixture(scope="module")
def subject() -> tuple[np.ndarray, np.ndarray]:
    """One T1 image and its tissues, 0 to 3, both (D, H, W)."""
    images, anatomy = healthy_case(0, shape=SHAPE, modalities=("t1",))
    return images["t1"].astype(np.float32), anatomy.tissue.astype(np.uint8)


def deformed(array: np.ndarray, order: int) -> np.ndarray:
    """Moved by (1, -2, 2) voxels, and bent by up to 1.5."""
    z, y, x = np.meshgrid(*(np.arange(n, dtype=float) for n in array.shape), indexing="ij")
    bend = 1.5 * np.sin(x / 6) * np.cos(y / 7)
    return ndimage.map_coordinates(array, [z + 1 + bend / 2, y - 2 + bend, x + 2 - bend], order=order)


def dice(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.array([2 * ((a == k) & (b == k)).sum() / ((a == k).sum() + (b == k).sum()) for k in (1, 2, 3)])


def volume(array: np.ndarray, affine: np.ndarray = LPS) -> Volume:
    return held_volume(array, affine)


def test_a_known_deformation_is_found(subject) -> None:
    image, tissue = subject
    target, wanted = deformed(image, 1), deformed(tissue, 0)
    shares = warped(volume(target), volume(image), tissue, 4, Registration())
    assert shares.dtype == np.uint8
    assert np.abs(shares.sum(0, dtype=int) - WHOLE).max() <= 2
    assert (dice(tissue, wanted) < FOUND - 0.15).all()
    assert (dice(shares.argmax(0), wanted) > FOUND).all()


def test_axes_and_voxel_sizes_of_the_two_files_may_differ(subject) -> None:
    image, tissue = subject
    wanted = deformed(tissue, 0)
    # The same subject by a file whose axes lead to R, I and A, and whose voxels are half as long along one.
    turned = [np.repeat(array, 2, 2).transpose(1, 0, 2)[::-1, ::-1, ::-1] for array in (image, tissue)]
    affine = np.zeros((4, 4))
    affine[:, 3] = [-(SHAPE[2] - 0.75), -(SHAPE[1] - 1.0), SHAPE[0] - 1.0, 1]
    affine[0, 0], affine[2, 1], affine[1, 2] = 0.5, -1, 1
    atlas, channel = volume(turned[0], affine), np.ascontiguousarray(turned[1])
    shares = warped(volume(deformed(image, 1)), atlas, channel, 4, Registration())
    assert (dice(shares.argmax(0), wanted) > FOUND).all()


def test_voxels_that_are_not_judged_are_in_no_channel(subject) -> None:
    image, tissue = subject
    channel = tissue.copy()
    channel[:, :20] = IGNORED
    shares = warped(volume(image), volume(image), channel, 4, Registration())
    assert not shares[:, 3:-3, 4:16, 6:-6].any()
    assert shares[:, :, 24:].sum(0, dtype=int).min() >= WHOLE - 2


@pytest.mark.parametrize("forces", ["symmetric", "diffeomorphic"])
def test_the_same_bits_whatever_number_of_threads(subject, forces) -> None:
    image, tissue = subject
    settings = Registration(forces=forces, affine_iterations=20, iterations=(10, 5, 2))
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    found = []
    try:
        for threads in (1, 3):
            sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
            found.append(warped(volume(deformed(image, 1)), volume(image), tissue, 4, settings))
            assert sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() == threads
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)
    np.testing.assert_array_equal(found[0], found[1])


def test_an_image_of_one_value_cannot_be_registered(subject) -> None:
    image, tissue = subject
    with pytest.raises(CaseError, match=r"^\S.{10,}$"):
        warped(volume(np.full_like(image, 3)), volume(image), tissue, 4, Registration())


def test_without_simpleitk_one_line_says_how_to_install_it(monkeypatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(registration.importlib, "import_module", absent)
    with pytest.raises(UsageError, match=r"No module named 'SimpleITK'.*pip install 'segan_pl\[atlas\]'") as error:
        registration.simple_itk()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"iterations": (60, 40)}, "expected one number for each level"),
        ({"iterations": (60, 40, 0)}, r"registration.iterations is \[60, 40, 0\], expected a number of 1 or more"),
        ({"affine_shrink": ()}, r"registration.affine_shrink is \[\], expected a number of 1 or more"),
        ({"sampled": 0.0}, "registration.sampled is 0.0, expected a share above 0"),
        ({"smoothing": -1.0}, "registration.smoothing is -1.0, expected 0 or more"),
        ({"bins": 4}, "registration.bins is 4, expected 5 or more"),
    ],
)
def test_impossible_settings_are_refused(wrong, why) -> None:
    with pytest.raises(ValueError, match=why):
        Registration(**wrong)
