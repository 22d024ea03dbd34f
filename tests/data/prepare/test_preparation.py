from __future__ import annotations

import dataclasses
from functools import partial

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jsonargparse import ArgumentParser

from segan_pl.data.case import CaseError
from segan_pl.data.prepare.case import prepare
from segan_pl.data.prepare.preparation import Preparation
from segan_pl.data.prepare.scaling import Bounds, moments, percentile_bounds, scale_between, standardise, table_range

WHOLE = Preparation(crop=None)
AS_STORED = partial(Preparation, orientation=None)  # so that arrays compare with the files' as they lie


@given(
    hnp.arrays(st.sampled_from([np.int16, np.uint8, np.int32]), hnp.array_shapes(min_dims=3, max_dims=3, max_side=5)),
    st.floats(0, 99).flatmap(lambda low: st.tuples(st.just(low), st.floats(low, 100))),
)
def test_histogram_percentiles_equal_numpys_to_the_bit(region, percentiles):
    bounds = percentile_bounds(region, percentiles, table_range(region))
    exact = region.astype(np.float64)  # NumPy's own interpolation overflows between -1 and 32767 in int16
    assert tuple(bounds) == tuple(np.percentile(exact, percentiles))


@pytest.mark.parametrize("least", [0, -9])
@pytest.mark.parametrize("filled", [(slice(2, 5), slice(3, 4), slice(1, 6)), (slice(0), slice(0), slice(0)), (...,)])
@pytest.mark.parametrize("percentiles", [(2.0, 98.0), (60.0, 99.0)])
def test_a_volume_that_is_0_around_a_box_is_scaled_as_floats_are(least, filled, percentiles):
    region = np.zeros((6, 7, 8), np.int16)
    region[filled] = np.random.default_rng(3).integers(least, 900, region[filled].shape)
    values, floats = table_range(region), region.astype(np.float64)
    bounds = percentile_bounds(region, percentiles, values)
    assert tuple(bounds) == tuple(np.percentile(floats, percentiles))
    found, expected = np.full((2, 6, 7, 8), 7, np.float16)
    scale_between(region, bounds, values, found, (-1.0, 1.0))
    scale_between(floats, bounds, None, expected, (-1.0, 1.0))
    np.testing.assert_array_equal(found, expected)
    inside = region != 0
    standardise(region[inside], moments(region[inside]), inside, values, found)
    z = (floats[inside] - floats[inside].mean()) / floats[inside].std() if inside.any() else 0
    np.testing.assert_array_equal(found[inside], np.float16(z))
    assert not found[~inside].any()


def test_percentiles_of_nonzero_voxels_leave_zeros_out():
    region = np.array([0, 0, 0, -3, 1, 5, 9], np.int16).reshape(1, 1, 7)
    for values in (region, region.astype(np.float32)):
        bounds = percentile_bounds(values, (10, 90), table_range(values), nonzero=True)
        assert tuple(bounds) == pytest.approx(np.percentile([-3, 1, 5, 9], (10, 90)))


def test_percentiles_of_positive_voxels_leave_zeros_and_negatives_out_and_keep_1():
    region = np.array([0, -7, 0, -3, 1, 1, 5, 9], np.int16).reshape(1, 1, 8)
    for values in (region, region.astype(np.float32), region + 4, -np.abs(region)):
        counted = values[values > 0]
        bounds = percentile_bounds(values, (10, 90), table_range(values), positive=True)
        assert tuple(bounds) == pytest.approx(np.percentile(counted, (10, 90)) if counted.size else (0, 0))


def test_integers_of_a_wide_range_get_no_table():
    assert table_range(np.array([[[0, 2**31 - 1]]], np.int32)) is None
    assert table_range(np.array([[[0.0, 1.0]]], np.float32)) is None
    assert table_range(np.array([[[-5, 7]]], np.int16)) == range(-5, 8)


def test_table_and_arithmetic_scale_alike():
    region = np.random.default_rng(0).integers(-50, 700, (3, 4, 5)).astype(np.int16)
    bounds, by_table, by_value = (
        Bounds(10.5, 600.25),
        np.empty(region.shape, np.float16),
        np.empty(region.shape, np.float16),
    )
    scale_between(region, bounds, table_range(region), by_table)
    scale_between(region.astype(np.float32), bounds, None, by_value)
    np.testing.assert_array_equal(by_table, by_value)
    np.testing.assert_allclose(by_table, np.clip((region - 10.5) / 589.75, 0, 1), atol=5e-4)


def native(path) -> np.ndarray:
    return np.asanyarray(nib.load(path).dataobj).T


def test_the_papers_scaling_is_percentiles_of_the_crop_background_included(make_case):
    arrays = {"t1": np.zeros((8, 8, 8), np.int16)}
    arrays["t1"][2:7, 2:7, 2:7] = np.random.default_rng(1).integers(1, 500, (5, 5, 5))
    case = make_case(shape=(8, 8, 8), modalities=(), arrays=arrays)
    prepared = prepare(case, AS_STORED(crop=(4, 6, 6)))
    region = arrays["t1"][2:6, 1:7, 1:7]
    low, high = np.percentile(region, (2, 98))
    assert tuple(prepared.bounds["t1"]) == (low, high)
    np.testing.assert_allclose(prepared.image[0], np.clip((region - low) / (high - low), 0, 1), atol=5e-4)


