"""Spatial changes of 3-D patches against SciPy and hand-worked numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from segan_pl.data.transforms import PatchAugmentation, _displacement, _gaussian, extents, resample, source_coordinates
from segan_pl.errors import UsageError

ALL = PatchAugmentation(elastic=1, rotation=1, scaling=1)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def unmoved(patch: tuple[int, int, int]) -> np.ndarray:
    return np.stack(np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in patch], indexing="ij"))


def test_nothing_asked_for_moves_nothing() -> None:
    assert source_coordinates(PatchAugmentation(), (4, 6, 8), rng()) is None
    assert not PatchAugmentation(mirror=(1, 1, 1)).varies_intensities
    assert PatchAugmentation(blur=0.1).varies_intensities


def test_a_rotation_keeps_distances_and_stays_within_its_angle() -> None:
    only = PatchAugmentation(rotation=1, rotation_deg=15)
    c = source_coordinates(only, (9, 9, 9), rng(3))
    assert c is not None
    plain = np.stack(np.meshgrid(*[np.arange(9) - 4.0] * 3, indexing="ij"))
    np.testing.assert_allclose((c**2).sum(0), (plain**2).sum(0), rtol=1e-5, atol=1e-5)
    matrix = np.stack([(c[:, 8, 4, 4]), c[:, 4, 8, 4], c[:, 4, 4, 8]], 1) / 4
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-6)
    assert np.linalg.det(matrix) == pytest.approx(1)
    angle = np.rad2deg(np.arccos((np.trace(matrix) - 1) / 2))
    assert 0 < angle < 15 * np.sqrt(3) + 1
    tilt = np.rad2deg(np.arctan2(np.abs(matrix), np.diag(matrix)))
    assert tilt[~np.eye(3, dtype=bool)].min() > 0.5  # in each of the three planes


def test_a_patch_of_depth_one_is_never_left() -> None:
    for seed in range(20):
        c = source_coordinates(ALL, (1, 32, 32), rng(seed))
        assert c is not None
        assert np.abs(c[0]).max() == 0


def test_a_slab_that_a_thin_volume_cannot_hold_turned_is_changed_in_its_plane_only() -> None:
    slab = (4, 32, 32)
    free = source_coordinates(ALL, slab, rng(2))
    (below, above), *_ = extents(free, slab)
    needed = below + 4 + above
    assert needed > 6
    mine, other = rng(2), rng(2)
    np.testing.assert_array_equal(source_coordinates(ALL, slab, mine, depth=needed), free)
    flat = source_coordinates(ALL, slab, other, depth=needed - 1)
    assert flat is not None
    np.testing.assert_array_equal(flat[0], unmoved(slab)[0])
    assert np.abs(flat[1:] - unmoved(slab)[1:]).max() > 2
    assert mine.random() == other.random()  # what follows does not depend on the volume
    cube = (16, 16, 16)  # lacks room in the plane as well
    deep, thin = (source_coordinates(ALL, cube, rng(2), depth=depth) for depth in (100, 16))
    np.testing.assert_array_equal(deep, thin)


def test_scaling_has_both_halves_of_its_range_equally_often() -> None:
    only = PatchAugmentation(scaling=1, scale_range=(0.75, 1.25))
    scales = [source_coordinates(only, (3, 3, 3), rng(seed))[0, 2, 1, 1] for seed in range(400)]  # type: ignore[index]
    assert 0.75 <= min(scales) < 0.8
    assert 1.2 < max(scales) <= 1.25
    assert 160 < sum(scale > 1 for scale in scales) < 240  # 200 +- 4 standard deviations


def test_the_displacement_is_smooth_and_as_large_as_drawn() -> None:
    only = PatchAugmentation(elastic=1, elastic_scale=(0.2, 0.2))
    patch = (16, 40, 40)
    c = source_coordinates(only, patch, rng(1))
    plain = unmoved(patch)
    moved = np.abs(np.asarray(c) - plain).max((1, 2, 3))
    for axis, n in enumerate(patch):  # sigma is 0.2 n; the largest displacement is 1/8 to 1/2 of it
        assert 0.2 * n / 8 - 1e-3 <= moved[axis] <= 0.2 * n / 2 + 1e-3
    steps = np.abs(np.diff(np.asarray(c)[1] - plain[1], axis=2))
    assert steps.max() < 0.2 * moved[1]  # neighbours move together


@pytest.mark.parametrize("patch", [(1, 12, 14), (10, 12, 14)])
def test_the_displacement_is_noise_under_scipys_gaussian_with_nothing_outside(patch: tuple[int, int, int]) -> None:
    share, strength = 0.14, np.array([0.2, 0.3, 0.4])  # 2 / 0.14 cells are more than voxels: each has its own
    found = _displacement(patch, share, strength, rng(4))
    assert found is not None
    assert found.dtype == np.float32
    source = rng(4)
    for axis, n in enumerate(patch):
        if n == 1:
            assert not found[axis].any()
            continue
        noise = 2 * source.random(patch, np.float32) - 1
        sigma = [share * size for size in patch]
        smooth = ndimage.gaussian_filter(noise.astype(np.float64), sigma, mode="constant", truncate=8)
        expected = smooth / np.abs(smooth).max() * strength[axis] * share * n
        np.testing.assert_allclose(found[axis], expected, atol=1e-5)


def test_coarse_noise_lies_in_the_middle_of_the_patch() -> None:
    weights = _gaussian(30, 0.25)
    assert weights.shape == (30, 8)  # cells of half a sigma
    np.testing.assert_allclose(weights, weights[::-1, ::-1], rtol=1e-5)


def test_a_displacement_from_coarse_noise_spreads_as_scipys_and_its_opposite_edges_are_strangers() -> None:
    patch, share = (12, 48, 48), 0.25
    found: list[np.ndarray] = []
    reference: list[np.ndarray] = []
    for seed in range(60):
        field = _displacement(patch, share, np.ones(3), rng(seed))
        assert field is not None
        noise = rng(1000 + seed).uniform(-1, 1, patch)
        smooth = ndimage.gaussian_filter(noise, [share * n for n in patch], mode="constant")
        found.extend(one / np.abs(one).max() for one in field)
        reference.append(smooth / np.abs(smooth).max())
    spread, expected = (np.mean([one.std() for one in fields]) for fields in (found, reference))
    assert spread == pytest.approx(expected, rel=0.05)
    left, right, near = (np.array([one[6, 24, x] for one in found]) for x in (0, -1, 6))
    assert abs(np.corrcoef(left, right)[0, 1]) < 0.25  # of 180: 3.3 standard deviations
    assert np.corrcoef(left, near)[0, 1] > 0.7  # half a sigma: exp(-1/16) = 0.94 where no edge is near


def test_extents_are_the_range_of_the_coordinates_and_no_more() -> None:
    assert extents(None, (4, 4, 4)) == ((0, 0),) * 3
    plain = unmoved((5, 5, 5)).astype(np.float32)
    assert extents(plain, (5, 5, 5)) == ((0, 0),) * 3
    assert extents(plain * 1.25, (5, 5, 5)) == ((1, 1),) * 3  # reaches 2.5 from the centre, the patch 2
    assert extents(plain * 0.5, (5, 5, 5)) == ((-1, -1),) * 3  # reaches 1
    assert extents(plain * 0.0, (5, 5, 5)) == ((-2, -2),) * 3  # one voxel
    shifted = plain + np.array([0, 3, 0], np.float32)[:, None, None, None]
    assert extents(shifted, (5, 5, 5)) == ((0, 0), (-3, 3), (0, 0))
    assert extents(plain * np.float32(1 + 1e-6), (5, 5, 5)) == ((0, 0),) * 3  # rounding


@pytest.mark.parametrize(("mode", "order"), [("bilinear", 1), ("nearest", 0)])
def test_resampling_is_scipys(mode: str, order: int) -> None:
    volume = rng().random((12, 14, 16)).astype(np.float32)
    c = source_coordinates(ALL, (6, 6, 6), rng(5))
    assert c is not None
    centre = (5.5, 6.5, 7.5)
    found = resample(torch.from_numpy(volume)[None], torch.from_numpy(c), centre, mode)[0].numpy()
    points = c + np.array(centre, np.float32)[:, None, None, None]
    np.testing.assert_allclose(found, ndimage.map_coordinates(volume, points, order=order), atol=2e-5)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"noise": 1.5}, r"noise 1.5: expected a chance from 0 to 1$"),
        ({"blur_modality": math.nan}, r"blur_modality nan: expected a chance"),
        ({"mirror": (0.5, 0.5, -1)}, r"mirror \[0.5, 0.5, -1\]: expected three chances from 0 to 1 \(z, y, x\)$"),
        ({"mirror": 0.5}, "mirror 0.5: expected three chances"),
        ({"rotation_deg": -15.0}, "rotation_deg -15.0: expected degrees, at least 0$"),
        ({"rotation_deg": math.inf}, "rotation_deg inf: expected degrees"),
        ({"noise_range": (0.2, 0.1)}, r"noise_range \[0.2, 0.1\]: expected two numbers from 0 on, the smaller first$"),
        ({"noise_range": (0.0, 0.1, 9.0)}, r"noise_range .* expected two numbers"),
        ({"brightness_range": (0.7, math.inf)}, "brightness_range .* expected two numbers"),
        ({"elastic_scale": (-0.1, 0.2)}, "elastic_scale .* expected two numbers from 0 on"),
        ({"blur_range": (0.0, 1.0)}, r"blur_range \[0.0, 1.0\]: expected voxels above 0$"),
        ({"blur_range": (-1.0, 1.0)}, "blur_range .* expected two numbers from 0 on"),
        ({"scale_range": (1.1, 1.3)}, r"scale_range \[1.1, 1.3\]: expected a range around 1, above 0$"),
        ({"gamma_range": (0.0, 1.3)}, "gamma_range .* expected a range around 1, above 0$"),
    ],
)
def test_senseless_settings_are_refused_by_their_option(wrong: dict[str, object], error: str) -> None:
    with pytest.raises(UsageError, match=f"^--data.patch_augmentation.{error}"):
        PatchAugmentation(**wrong)  # type: ignore[arg-type]
