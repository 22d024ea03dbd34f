from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from segan_pl.data.augmentation import Augmentation, Draws, shade, warp, window

PLANES = torch.from_numpy(np.random.default_rng(0).random((2, 24, 30), np.float32))
LABEL = (PLANES[:1] > 0.7).float()
ALL = {"flip_x": 0.5, "flip_y": 0.5, "rotation_deg": 20.0, "scale": 0.2, "gain": 0.1, "gamma": 0.2}


def draw(size: int = 50, **options: float) -> Draws:
    return Augmentation(**options).draw(np.random.default_rng(7), size, 3)


def test_the_default_varies_nothing_but_the_place() -> None:
    draws = draw()
    assert draws.corner.std() > 0.2
    assert not draws.flip.any()
    assert (draws.rotation == 0).all()
    for field in (draws.scale, draws.gain, draws.gamma):
        assert (field == 1).all()
    assert not Augmentation().warps
    assert not Augmentation().shades


@pytest.mark.parametrize("name", sorted(ALL))
def test_an_option_does_not_shift_the_draws_of_the_others(name: str) -> None:
    every, without = draw(**ALL), draw(**{**ALL, name: 0.0})
    field = {"flip_x": "flip", "flip_y": "flip", "rotation_deg": "rotation"}.get(name, name)
    for other in set(Draws._fields) - {field}:
        np.testing.assert_array_equal(getattr(every, other), getattr(without, other))


def test_draws_stay_in_their_ranges_and_reach_them() -> None:
    draws = draw(2000, **ALL)
    assert math.degrees(abs(draws.rotation).max()) == pytest.approx(20, rel=0.02)
    assert (draws.scale.min(), draws.scale.max()) == pytest.approx((0.8, 1.2), abs=0.01)
    assert (draws.gain.min(), draws.gain.max()) == pytest.approx((0.9, 1.1), abs=0.01)
    assert (draws.gamma.min(), draws.gamma.max()) == pytest.approx((math.exp(-0.2), math.exp(0.2)), abs=0.01)
    assert draws.flip.mean(0) == pytest.approx([0.5, 0.5], abs=0.05)
    assert draws.gain.shape == draws.gamma.shape == (2000, 3)


def test_flip_chances_are_for_y_and_x_in_this_order() -> None:
    assert draw(flip_x=1.0).flip.tolist() == [[False, True]] * 50
    assert draw(flip_y=1.0).flip.tolist() == [[True, False]] * 50


def test_a_window_reaches_every_place_and_none_outside() -> None:
    starts = {window((10, 7), (8, 7), corner)[0] for corner in np.random.default_rng(0).random((200, 2))}
    assert starts == {0, 1, 2}
    assert window((10, 7), (8, 7), np.array([0.999, 0.999])) == (2, 0)


@pytest.mark.parametrize(("size", "start"), [(8, -1), (7, -1), (6, -2), (9, 0)])
def test_a_slice_smaller_than_the_patch_lies_in_its_middle(size: int, start: int) -> None:
    assert window((size, 10), (10, 10), np.array([0.0, 0.9]))[0] in (start, 0 if size >= 9 else start)
    assert (10 - size) // 2 == -window((size, 10), (10, 10), np.array([0.9, 0.0]))[0]


@pytest.mark.parametrize("start", [(0, 0), (3, 5), (-4, 2)])
def test_an_unturned_warp_is_the_crop(start: tuple[int, int]) -> None:
    frame = torch.nn.functional.pad(PLANES, (10, 10, 10, 10))
    y, x = (10 + s for s in start)
    expected = frame[:, y : y + 16, x : x + 20]
    torch.testing.assert_close(warp(PLANES, start, (16, 20), 0.0, 1.0, "bilinear"), expected, atol=1e-5, rtol=0)
    mask = torch.nn.functional.pad(LABEL, (10, 10, 10, 10))[:, y : y + 16, x : x + 20]
    assert torch.equal(warp(LABEL, start, (16, 20), 0.0, 1.0, "nearest"), mask)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns_are_those_of_numpy_clockwise(quarters: int) -> None:
    square = PLANES[:, :24, :24]
    turned = warp(square, (0, 0), (24, 24), quarters * math.pi / 2, 1.0, "bilinear")
    np.testing.assert_allclose(turned, np.rot90(square, -quarters, (1, 2)), atol=1e-4)


def test_magnification_by_two_shows_the_middle_half_twice_as_large() -> None:
    small = torch.zeros(1, 16, 16)
    small[:, 4:12, 4:12] = torch.arange(64.0).reshape(8, 8)
    larger = warp(small, (0, 0), (16, 16), 0.0, 2.0, "nearest")
    assert torch.equal(larger[0], small[0, 4:12, 4:12].repeat_interleave(2, 0).repeat_interleave(2, 1))


def test_a_turned_patch_takes_its_corners_from_the_slice() -> None:
    ones = torch.ones(1, 64, 64)
    assert warp(ones, (20, 20), (24, 24), math.pi / 4, 1.0, "bilinear").min() > 0.999
    assert warp(ones, (0, 0), (24, 24), math.pi / 4, 1.0, "bilinear").min() == 0


@pytest.mark.parametrize(("rotation", "scale"), [(0.3, 1.0), (0.0, 1.17), (-0.2, 0.83)])
def test_a_warped_mask_stays_binary(rotation: float, scale: float) -> None:
    assert set(warp(LABEL, (2, 2), (20, 20), rotation, scale, "nearest").unique().tolist()) == {0.0, 1.0}


def test_shade_multiplies_a_power_and_keeps_the_sign() -> None:
    image = torch.tensor([0.0, 0.25, -0.25, 1.0]).expand(1, 2, 1, 4)
    draws = draw(1)._replace(gain=np.array([[2.0, 1.0]]), gamma=np.array([[0.5, 2.0]]))
    found = shade(image, draws)[0, :, 0]
    torch.testing.assert_close(found, torch.tensor([[0.0, 1.0, -1.0, 2.0], [0.0, 0.0625, -0.0625, 1.0]]))
    assert found.dtype == torch.float32
