"""Brightness, gamma, noise and blur of 3-D patches against SciPy and hand-worked numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from segan_pl.data.shading import shaded
from segan_pl.data.transforms import PatchAugmentation


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def only(**chances: object) -> PatchAugmentation:
    return PatchAugmentation(**chances)  # type: ignore[arg-type]


def test_nothing_asked_for_shades_nothing() -> None:
    image = torch.randn(2, 4, 6, 8)
    assert torch.equal(shaded(image, PatchAugmentation(), rng()), image)


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
    again, other = (
        shaded(torch.zeros(1, 20, 20, 20), only(noise=1, noise_range=(0.05, 0.05)), rng(seed)) for seed in (0, 1)
    )
    assert torch.equal(again, found)
    assert abs(float(torch.corrcoef(torch.stack([found, other]).flatten(1))[0, 1])) < 0.05


@pytest.mark.parametrize("depth", [1, 2, 9])
@pytest.mark.parametrize("sigma", [0.5, 1.5])
def test_blur_is_scipys_mirrored_at_the_faces_and_stays_in_the_plane_of_a_slice(depth: int, sigma: float) -> None:
    image = torch.rand(2, depth, 24, 24) - 3
    found = shaded(image, only(blur=1, blur_range=(sigma, sigma), blur_modality=1.0), rng())
    axes = (0 if depth == 1 else sigma, sigma, sigma)
    reference = [ndimage.gaussian_filter(one.numpy().astype(np.float64), axes, mode="reflect") for one in image]
    np.testing.assert_allclose(found.numpy(), np.stack(reference), atol=1e-5)
    constant = torch.full((1, depth, 24, 24), -3.0)
    still = shaded(constant, only(blur=1, blur_range=(sigma, sigma), blur_modality=1.0), rng())
    torch.testing.assert_close(still, constant, atol=1e-5, rtol=0)
    kept = shaded(image, only(blur=1, blur_modality=0.0), rng())
    assert torch.equal(kept, image)


def test_every_modality_is_blurred_with_a_sigma_of_its_own() -> None:
    one = torch.randn(1, 6, 20, 20)
    found = shaded(one.repeat(4, 1, 1, 1), only(blur=1, blur_range=(0.5, 1.5), blur_modality=1.0), rng())
    spread = sorted(found.flatten(1).std(1).tolist())  # the wider the Gaussian, the less is left
    assert min(np.diff(spread)) > 0.001
    limits = [ndimage.gaussian_filter(one[0].numpy(), sigma).std() for sigma in (1.5, 0.5)]
    assert limits[0] <= spread[0]
    assert spread[-1] <= limits[1]
