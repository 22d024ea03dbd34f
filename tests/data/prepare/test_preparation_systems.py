"""The shipped preparations, each against its fact sheet's rule in plain NumPy."""

from __future__ import annotations

import dataclasses
import re

import nibabel as nib
import numpy as np
import pytest
import yaml

from segan_pl.data.case import CaseError
from segan_pl.data.prepare.case import prepare
from segan_pl.data.prepare.cases import entry_bytes
from segan_pl.data.prepare.preparation import Preparation
from segan_pl.experiments.shipped import find_config

NAMES = ("segan_cat", "albunet", "reciprocal", "gt_gan", "tissue")


def fields(name: str) -> dict:
    return yaml.safe_load(find_config(f"{name}_preparation").read_text())["data"]["preparation"]


def shipped(name: str) -> Preparation:
    made = {key: tuple(value) if isinstance(value, list) else value for key, value in fields(name).items()}
    return Preparation(**made)


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


def tissue(images):
    z, y, x = (slice(i.min(), i.max() + 1) for i in np.nonzero((images != 0).any(0)))
    for image in images[:, z, y, x]:
        yield np.clip((image - image.min()) / (np.percentile(image, 99.5) - image.min()), 0, 1)


RULES = dict(zip(NAMES, (segan_cat, albunet, reciprocal, gt_gan, tissue), strict=True))


def lps(image):
    """nibabel's voxels of an image as BraTS would store it, (D, H, W)."""
    turn = nib.orientations.ornt_transform(nib.io_orientation(image.affine), nib.orientations.axcodes2ornt("LPS"))
    return np.asanyarray(image.as_reoriented(turn).dataobj).T


def require_rule(case, name):
    images = np.stack([lps(nib.load(path)) for path in case.images.values()]).astype(np.float64)
    expected = np.stack(list(RULES[name](images)))
    found = prepare(case, shipped(name))
    assert found.image.shape == expected.shape
    np.testing.assert_allclose(found.image, expected, rtol=1e-3, atol=6e-4)
    assert sum(found.labels.values()) == images[0].size


@pytest.mark.parametrize("name", ["albunet", "reciprocal", "gt_gan", "tissue"])
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
@pytest.mark.parametrize("name", ["IBSR_01", "IBSR_02", "IBSR_07", "IBSR_15"])
def test_tissues_of_every_scanner_leave_exactly_the_air_at_the_background(real_data_root, name):
    from segan_pl.data.case import Case

    path = real_data_root / "ibsr18" / name / f"{name}.nii.gz"
    found, preparation = prepare(Case(name, name, {"t1": path}), shipped("tissue")), shipped("tissue")
    brain = lps(nib.load(path).slicer[..., 0]) != 0
    np.testing.assert_array_equal(found.image[0] != preparation.background, brain[found.geometry.native_box])
    assert np.count_nonzero(brain) == np.count_nonzero(found.image)
    assert not preparation.clips_brain


@pytest.mark.real_data
def test_a_real_thick_slice_volume_becomes_lps_of_1_mm_where_simpleitk_puts_it(real_data_root):
    import SimpleITK

    from segan_pl.data.geometry import target_geometry

    path = sorted((real_data_root / "tcga_fg_6692/native_raw").rglob("*.nii.gz"))[0]
    file = nib.load(path)
    array = np.asanyarray(file.dataobj).T.astype(np.float32)
    geometry = target_geometry(array.shape, file.affine, "LPS", (1.0, 1.0, 1.0))
    prepared = np.diag([-1.0, -1, 1, 1]) @ geometry.affine_prepared  # SimpleITK's millimetres are LPS
    size = [int(n) for n in geometry.shape[::-1]]
    grid = (prepared[:3, 3].tolist(), (1.0, 1.0, 1.0), prepared[:3, :3].ravel().tolist())
    image = SimpleITK.ReadImage(str(path), SimpleITK.sitkFloat32)
    expected = SimpleITK.Resample(image, size, SimpleITK.Transform(), SimpleITK.sitkLinear, *grid)
    inside = (slice(6, -6), slice(2, -2), slice(2, -2))
    difference = np.abs(geometry.crop(array) - SimpleITK.GetArrayFromImage(expected))[inside]
    assert difference.max() < 1e-3 * array.max()


def test_a_preparation_that_may_clip_the_brain_to_the_background_says_so(make_case):
    assert [name for name in NAMES if shipped(name).clips_brain] == ["reciprocal"]
    dark = np.zeros((9, 10, 11), np.int16)
    dark[2:7, 3:8, 4:9] = np.random.default_rng(0).integers(1, 900, (5, 5, 5))
    case = make_case(shape=(9, 10, 11), modalities=(), arrays={"t1": dark})
    for counted, low, clips in (("nonzero", 5.0, True), ("positive", 5.0, True), ("nonzero", 0.0, False)):
        made = Preparation(crop=None, percentiles=(low, 99.0), statistics_mask=counted)
        lost = np.count_nonzero(dark) - np.count_nonzero(prepare(case, made).image)
        assert made.clips_brain is clips
        assert bool(lost > 1) is clips  # of the least intensity there may be one voxel