@pytest.mark.parametrize("crop", [(4, 4, 6), (9, 12, 13), (4, 12, 10), (1, 1, 1)])
def test_crop_and_padding_return_to_the_native_grid(make_case, crop):
    case = make_case()
    prepared = prepare(case, Preparation(crop=crop))
    label, box = native(case.mask), prepared.geometry.native_box
    back = prepared.geometry.restore(prepared.label)
    np.testing.assert_array_equal(back[box], label[box])
    assert prepared.image.shape == (2, *crop)
    values, counts = np.unique(label, return_counts=True)
    assert prepared.labels == dict(zip(values.tolist(), counts.tolist(), strict=True))
    for value, missed in prepared.outside.items():
        assert missed == int((label == value).sum()) - int((label[box] == value).sum())
    np.testing.assert_allclose(prepared.geometry.affine, nib.load(case.mask).affine)


def test_padding_is_zero_and_counts_in_no_percentile(make_case):
    case = make_case(shape=(4, 4, 4))
    padded, whole = prepare(case, Preparation(crop=(8, 8, 8))), prepare(case, WHOLE)
    assert padded.bounds == whole.bounds
    np.testing.assert_array_equal(padded.image[:, *padded.geometry.real_box], whole.image)
    assert np.count_nonzero(padded.image) == np.count_nonzero(whole.image)


def test_statistics_mask_says_which_voxels_are_counted(make_case):
    array = np.arange(6 * 8 * 10, dtype=np.int16).reshape(6, 8, 10)
    array[:, :, :5] = 0
    case = make_case(modalities=(), arrays={"t1": array})
    crop = (2, 4, 6)
    region = array[2:4, 2:6, 2:8]
    expected = {"crop": region, "nonzero": region[region != 0], "volume": array}
    for mask, counted in expected.items():
        bounds = prepare(case, Preparation(crop=crop, statistics_mask=mask)).bounds["t1"]
        np.testing.assert_allclose(bounds, np.percentile(counted, (2, 98)))


def test_zscore_is_standard_inside_the_brain_and_zero_outside(make_case):
    rng = np.random.default_rng(0)
    brain = rng.random((6, 8, 10)) < 0.5
    arrays = {m: np.where(brain, rng.integers(1, 900, brain.shape), 0).astype(np.int16) for m in ("t1", "flair")}
    image = prepare(make_case(modalities=(), arrays=arrays), AS_STORED(crop=None, scaling="zscore")).image
    assert not image[:, ~brain].any()
    for channel, modality in zip(image, arrays, strict=True):
        values = arrays[modality][brain]
        np.testing.assert_allclose(channel[brain], (values - values.mean()) / values.std(), atol=2e-3)


def test_crop_to_nonzero_holds_every_voxel_of_any_modality(make_case):
    first, second = np.zeros((6, 8, 10), np.int16), np.zeros((6, 8, 10), np.int16)
    first[1, 2, 3], second[4, 5, 8] = 7, 9
    case = make_case(modalities=(), arrays={"t1": first, "flair": second})
    geometry = prepare(case, AS_STORED(crop="nonzero")).geometry
    assert (geometry.start, geometry.shape) == ((1, 2, 3), (4, 4, 6))


def test_scaling_none_keeps_the_values_and_refuses_what_float16_cannot_hold(make_case):
    case = make_case("small")
    prepared = prepare(case, AS_STORED(crop=None, scaling="none"))
    np.testing.assert_array_equal(prepared.image[0], native(case.images["t1"]))
    large = make_case("large", arrays={"t1": np.full((6, 8, 10), 70000, np.int32)})
    with pytest.raises(CaseError, match="large: t1 has values from 70000 to 70000, expected at most 65504"):
        prepare(large, Preparation(crop=None, scaling="none"))


@pytest.mark.parametrize("scaling", ["percentile", "zscore"])
@pytest.mark.parametrize("value", [0, 5])
def test_a_constant_modality_becomes_zero_with_a_note_never_nan(make_case, scaling, value):
    case = make_case(arrays={"t1": np.full((6, 8, 10), value, np.int16)})
    prepared = prepare(case, Preparation(crop=None, scaling=scaling))
    assert not prepared.image[0].any()
    assert np.isfinite(prepared.image).all()
    assert [note for note in prepared.notes if "t1 has no contrast" in note]


def test_an_image_of_two_values_once_prepared_is_noted(make_case):
    array = np.zeros((6, 8, 10), np.int16)
    array[:3] = np.where(np.arange(240).reshape(3, 8, 10) % 2, 700, 300)
    prepared = prepare(make_case(arrays={"t1": np.where(array > 500, 1, 0).astype(np.int16)}), Preparation(crop=None))
    assert prepared.notes == ("case: t1 has only two values once prepared, 0 and 1; is it a mask?",)
    assert prepare(make_case("b", arrays={"t1": array}), Preparation(crop=None)).notes == ()


