"""Brightness to low resolution against MONAI, SciPy, NumPy and numbers worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.transforms import AdjustContrast, RandSimulateLowResolution
from scipy import ndimage

from segan_pl.data.labels import label_scheme
from segan_pl.data.sample import intensities
from segan_pl.data.sample.augment import Augment, Gathered
from segan_pl.data.sample.changes import Changes, draw_changes
from segan_pl.data.sample.intensities import low_resolution, with_intensities
from segan_pl.data.sample.options import Augmentation


def changed(
    image: torch.Tensor, first: int = 0, *, mask: torch.Tensor | None = None, **options: object
) -> torch.Tensor:
    """What becomes of (B, M, D, H, W) with the seeds first, first + 1, ..."""
    keep = bool(options.pop("keep", False))
    moments = bool(options.get("gamma_keeps_moments"))
    background = float(options.pop("background", 0.0))  # type: ignore[arg-type]
    seed = torch.arange(first, first + len(image))
    made = drawn(image, first, **options)
    mask = torch.ones(image.shape[:2], dtype=torch.bool) if mask is None else mask
    return with_intensities(
        image.clone(), made, seed, mask, background=background, keep_background=keep, keep_moments=moments
    )


def drawn(image: torch.Tensor, first: int = 0, **options: object) -> Changes:
    return draw_changes(torch.arange(first, first + len(image)), Augmentation(**options), image.shape[1])  # type: ignore[arg-type]


def test_nothing_asked_for_changes_nothing() -> None:
    image = torch.randn(3, 2, 4, 6, 8)
    assert torch.equal(changed(image), image)


def test_brightness_is_one_factor_for_each_modality() -> None:
    image = torch.rand(2, 3, 4, 4, 4) + 1
    factor = changed(image, brightness=1, brightness_range=(0.7, 1.5)) / image
    for one in factor.flatten(0, 1):
        assert one.std() < 1e-5
        assert 0.7 <= one.mean() <= 1.5
    assert len({round(float(one.mean()), 4) for one in factor.flatten(0, 1)}) == 6


@pytest.mark.parametrize("inverted", [False, True])
def test_gamma_is_monais_for_each_modality_and_leaves_the_range(inverted: bool) -> None:
    image = torch.randn(2, 3, 6, 6, 6)
    name = "inverted_gamma" if inverted else "gamma"
    found, exponents = changed(image, 2, **{name: 1}), getattr(drawn(image, 2, **{name: 1}), name)
    for before, after, exponent in zip(image.flatten(0, 1), found.flatten(0, 1), exponents.flatten(), strict=True):
        expected = AdjustContrast(float(exponent), invert_image=inverted)(before[None])[0]
        np.testing.assert_allclose(after, expected, atol=1e-5)
        torch.testing.assert_close(after.aminmax(), before.aminmax())
        assert 0.5 <= float(exponent) <= 2


@pytest.mark.parametrize("inverted", [False, True])
def test_gamma_that_keeps_moments_is_monais_that_retains_stats(inverted: bool) -> None:
    image = torch.randn(2, 3, 6, 6, 6) * 2 - 1
    options = {"inverted_gamma" if inverted else "gamma": 1, "gamma_keeps_moments": True}
    found, exponents = changed(image, 2, **options), getattr(drawn(image, 2, **options), next(iter(options)))
    for before, after, exponent in zip(image.flatten(0, 1), found.flatten(0, 1), exponents.flatten(), strict=True):
        expected = AdjustContrast(float(exponent), invert_image=inverted, retain_stats=True)(before[None])[0]
        np.testing.assert_allclose(after, expected, atol=1e-4)
        assert after.mean().item() == pytest.approx(before.mean().item(), abs=1e-5)
        assert after.std().item() == pytest.approx(before.std().item(), rel=1e-5)
    assert not torch.allclose(found, changed(image, 2, **{**options, "gamma_keeps_moments": False}), atol=0.01)


def test_contrast_stretches_about_the_mean_within_the_range_that_there_was() -> None:
    image = torch.randn(2, 3, 6, 7, 8) * 2 + 5
    options = {"contrast": 1, "contrast_range": (0.75, 1.25)}
    found, factors = changed(image, **options), drawn(image, **options).contrast
    for before, after, factor in zip(image.flatten(0, 1), found.flatten(0, 1), factors.flatten(), strict=True):
        voxels = before.numpy().astype(np.float64)
        expected = (voxels - voxels.mean()) * float(factor) + voxels.mean()
        np.testing.assert_allclose(after, expected.clip(voxels.min(), voxels.max()), atol=1e-5)
    assert len(set(factors.flatten().tolist())) == 6
    assert float(factors.min()) < 1 < float(factors.max())


def test_it_does_not_matter_how_much_is_changed_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    image = torch.randn(3, 4, 6, 7, 8)
    options = {"brightness": 0.7, "contrast": 0.7, "gamma": 0.7, "inverted_gamma": 0.7, "gamma_keeps_moments": True}
    whole = changed(image, **options)
    for few in (1, 2 * 6 * 7 * 8, 3 * 6 * 7 * 8):
        monkeypatch.setattr(intensities, "CACHED", few)
        assert torch.equal(changed(image, **options), whole)


def test_low_resolution_by_hand() -> None:
    row = torch.tensor([1.0, 2.0, 3.0, 6.0])
    # Of four voxels two are read, the second and the fourth; their middles are two voxels apart.
    expected = torch.tensor([2.0, 3.0, 5.0, 6.0])
    for shape in ((1, 1, 4), (1, 4, 1), (4, 1, 1)):
        found = low_resolution(row.view(shape), 0.5)
        torch.testing.assert_close(found.flatten(), expected)


@pytest.mark.parametrize("depth", [1, 5, 12])
@pytest.mark.parametrize("share", [0.5, 0.73, 1.0])
def test_low_resolution_is_monais_and_stays_in_the_plane_of_a_slice(depth: int, share: float) -> None:
    image = torch.randn(1, 2, depth, 24, 19)
    options = {"low_resolution": 1, "low_resolution_range": (share, share), "low_resolution_modality": 1.0}
    found = changed(image, **options)[0]
    both = {"zoom_range": (share, share), "prob": 1, "downsample_mode": "nearest-exact"}
    if depth == 1:
        reference = RandSimulateLowResolution(**both, upsample_mode="bilinear")(image[0, :, 0])[:, None]
    else:
        reference = RandSimulateLowResolution(**both, upsample_mode="trilinear")(image[0])
    np.testing.assert_allclose(found, reference, atol=1e-5)
    assert torch.equal(found, image[0]) == (share == 1)
    assert torch.equal(changed(image, low_resolution=1, low_resolution_modality=0.0), image)


def test_every_modality_has_a_resolution_of_its_own_and_one_that_is_missing_stays() -> None:
    image = torch.randn(1, 1, 1, 40, 40).repeat(2, 4, 1, 1, 1)
    mask = torch.tensor([[True] * 4, [True, False, True, True]])
    found = changed(image, 3, mask=mask, low_resolution=1, low_resolution_modality=1.0)
    assert len({one.numpy().tobytes() for one in found[0]}) == 4
    assert torch.equal(found[1, 1], image[1, 1])
    again = changed(image[1:], 4, mask=mask[1:], low_resolution=1, low_resolution_modality=1.0)
    assert torch.equal(again[0], found[1])  # whatever else is in the batch


def test_noise_has_the_standard_deviation_drawn_and_follows_from_the_seed() -> None:
    blank = torch.zeros(2, 2, 20, 20, 20)
    options = {"noise": 1, "noise_range": (0.05, 0.05)}
    found = changed(blank, **options)
    assert found.std((2, 3, 4)).flatten().tolist() == pytest.approx([0.05] * 4, rel=0.05)
    assert float(found.mean((2, 3, 4)).abs().max()) < 0.002
    assert torch.equal(changed(blank, **options), found)
    assert torch.equal(changed(blank[:1], 1, **options)[0], found[1])  # whatever else is in the batch
    assert float(torch.corrcoef(found.flatten(0, 1).flatten(1)).sub(torch.eye(4)).abs().max()) < 0.05


@pytest.mark.parametrize("depth", [1, 2, 9])
@pytest.mark.parametrize("sigma", [0.5, 1.5])
def test_blur_is_scipys_mirrored_at_the_faces_and_stays_in_the_plane_of_a_slice(depth: int, sigma: float) -> None:
    image = torch.rand(1, 2, depth, 24, 20) - 3
    options = {"blur": 1, "blur_range": (sigma, sigma), "blur_modality": 1.0}
    axes = (0 if depth == 1 else sigma, sigma, sigma)
    reference = [ndimage.gaussian_filter(one.numpy().astype(np.float64), axes, mode="reflect") for one in image[0]]
    np.testing.assert_allclose(changed(image, **options)[0], np.stack(reference), atol=1e-5)
    constant = torch.full((1, 1, depth, 24, 24), -3.0)
    torch.testing.assert_close(changed(constant, **options), constant, atol=1e-5, rtol=0)
    assert torch.equal(changed(image, blur=1, blur_modality=0.0), image)


def test_every_modality_is_blurred_with_a_sigma_of_its_own() -> None:
    one = torch.randn(1, 1, 6, 20, 20)
    found = changed(one.repeat(1, 4, 1, 1, 1), blur=1, blur_range=(0.5, 1.5), blur_modality=1.0)[0]
    spread = sorted(found.flatten(1).std(1).tolist())  # the wider the Gaussian, the less is left
    assert min(np.diff(spread)) > 0.0005
    limits = [ndimage.gaussian_filter(one[0, 0].numpy(), sigma).std() for sigma in (1.5, 0.5)]
    assert limits[0] <= spread[0]
    assert spread[-1] <= limits[1]


INTENSE = {"brightness": 1, "gamma": 1, "inverted_gamma": 1}
ABOUT_MEAN = {**INTENSE, "contrast": 1, "gamma_keeps_moments": True}


@pytest.mark.parametrize(
    ("low", "background"),
    [(-2.5, 0.0), (-900.0, 0.0), (-1.0, -1.0), (0.0, 0.0)],
    ids=["z", "native", "-1 to 1", "0 to 1"],
)
def test_brightness_contrast_and_gamma_leave_the_background_alone(low: float, background: float) -> None:
    image = torch.full((1, 2, 6, 6, 6), background)
    image[..., 2:4, 2:4, 2:4] = torch.linspace(low, 1, 16).reshape(2, 2, 2, 2)
    outside = (image == background).all(1)[0]
    for options, keep in ((INTENSE, low != background), (ABOUT_MEAN, True)):
        found = changed(image, 3, background=background, keep=keep, **options)
        torch.testing.assert_close(found[0][:, outside], image[0][:, outside], atol=1e-5, rtol=0)
        assert not torch.isclose(found, image).all()


def test_the_background_moves_where_it_is_not_to_be_kept() -> None:
    image = torch.zeros(1, 1, 6, 6, 6)
    image[..., 2:4, 2:4, 2:4] = torch.linspace(-2, 1, 8).reshape(2, 2, 2)
    found, kept = (changed(image, 3, gamma=1, keep=keep) for keep in (False, True))
    assert (found[image == 0] != 0).all()
    assert torch.equal(found[image != 0], kept[image != 0])


def test_what_is_not_shown_has_no_say_in_what_is_background() -> None:
    image = torch.zeros(1, 2, 6, 6, 6)
    image[..., 2:4, 2:4, 2:4] = torch.linspace(-2, 1, 16).reshape(2, 2, 2, 2)
    image[0, 1] = 7.0
    found = changed(image, 3, mask=torch.tensor([[True, False]]), gamma=1, keep=True)
    assert (found[0, 0][image[0, 0] == 0] == 0).all()


def test_a_patch_of_background_alone_stays_as_it_is() -> None:
    for keep in (True, False):
        empty = torch.zeros(1, 2, 4, 8, 8)
        assert torch.equal(changed(empty, keep=keep, **ABOUT_MEAN), empty)


@pytest.mark.parametrize("options", [{"contrast": 1}, {"gamma": 1, "gamma_keeps_moments": True}], ids=str)
def test_what_refers_to_the_mean_leaves_a_background_of_percentiles_alone_too(options: dict[str, object]) -> None:
    image = torch.zeros(1, 1, 6, 6, 6, dtype=torch.float16)
    image[..., 2:4, 2:4, 2:4] = torch.linspace(0.1, 1, 8).reshape(2, 2, 2)
    rest = [torch.ones(1, dtype=torch.bool), torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, dtype=torch.int64)]
    read = Gathered(image, torch.zeros(1, 6, 6, 6, dtype=torch.uint8), None, *rest, torch.zeros(1, 3), rest[2] + 3)
    kept, moved = (
        Augment(Augmentation(**options, keep_background=keep), label_scheme("binary"), (6, 6, 6))(read).image  # type: ignore[arg-type]
        for keep in (True, False)
    )
    assert not kept[image == 0].any()
    assert moved[image == 0].all()
    assert torch.equal(kept[image > 0], moved[image > 0])
