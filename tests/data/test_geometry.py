from __future__ import annotations

import itertools
import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from hypothesis import given
from hypothesis import strategies as st

from segan_pl.data.geometry import Geometry, leading, target_geometry

CODES = ("LPS", "RAS", "PIR", "SAL", "IRP")
OBLIQUE = np.array([[0.9, -0.3, 0.1, 5], [0.35, 1.8, 0.2, -7], [-0.1, 0.2, 3.1, 11], [0, 0, 0, 1.0]])
sizes = st.tuples(*[st.integers(1, 6)] * 3)


def moved(geometry: Geometry, start, shape) -> Geometry:
    return Geometry.from_dict({**geometry.as_dict(), "start": list(start), "shape": list(shape)})


@given(sizes, sizes, st.tuples(*[st.integers(-3, 3)] * 3), st.sampled_from(CODES))
def test_orientation_and_crop_return_to_the_native_grid_exactly(native, shape, start, code):
    geometry = moved(target_geometry(native, OBLIQUE, code, None), start, shape)
    array = np.arange(1, 1 + np.prod(native), dtype=np.int32).reshape(native)
    back = geometry.restore(geometry.crop(array))
    kept = np.isin(array, geometry.crop(array))
    np.testing.assert_array_equal(back, np.where(kept, array, 0))
    assert kept.sum() == np.prod([s.stop - s.start for s in geometry.native_box])


@pytest.mark.parametrize("code", CODES)
def test_orientation_equals_nibabels(code):
    array = np.arange(24).reshape(2, 3, 4)
    image = nib.Nifti1Image(array.T.astype(np.int16), OBLIQUE)
    change = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(OBLIQUE), nib.orientations.axcodes2ornt(tuple(code))
    )
    expected = image.as_reoriented(change)
    geometry = target_geometry((2, 3, 4), OBLIQUE, code, None)
    np.testing.assert_array_equal(geometry.crop(array), np.asanyarray(expected.dataobj).T)
    np.testing.assert_allclose(geometry.affine_prepared, expected.affine)


def test_orientation_equals_nibabels_for_every_way_that_axes_can_lead():
    array = np.arange(24).reshape(2, 3, 4)
    wanted = nib.orientations.axcodes2ornt(("L", "P", "S"))
    for order, signs in itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)):
        affine = np.eye(4)
        affine[:3, :3] = np.eye(3)[:, order] * signs * [1.0, 2.0, 3.0]
        image = nib.Nifti1Image(array.T.astype(np.int16), affine)
        change = nib.orientations.ornt_transform(nib.orientations.io_orientation(affine), wanted)
        assert leading(affine) == "".join(nib.aff2axcodes(affine))
        geometry = target_geometry((2, 3, 4), affine, "LPS", None)
        np.testing.assert_array_equal(geometry.crop(array), np.asanyarray(image.as_reoriented(change).dataobj).T)


def ramp(affine, shape):
    """A linear function of the place in mm, on the grid of that affine."""
    z, y, x = np.indices(shape).reshape(3, -1)
    mm = affine[:3, :3] @ np.stack([x, y, z]) + affine[:3, 3:]
    return (2 * mm[0] - mm[1] + 0.5 * mm[2]).reshape(shape)


@pytest.mark.parametrize("code", [None, *CODES])
def test_a_linear_ramp_in_mm_is_resampled_exactly_inside(code):
    native = (7, 8, 9)
    geometry = target_geometry(native, OBLIQUE, code, (1.0, 1.1, 1.3))
    assert geometry.resampled
    found = geometry.crop(ramp(OBLIQUE, native))
    inside = (slice(3, -3),) * 3
    np.testing.assert_allclose(found[inside], ramp(geometry.affine_prepared, geometry.shape)[inside], atol=1e-3)


def test_resampling_equals_simpleitks_on_an_oblique_anisotropic_grid():
    array = np.random.default_rng(0).normal(size=(6, 8, 9)).astype(np.float32)
    rotation = np.linalg.qr(OBLIQUE[:3, :3])[0]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = rotation * [1.0, 1.5, 4.0], [3, -4, 5]
    geometry = target_geometry(array.shape, affine, None, (1.2, 1.2, 1.2))
    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing((1.0, 1.5, 4.0))
    image.SetDirection(rotation.ravel().tolist())
    image.SetOrigin((3.0, -4.0, 5.0))
    prepared = geometry.affine_prepared
    expected = SimpleITK.GetArrayFromImage(
        SimpleITK.Resample(
            image,
            [int(n) for n in geometry.shape[::-1]],
            SimpleITK.Transform(),
            SimpleITK.sitkLinear,
            prepared[:3, 3].tolist(),
            (1.2, 1.2, 1.2),
            rotation.ravel().tolist(),
        )
    )
    inside = (slice(2, -2),) * 3  # beyond the outermost centres SimpleITK gives 0
    np.testing.assert_allclose(geometry.crop(array)[inside], expected[inside], atol=1e-4)


