"""3-D augmentation against SciPy and hand-worked numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from segan_pl.data.transforms import PatchAugmentation, extents, resample, shaded, source_coordinates

ALL = PatchAugmentation(elastic=1, rotation=1, scaling=1)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_nothing_asked_for_moves_and_shades_nothing() -> None:
    assert source_coordinates(PatchAugmentation(), (4, 6, 8), rng()) is None
    image = torch.randn(2, 4, 6, 8)
    assert torch.equal(shaded(image, PatchAugmentation(), rng()), image)
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


def test_a_patch_of_depth_one_is_never_left() -> None:
    for seed in range(20):
        c = source_coordinates(ALL, (1, 32, 32), rng(seed))
        assert c is not None
        assert np.abs(c[0]).max() == 0


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
    plain = np.stack(np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in patch], indexing="ij"))
    moved = np.abs(np.asarray(c) - plain).max((1, 2, 3))
    for axis, n in enumerate(patch):  # sigma is 0.2 n; the largest displacement is 1/8 to 1/2 of it
        assert 0.2 * n / 8 - 1e-3 <= moved[axis] <= 0.2 * n / 2 + 1e-3
    steps = np.abs(np.diff(np.asarray(c)[1] - plain[1], axis=2))
    assert steps.max() < 0.2 * moved[1]  # neighbours move together


def test_extents_are_what_the_coordinates_need_and_no_more() -> None:
    assert extents(None, (4, 4, 4)) == ((0, 0),) * 3
    plain = np.stack(np.meshgrid(*[np.arange(5) - 2.0] * 3, indexing="ij")).astype(np.float32)
    assert extents(plain, (5, 5, 5)) == ((0, 0),) * 3
    assert extents(plain * 1.25, (5, 5, 5)) == ((1, 1),) * 3  # reaches 2.5 from the centre, the patch 2
    assert extents(plain * 0.5, (5, 5, 5)) == ((0, 0),) * 3
    assert extents(plain + np.array([0, 3, 0], np.float32)[:, None, None, None], (5, 5, 5)) == ((0, 0), (0, 3), (0, 0))


@pytest.mark.parametrize(("mode", "order"), [("bilinear", 1), ("nearest", 0)])
def test_resampling_is_scipys(mode: str, order: int) -> None:
    volume = rng().random((12, 14, 16)).astype(np.float32)
    c = source_coordinates(ALL, (6, 6, 6), rng(5))
    assert c is not None
    centre = (5.5, 6.5, 7.5)
    found = resample(torch.from_numpy(volume)[None], torch.from_numpy(c), centre, mode)[0].numpy()
    points = c + np.array(centre, np.float32)[:, None, None, None]
    np.testing.assert_allclose(found, ndimage.map_coordinates(volume, points, order=order), atol=2e-5)


def only(**chances: object) -> PatchAugmentation:
    return PatchAugmentation(**chances)  # type: ignore[arg-type]


def test_brightness_is_one_factor_a_modality() -> None:
    image = torch.rand(3, 4, 4, 4) + 1
    factor = shaded(image, only(brightness=1, brightness_range=(0.7, 1.5)), rng()) / image
    for one in factor:
        assert one.std() < 1e-5
        assert 0.7 <= one.mean() <= 1.5
    assert len({round(float(one.mean()), 4) for one in factor}) == 3


@pytest.mark.parametrize("inverted", [False, True])
def test_gamma_is_a_power_of_the_intensities_scaled_to_0_and_1(inverted: bool) -> None:
    image = torch.randn(1, 6, 6, 6)
    chances = {"inverted_gamma" if inverted else "gamma": 1}
    found = shaded(image, only(**chances, gamma_range=(0.5, 0.5 + 1.5)), rng(2))
    sign = -1 if inverted else 1
    before, after = sign * image, sign * found
    low, high = before.min(), before.max()
    unit, power = (before - low) / (high - low), (after - low) / (high - low)
    inner = (unit > 0.05) & (unit < 0.95)
    exponent = power[inner].log() / unit[inner].log()
    assert exponent.std() < 1e-3
    assert 0.5 <= exponent.mean() <= 2
    assert abs(float(exponent.mean()) - 1) > 0.01
    torch.testing.assert_close(torch.stack([after.min(), after.max()]), torch.stack([low, high]))


def test_noise_has_the_standard_deviation_drawn() -> None:
    found = shaded(torch.zeros(1, 20, 20, 20), only(noise=1, noise_range=(0.05, 0.05)), rng())
    assert float(found.std()) == pytest.approx(0.05, rel=0.05)
    assert abs(float(found.mean())) < 0.002


@pytest.mark.parametrize("depth", [1, 9])
def test_blur_is_scipys_and_stays_in_the_plane_of_a_slice(depth: int) -> None:
    image = torch.rand(2, depth, 24, 24)
    found = shaded(image, only(blur=1, blur_range=(1.0, 1.0), blur_modality=1.0), rng())
    sigma = (0 if depth == 1 else 1, 1, 1)
    reference = [ndimage.gaussian_filter(one.numpy(), sigma, mode="constant") for one in image]
    np.testing.assert_allclose(found.numpy(), np.stack(reference), atol=2e-4)
    kept = shaded(image, only(blur=1, blur_modality=0.0), rng())
    assert torch.equal(kept, image)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"noise": 1.5}, "noise is 1.5, expected chances"),
        ({"mirror": (0.5, 0.5, -1)}, "mirror is"),
        ({"blur_range": (2.0, 1.0)}, "blur_range is .*, expected two numbers, the smaller first"),
        ({"scale_range": (1.1, 1.3)}, "scale_range is .*, expected a range around 1"),
    ],
)
def test_senseless_settings_are_refused(wrong: dict[str, object], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        only(**wrong)