def test_every_shipped_preparation_has_its_own_digest():
    assert len({shipped(name).digest() for name in NAMES}) == len(NAMES)
    assert shipped("segan_cat") == Preparation()


@pytest.mark.parametrize("earlier", NAMES)
@pytest.mark.parametrize("later", NAMES)
def test_a_shipped_preparation_replaces_another_wholly(earlier, later):
    both = fields(earlier) | fields(later)
    made = Preparation(**{key: tuple(value) if isinstance(value, list) else value for key, value in both.items()})
    expected = shipped(later)
    if expected.scaling != "percentile":  # which uses none
        expected = dataclasses.replace(expected, percentiles=made.percentiles)
    assert made == expected


def test_orientation_and_spacing_come_before_the_crop_and_counts_are_of_that_grid(make_case):
    case = make_case()
    affine = nib.load(case.mask).affine
    half = tuple(float(size) / 2 for size in np.sqrt((affine[:3, :3] ** 2).sum(0)))
    plain = prepare(case, Preparation(crop=None, scaling="none", orientation=None))
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


def boxed(rng) -> np.ndarray:
    array = np.zeros((24, 24, 24), np.int16)
    array[8:16, 8:16, 8:16] = rng.integers(100, 900, (8, 8, 8))
    return array


@pytest.mark.parametrize("counted", ["nonzero", "positive"])
@pytest.mark.parametrize("interpolation", ["nearest", "linear", "cubic"])
def test_resampling_spreads_no_brain_over_the_background(make_case, interpolation, counted):
    case = make_case(shape=(24, 24, 24), modalities=(), arrays={"t1": boxed(np.random.default_rng(0))}, spacing=1.0)
    settings = Preparation(
        crop="nonzero", statistics_mask=counted, spacing_mm=(0.5, 0.5, 0.5), interpolation=interpolation
    )
    prepared = prepare(case, settings)
    assert prepared.geometry.start == (16, 16, 16)
    assert prepared.geometry.shape == (16, 16, 16)
    assert prepared.bounds["t1"].low > 50


def test_zscores_of_a_cubic_resampling_are_standard_in_the_brain_and_0_outside(make_case):
    case = make_case(shape=(24, 24, 24), modalities=(), arrays={"t1": boxed(np.random.default_rng(0))}, spacing=1.0)
    image = prepare(case, Preparation(crop=None, scaling="zscore", spacing_mm=(0.5,) * 3, interpolation="cubic")).image[
        0
    ]
    brain = np.zeros(image.shape, bool)
    brain[16:32, 16:32, 16:32] = True
    assert not image[~brain].any()
    assert float(image[brain].mean(dtype=np.float64)) == pytest.approx(0, abs=1e-3)
    assert float(image[brain].std(dtype=np.float64)) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("interpolation", ["nearest", "cubic"])
def test_background_of_a_whole_volume_stays_0_under_an_interpolation_that_rings(make_case, interpolation):
    case = make_case(shape=(24,) * 3, modalities=(), arrays={"t1": boxed(np.random.default_rng(0))}, spacing=1.0)
    settings = Preparation(crop=None, scaling="none", spacing_mm=(0.5,) * 3, interpolation=interpolation)
    image = prepare(case, settings).image[0]
    assert image[16:32, 16:32, 16:32].all()
    assert np.count_nonzero(image) == 16**3


@pytest.mark.parametrize(("size", "became"), [(1e4, "(200000, 160000, 120000)"), (1e-3, "(1, 1, 1)")])
def test_a_spacing_in_another_unit_is_refused_before_anything_is_allocated(make_case, size, became):
    case = make_case(spacing=size)
    settings = Preparation(crop=None, spacing_mm=(0.5, 0.5, 0.5))
    message = rf"case: shape \(10, 8, 6\) of .* mm would become {re.escape(became)} .*fix the spacing in its header"
    for act in (prepare, entry_bytes):
        with pytest.raises(CaseError, match=message):
            act(case, settings)


def test_a_float64_outlier_survives_resampling_without_overflow(make_case):
    array = np.random.default_rng(0).random((6, 8, 10))
    array[3, 4, 5] = 1e300
    case = make_case(modalities=(), arrays={"t1": array}, spacing=1.0)
    prepared = prepare(case, Preparation(crop=None, spacing_mm=(0.5, 0.5, 0.5)))
    assert np.isfinite(prepared.image).all()


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
        {"crop": "scaled", "statistics_mask": "volume", "interval": (-1.0, 1.0)},
        {"interval": (1.0, 1.0)},
        {"scaling": "zscore", "interval": (-1.0, 1.0)},
        {"orientation": "LLS"},
        {"spacing_mm": (1.0, 0.0, 1.0)},
    ],
)
def test_settings_that_contradict_each_other_are_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        Preparation(**wrong)