@pytest.mark.parametrize("code", [None, *CODES])
@pytest.mark.parametrize("spacing", [(0.6, 0.7, 0.9), (1.3, 1.4, 1.6)])
def test_probabilities_return_to_their_place_in_mm_from_an_oriented_resampled_crop(code, spacing):
    native = (9, 10, 11)
    whole = target_geometry(native, OBLIQUE, code, spacing)
    geometry = moved(whole, (1, 1, 1), [n - 2 for n in whole.target_shape])
    made = np.stack([ramp(geometry.affine_prepared, geometry.shape)] * 2)
    back = geometry.restore(made)
    assert back.shape == (2, *native)
    inside = (slice(None), *[slice(4, -4)] * 3)
    assert back[inside].size > 0
    np.testing.assert_allclose(back[inside], np.stack([ramp(OBLIQUE, native)] * 2)[inside], atol=1e-6)


def test_restored_labels_equal_simpleitks_nearest_ones():
    affine = np.eye(4)
    rotation = np.linalg.qr(OBLIQUE[:3, :3])[0]
    affine[:3, :3], affine[:3, 3] = rotation * [0.9, 1.1, 5.5], [3, -4, 5]
    native = (6, 12, 14)  # of these sizes no voxel lies half-way between two, where either would be right
    geometry = target_geometry(native, affine, None, (1.0, 1.0, 1.0))
    label = np.random.default_rng(0).integers(0, 4, geometry.shape).astype(np.uint8)
    image = SimpleITK.GetImageFromArray(label)
    image.SetDirection(rotation.ravel().tolist())
    image.SetOrigin(geometry.affine_prepared[:3, 3].tolist())
    grid = ([3.0, -4.0, 5.0], (0.9, 1.1, 5.5), rotation.ravel().tolist())
    expected = SimpleITK.Resample(image, native[::-1], SimpleITK.Transform(), SimpleITK.sitkNearestNeighbor, *grid)
    np.testing.assert_array_equal(geometry.restore(label), SimpleITK.GetArrayFromImage(expected))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.bool_])
def test_labels_of_any_integer_type_are_never_blended_on_the_way_back(dtype):
    geometry = target_geometry((4, 5, 6), np.eye(4), None, (0.7, 0.7, 0.7))
    label = np.zeros(geometry.shape, dtype)
    label[:, :, 4:] = 4
    back = geometry.restore(label)
    assert back.dtype == dtype
    assert set(np.unique(back).tolist()) == set(np.unique(label).tolist())


def test_the_sizes_of_a_resampled_frame_keep_the_volume_in_mm_to_half_a_voxel():
    geometry = target_geometry((23, 240, 200), np.diag([0.9, 0.9, 5.5, 1]), None, (1.0, 1.0, 1.0))
    assert geometry.target_shape == (round(23 * 5.5), 216, 180)
    assert geometry.step == pytest.approx((1 / 5.5, 1 / 0.9, 1 / 0.9))


def test_what_resamples_nothing_pays_for_no_scipy():
    lazy = "{'scipy.ndimage', 'scipy.optimize'}"
    code = f"import sys, segan_pl.data.prepare.preparation; sys.exit(bool({lazy} & {{*sys.modules}}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_finer_labels_come_back_whole_and_probabilities_stay_where_they_were():
    label = np.random.default_rng(0).integers(0, 4, (4, 5, 6)).astype(np.uint8)
    geometry = target_geometry(label.shape, np.diag([2.0, 2, 2, 1]), "LPS", (0.5, 0.5, 0.5))
    back = geometry.restore(geometry.crop(label))
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, label)
    ramp = np.broadcast_to(np.linspace(0, 1, 6, dtype=np.float32), (2, 4, 5, 6))
    restored = geometry.restore(geometry.crop(ramp))
    assert restored.shape == (2, 4, 5, 6)
    np.testing.assert_allclose(restored[..., 1:-1], ramp[..., 1:-1], atol=1e-5)


def test_json_keeps_a_geometry_exactly():
    geometry = moved(target_geometry((4, 5, 6), OBLIQUE, "LPS", (1.0, 0.7, 1 / 3)), (-1, 0, 2), (3, 3, 3))
    assert Geometry.from_dict(json.loads(json.dumps(geometry.as_dict()))) == geometry