def test_an_outlier_does_not_overflow(make_case):
    array = np.random.default_rng(0).random((6, 8, 10)).astype(np.float32)
    array[0, 0, 0] = 1e30
    assert np.isfinite(prepare(make_case(arrays={"t1": array}), WHOLE).image).all()


def test_floats_are_scaled_by_their_percentiles(make_case):
    array = np.random.default_rng(0).normal(size=(6, 8, 10)).astype(np.float32)
    prepared = prepare(make_case(modalities=(), arrays={"t1": array}), WHOLE)
    np.testing.assert_allclose(prepared.bounds["t1"], np.percentile(array, (2, 98)), rtol=1e-6)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.full((6, 8, 10), 0.5, np.float32), "off an integer by up to 0.5"),
        (np.full((6, 8, 10), -1, np.int16), "values from -1 to -1, expected labels 0 to 255"),
        (np.full((6, 8, 10), 300, np.int16), "values from 300 to 300"),
        (np.zeros((6, 8, 9), np.uint8), r"mask has shape \(9, 8, 6\), t1 has shape \(10, 8, 6\); resample"),
    ],
)
def test_a_mask_that_is_none_is_refused(make_case, mask, message):
    with pytest.raises(CaseError, match=message):
        prepare(make_case(arrays={"seg": mask}), WHOLE)


def test_almost_integral_labels_are_rounded_not_cut(make_case):
    mask = np.full((6, 8, 10), 3.9999998, np.float32)
    mask[0] = 1.0004
    assert prepare(make_case(arrays={"seg": mask}), WHOLE).labels == {0: 0, 1: 80, 4: 400}


def test_an_image_on_another_grid_is_refused_with_what_differs(make_case, affine, tmp_path):
    from segan_pl.data.io import write_volume

    case = make_case()
    affine[0] *= -1
    write_volume(case.images["flair"], np.zeros((6, 8, 10), np.int16), affine)
    with pytest.raises(CaseError, match=r"case: flair is flipped along x .* against t1; resample one of them or drop"):
        prepare(case, WHOLE)


def test_one_file_for_two_modalities_and_an_empty_mask_are_noted(make_case):
    same = np.arange(480, dtype=np.int16).reshape(6, 8, 10)
    case = make_case(arrays={"t1": same, "flair": same, "seg": np.zeros((6, 8, 10), np.uint8)})
    assert set(prepare(case, WHOLE).notes) == {
        "case: t1 and flair are the same file",
        "case: the mask is all background",
    }


def test_a_case_without_mask_or_without_image(make_case):
    prepared = prepare(make_case(masked=False), WHOLE)
    assert (prepared.label, dict(prepared.labels), dict(prepared.outside)) == (None, {}, {})
    with pytest.raises(CaseError, match="bare: no image found"):
        prepare(make_case("bare", modalities=()), WHOLE)


def test_the_digest_tells_every_field_apart_and_not_how_it_was_typed():
    base = Preparation()
    others = [
        {"crop": None},
        {"crop": "nonzero"},
        {"crop": (1, 2, 3)},
        {"scaling": "none"},
        {"percentiles": (1.0, 99.0)},
        {"statistics_mask": "volume"},
    ]
    digests = {dataclasses.replace(base, **other).digest() for other in others} | {base.digest()}
    assert len(digests) == len(others) + 1
    assert Preparation(crop=[128, 180, 180], percentiles=(2, 98)).digest() == base.digest()  # type: ignore[arg-type]


@pytest.mark.parametrize("crop", ["[64, 96, 96]", "nonzero", "null"])
def test_every_field_can_be_typed_on_the_command_line(crop):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--p", type=Preparation)
    parsed = parser.parse_args([f"--p.crop={crop}", "--p.percentiles=[1, 99]", "--p.scaling=zscore"])
    made = parser.instantiate(parsed).p
    assert made.crop == {"[64, 96, 96]": (64, 96, 96), "nonzero": "nonzero", "null": None}[crop]
    assert (made.percentiles, made.scaling) == ((1.0, 99.0), "zscore")


@pytest.mark.parametrize("wrong", [{"percentiles": (98, 2)}, {"crop": (0, 1, 1)}, {"version": 2}])
def test_impossible_preparations_are_refused(wrong):
    with pytest.raises(ValueError, match=r"expected|knows"):
        Preparation(**wrong)


@pytest.mark.real_data
def test_a_real_brats_case_equals_the_papers_rule_in_plain_numpy(real_data_root):
    from segan_pl.data.layouts import find_cases

    case = find_cases(real_data_root / "brats2021")[4]
    prepared = prepare(case, Preparation())
    for channel, (modality, path) in zip(prepared.image, case.images.items(), strict=True):
        region = native(path)[13:141, 30:210, 30:210].astype(np.float64)
        low, high = np.percentile(region, (2, 98))
        assert tuple(prepared.bounds[modality]) == (low, high)
        np.testing.assert_allclose(channel, np.clip((region - low) / (high - low), 0, 1), atol=5e-4)
    assert prepared.labels == {0: 155 * 240 * 240 - 1 - 18135 - 311 - 15, 1: 16, 2: 18135, 4: 311}
