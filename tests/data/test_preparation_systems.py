"""The shipped preparations, each against its fact sheet's rule in plain NumPy."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import yaml

from segan_pl.data.preparation import Preparation, prepare
from segan_pl.data.volume import CaseError
from segan_pl.shipped import find_config

NAMES = ("segan_cat", "albunet", "reciprocal", "gt_gan")


def shipped(name: str) -> Preparation:
    fields = yaml.safe_load(find_config(f"{name}_preparation").read_text())["data"]["preparation"]
    return Preparation(**{key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()})


def segan_cat(images):
    z, y, x = (
        slice(int(n / 2 - c / 2), int(n / 2 + c / 2)) for n, c in zip(images.shape[1:], (128, 180, 180), strict=True)
    )
    for image in images[:, z, y, x]:
        low, high = np.percentile(image, (2, 98))
        yield np.clip((image - low) / (high - low), 0, 1)


def albunet(images):
    brain = (images != 0).any(0)
    z, y, x = (slice(i.min(), i.max() + 1) for i in np.nonzero(brain))
    for image in images:
        scaled = (image - image[brain].mean()) / (image[brain].std() + 1e-8)
        yield np.where(brain, scaled, 0)[z, y, x]


def reciprocal(images):
    scaled = []
    for image in images:
        low, high = np.percentile(image[image > 0], (1, 99))
        clipped = np.clip(image, low, high)
        scaled.append((clipped - clipped.min()) / (clipped.max() - clipped.min()))
    box = [slice(max(0, i.min() - 1), i.max() + 1) for i in np.nonzero(np.sum(scaled, 0))]
    return [image[tuple(box)] for image in scaled]


def gt_gan(images):
    for image in images:
        yield (image - image.min()) / (image.max() - image.min()) * 255 / 127.5 - 1


RULES = dict(zip(NAMES, (segan_cat, albunet, reciprocal, gt_gan), strict=True))


def require_rule(case, name):
    images = np.stack([np.asanyarray(nib.load(path).dataobj).T for path in case.images.values()]).astype(np.float64)
    expected = np.stack(list(RULES[name](images)))
    found = prepare(case, shipped(name))
    assert found.image.shape == expected.shape
    np.testing.assert_allclose(found.image, expected, rtol=1e-3, atol=6e-4)
    assert sum(found.labels.values()) == images[0].size


@pytest.mark.parametrize("name", ["albunet", "reciprocal", "gt_gan"])
def test_a_shipped_preparation_equals_its_rule(make_case, name):
    rng, arrays = np.random.default_rng(0), {}
    for modality in ("t1", "flair"):
        arrays[modality] = np.zeros((9, 10, 11), np.int16)
        arrays[modality][2:7, 3:8, 4:9] = rng.integers(1, 900, (5, 5, 5))
    require_rule(make_case(shape=(9, 10, 11), modalities=(), arrays=arrays), name)


@pytest.mark.real_data
@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_preparation_equals_its_rule_on_a_real_case(real_data_root, name):
    from segan_pl.data.layouts import find_cases

    require_rule(find_cases(real_data_root / "brats2021")[4], name)


@pytest.mark.real_data
def test_a_real_thick_slice_volume_becomes_lps_of_1_mm_where_simpleitk_puts_it(real_data_root):
    import SimpleITK

    from segan_pl.data.geometry import frame_geometry

    path = sorted((real_data_root / "tcga_fg_6692/native_raw").rglob("*.nii.gz"))[0]
    file = nib.load(path)
    array = np.asanyarray(file.dataobj).T.astype(np.float32)
    geometry = frame_geometry(array.shape, file.affine, "LPS", (1.0, 1.0, 1.0))
    prepared = np.diag([-1.0, -1, 1, 1]) @ geometry.affine_prepared  # SimpleITK's millimetres are LPS
    size = [int(n) for n in geometry.shape[::-1]]
    grid = (prepared[:3, 3].tolist(), (1.0, 1.0, 1.0), prepared[:3, :3].ravel().tolist())
    image = SimpleITK.ReadImage(str(path), SimpleITK.sitkFloat32)
    expected = SimpleITK.Resample(image, size, SimpleITK.Transform(), SimpleITK.sitkLinear, *grid)
    inside = (slice(6, -6), slice(2, -2), slice(2, -2))
    difference = np.abs(geometry.crop(array) - SimpleITK.GetArrayFromImage(expected))[inside]
    assert difference.max() < 1e-3 * array.max()


def test_every_shipped_preparation_has_its_own_digest():
    assert len({shipped(name).digest() for name in NAMES}) == len(NAMES)
    assert shipped("segan_cat") == Preparation()


def test_orientation_and_spacing_come_before_the_crop_and_counts_are_of_that_grid(make_case):
    case = make_case()
    affine = nib.load(case.mask).affine
    half = tuple(float(size) / 2 for size in np.sqrt((affine[:3, :3] ** 2).sum(0)))
    plain = prepare(case, Preparation(crop=None, scaling="none"))
    fine = prepare(case, Preparation(crop=None, scaling="none", orientation="RAS", spacing_mm=half))
    assert nib.aff2axcodes(fine.geometry.affine_prepared) == ("R", "A", "S")
    assert {label: count / 8 for label, count in fine.labels.items()} == pytest.approx(dict(plain.labels))
    np.testing.assert_array_equal(fine.geometry.restore(fine.label), plain.label)


def test_padding_and_a_constant_modality_are_the_low_end_of_the_interval(make_case):
    case = make_case(arrays={"t1": np.full((6, 8, 10), 5, np.int16)})
    prepared = prepare(case, Preparation(crop=(8, 8, 10), interval=(-1.0, 1.0)))
    assert (prepared.image[0] == -1).all()
    assert (prepared.image[:, 0] == -1).all()
    assert [note for note in prepared.notes if "t1 has no contrast over the crop, all -1 now" in note]


def test_nan_is_refused_unless_zero_is_asked_for_and_then_noted(make_case):
    array = np.random.default_rng(0).random((6, 8, 10)).astype(np.float32)
    array[0, 0, 0] = np.nan
    case = make_case(arrays={"t1": array})
    with pytest.raises(CaseError):
        prepare(case, Preparation(crop=None))
    prepared = prepare(case, Preparation(crop=None, nonfinite="zero"))
    assert np.isfinite(prepared.image).all()
    assert [note for note in prepared.notes if "t1: " in note]


@pytest.mark.parametrize(
    "wrong",
    [
        {"margin": (1, 0)},
        {"crop": "nonzero", "margin": (-1, 0)},
        {"crop": "scaled"},
        {"crop": "scaled", "over": "volume", "interval": (-1.0, 1.0)},
        {"interval": (1.0, 1.0)},
        {"orientation": "LLS"},
        {"spacing_mm": (1.0, 0.0, 1.0)},
    ],
)
def test_settings_that_contradict_each_other_are_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        Preparation(**wrong)
