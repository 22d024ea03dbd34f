"""Spatial changes of patches against SciPy, NumPy and hand-worked numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from segan_pl.data.sample.changes import Changes, draw_changes
from segan_pl.data.sample.options import Augmentation
from segan_pl.data.sample.random_numbers import uniform
from segan_pl.data.sample.spatial import (
    displacement,
    gaussian,
    grid_in,
    margins,
    matrices,
    resample,
    source_coordinates,
)

ALL = Augmentation(elastic=1, rotation=1, scaling=1)


def changes(options: Augmentation = ALL, size: int = 1, first: int = 0) -> tuple[Changes, torch.Tensor]:
    """Those of the seeds first, first + 1, ..."""
    seed = torch.arange(first, first + size)
    return draw_changes(seed, options, 2), seed


def still(size: int = 1) -> Changes:
    """Nothing happens."""
    return draw_changes(torch.arange(size), Augmentation(), 2)


def coordinates(made: tuple[Changes, torch.Tensor], patch: tuple[int, int, int], flat: bool = False) -> np.ndarray:
    """(B, 3, *patch)."""
    return source_coordinates(*made, patch, torch.full(made[1].shape, flat)).numpy()


def unmoved(patch: tuple[int, int, int]) -> np.ndarray:
    return np.stack(np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in patch], indexing="ij"))


def test_nothing_asked_for_moves_nothing() -> None:
    assert not still(100).moved.any()
    np.testing.assert_array_equal(
        coordinates((still(), torch.zeros(1, dtype=torch.int64)), (4, 6, 8))[0], unmoved((4, 6, 8))
    )
    assert not Augmentation(mirror=(1, 1, 1)).varies_intensities
    assert Augmentation(blur=0.1).varies_intensities


def test_a_rotation_keeps_distances_and_stays_within_its_angle() -> None:
    c = coordinates(changes(Augmentation(rotation=1, rotation_deg=15), 1, 3), (9, 9, 9))[0]
    np.testing.assert_allclose((c**2).sum(0), (unmoved((9, 9, 9)) ** 2).sum(0), rtol=1e-5, atol=1e-5)
    matrix = np.stack([(c[:, 8, 4, 4]), c[:, 4, 8, 4], c[:, 4, 4, 8]], 1) / 4
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-6)
    assert np.linalg.det(matrix) == pytest.approx(1)
    angle = np.rad2deg(np.arccos((np.trace(matrix) - 1) / 2))
    assert 0 < angle < 15 * np.sqrt(3) + 1
    tilt = np.rad2deg(np.arctan2(np.abs(matrix), np.diag(matrix)))
    assert tilt[~np.eye(3, dtype=bool)].min() > 0.5  # in each of the three planes


def test_a_turn_is_about_z_then_y_then_x_and_then_scaled() -> None:
    made = still()._replace(angles=torch.tensor([[0.3, -0.2, 0.5]]).double(), scale=torch.tensor([1.2]).double())
    z, y, x = (float(angle) for angle in made.angles[0])
    about_z = [[1, 0, 0], [0, math.cos(z), -math.sin(z)], [0, math.sin(z), math.cos(z)]]
    about_y = [[math.cos(y), 0, -math.sin(y)], [0, 1, 0], [math.sin(y), 0, math.cos(y)]]
    about_x = [[math.cos(x), -math.sin(x), 0], [math.sin(x), math.cos(x), 0], [0, 0, 1]]
    expected = 1.2 * np.array(about_x) @ np.array(about_y) @ np.array(about_z)
    np.testing.assert_allclose(matrices(made, torch.tensor([False]))[0], expected, atol=1e-12)
    flat = np.diag([1, 1.2, 1.2]) @ np.array(about_z)
    np.testing.assert_allclose(matrices(made, torch.tensor([True]))[0], flat, atol=1e-12)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns_of_a_slice_are_those_of_numpy_clockwise(quarters: int) -> None:
    square = torch.from_numpy(np.random.default_rng(0).random((1, 2, 1, 24, 24), np.float32))
    turn = still()._replace(angles=torch.tensor([[quarters * math.pi / 2, 0, 0]]).double())
    c = source_coordinates(turn, torch.zeros(1, dtype=torch.int64), (1, 24, 24), torch.tensor([True]))
    turned = resample(square, grid_in((1, 24, 24), c), "bilinear")
    np.testing.assert_allclose(turned[0, :, 0], np.rot90(square[0, :, 0], -quarters, (1, 2)), atol=1e-4)


def test_a_field_of_view_of_a_half_shows_the_middle_half_twice_as_large() -> None:
    small = torch.zeros(1, 1, 1, 16, 16)
    small[..., 4:12, 4:12] = torch.arange(64.0).reshape(8, 8)
    made = still()._replace(scale=torch.tensor([0.5]).double())
    c = source_coordinates(made, torch.zeros(1, dtype=torch.int64), (1, 16, 16), torch.tensor([True]))
    larger = resample(small, grid_in((1, 16, 16), c), "nearest")[0, 0, 0]
    assert torch.equal(larger, small[0, 0, 0, 4:12, 4:12].repeat_interleave(2, 0).repeat_interleave(2, 1))


def test_a_patch_of_depth_one_is_never_left() -> None:
    made = changes(ALL, 20)
    _, flat = margins(made[0], (1, 32, 32))
    assert flat.all()
    assert np.abs(coordinates(made, (1, 32, 32), flat=True)[:, 0]).max() == 0


def test_a_slab_that_a_thin_volume_cannot_hold_turned_is_changed_in_its_plane_only() -> None:
    slab, made = (4, 32, 32), changes(ALL, 1, 2)
    free, flat = margins(made[0], slab)
    assert not flat
    needed = 4 + 2 * int(free[0, 0])
    assert needed > 6
    for depth, is_flat in ((needed, False), (needed - 1, True)):
        margin, flat = margins(made[0], slab, torch.tensor([depth]))
        assert flat.tolist() == [is_flat]
        assert bool((margin[0, 0] == 0) == is_flat)
    found = coordinates(made, slab, flat=True)[0]
    np.testing.assert_array_equal(found[0], unmoved(slab)[0])
    assert np.abs(found[1:] - unmoved(slab)[1:]).max() > 2
    assert not margins(made[0], (16, 16, 16), torch.tensor([16]))[1]  # a cube lacks room in the plane as well


def test_the_displacement_is_smooth_and_as_large_as_drawn() -> None:
    patch, made = (16, 40, 40), changes(Augmentation(elastic=1, elastic_scale=(0.2, 0.2)), 1, 1)
    field = coordinates(made, patch)[0] - unmoved(patch)
    moved = np.abs(field).max((1, 2, 3))
    for axis, n in enumerate(patch):  # sigma is 0.2 n; the largest displacement is 1/8 to 1/2 of it
        assert 0.2 * n / 8 - 1e-3 <= moved[axis] <= 0.2 * n / 2 + 1e-3
        assert moved[axis] == pytest.approx(float(made[0].strength[0, axis]) * 0.2 * n, rel=1e-4)
    assert np.abs(np.diff(field[1], axis=2)).max() < 0.2 * moved[1]  # neighbours move together


@pytest.mark.parametrize("patch", [(1, 12, 14), (10, 12, 14)])
def test_the_displacement_is_noise_under_scipys_gaussian_with_nothing_outside(patch: tuple[int, int, int]) -> None:
    share, strength = 0.14, torch.tensor([0.2, 0.3, 0.4])  # 2 / 0.14 cells are more than voxels: each has its own
    seed = torch.tensor([4])
    found = displacement(patch, share, strength, seed)
    assert found.dtype == torch.float32
    noise = (2 * uniform(seed, 101, 3 * math.prod(patch)) - 1).reshape(3, *patch).double().numpy()
    for axis, n in enumerate(patch):
        if n == 1:
            assert not found[axis].any()
            continue
        smooth = ndimage.gaussian_filter(noise[axis], [share * size for size in patch], mode="constant", truncate=8)
        expected = smooth / np.abs(smooth).max() * float(strength[axis]) * share * n
        np.testing.assert_allclose(found[axis], expected, atol=1e-5)


def test_coarse_noise_lies_in_the_middle_of_the_patch() -> None:
    weights = gaussian(30, 0.25)
    assert weights.shape == (30, 8)  # cells of half a sigma
    np.testing.assert_allclose(weights, weights.flip(0, 1), rtol=1e-5)


def test_a_displacement_from_coarse_noise_spreads_as_scipys_and_its_opposite_edges_are_strangers() -> None:
    patch, share = (12, 48, 48), 0.25
    found: list[np.ndarray] = []
    reference: list[np.ndarray] = []
    for seed in range(60):
        field = displacement(patch, share, torch.ones(3), torch.tensor([seed])).numpy()
        noise = np.random.default_rng(1000 + seed).uniform(-1, 1, patch)
        smooth = ndimage.gaussian_filter(noise, [share * n for n in patch], mode="constant")
        found.extend(one / np.abs(one).max() for one in field)
        reference.append(smooth / np.abs(smooth).max())
    spread, expected = (np.mean([one.std() for one in fields]) for fields in (found, reference))
    assert spread == pytest.approx(expected, rel=0.05)
    left, right, near = (np.array([one[6, 24, x] for one in found]) for x in (0, -1, 6))
    assert abs(np.corrcoef(left, right)[0, 1]) < 0.25  # of 180: 3.3 standard deviations
    assert np.corrcoef(left, near)[0, 1] > 0.7  # half a sigma: exp(-1/16) = 0.94 where no edge is near


def test_margins_hold_the_changed_patch_and_no_more() -> None:
    cube = (5, 5, 5)

    def needed(**fields: object) -> list[int]:
        made = still()._replace(**{name: torch.tensor(value).double() for name, value in fields.items()})
        return margins(made, cube)[0][0].tolist()

    assert needed() == [0, 0, 0]
    assert needed(scale=[1.25]) == [1, 1, 1]  # reaches 2.5 from the centre, the patch 2
    assert needed(scale=[0.5]) == [-1, -1, -1]  # reaches 1
    assert needed(scale=[1e-9]) == [-2, -2, -2]  # one voxel
    assert needed(scale=[1 + 1e-6]) == [0, 0, 0]  # rounding
    assert needed(angles=[[math.pi / 2, 0, 0]]) == [0, 0, 0]
    assert needed(angles=[[math.pi / 4, 0, 0]]) == [0, 1, 1]  # 2 sqrt 2 = 2.83
    made, seed = changes(ALL, 50)
    reach = np.abs(coordinates((made, seed), (6, 20, 24))).max((2, 3, 4))
    box = margins(made, (6, 20, 24))[0].numpy() + (np.array([6, 20, 24]) - 1) / 2
    assert (reach <= box + 1e-4).all()
    unbent, seed = changes(Augmentation(rotation=1, scaling=1), 50)
    reach = np.abs(coordinates((unbent, seed), (6, 20, 24))).max((2, 3, 4))
    box = margins(unbent, (6, 20, 24))[0].numpy() + (np.array([6, 20, 24]) - 1) / 2
    assert (box - reach < 1).all()  # without a displacement not a voxel too many


@pytest.mark.parametrize("sides", [(12, 14, 16), (1, 14, 16)])
@pytest.mark.parametrize(("mode", "order"), [("bilinear", 1), ("nearest", 0)])
def test_resampling_is_scipys(sides: tuple[int, int, int], mode: str, order: int) -> None:
    volume = np.random.default_rng(0).random((2, *sides)).astype(np.float32)
    patch = (1 if sides[0] == 1 else 6, 6, 6)
    c = coordinates(changes(ALL, 2, 5), patch, flat=sides[0] == 1)
    found = resample(torch.from_numpy(volume)[:, None], grid_in(sides, torch.from_numpy(c)), mode)[:, 0].numpy()
    for one, where, back in zip(volume, c, found, strict=True):
        points = where + (np.array(sides, np.float32)[:, None, None, None] - 1) / 2
        np.testing.assert_allclose(back, ndimage.map_coordinates(one, points, order=order), atol=2e-5)
