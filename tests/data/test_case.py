from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segan_pl.data.case import Geometry, PreparedCase

SIZES = st.tuples(*[st.integers(1, 7)] * 3)


def centred(native: tuple[int, ...], shape: tuple[int, ...]) -> Geometry:
    z, y, x = (int(n / 2 - c / 2) for n, c in zip(native, shape, strict=True))
    return Geometry(tuple(native), (z, y, x), tuple(shape))


@given(native=SIZES, shape=SIZES)
def test_crop_then_restore_is_the_identity_inside_the_box_and_fill_outside(native, shape):
    geometry = centred(native, shape)
    array = np.random.default_rng(0).integers(1, 100, native)
    back = geometry.restore(geometry.crop(array), fill=-1)
    expected = np.full(native, -1)
    expected[geometry.native_box] = array[geometry.native_box]
    np.testing.assert_array_equal(back, expected)


@given(native=SIZES, shape=SIZES, start=st.tuples(*[st.integers(-9, 9)] * 3))
def test_restore_then_crop_is_the_identity_on_the_real_box_even_without_overlap(native, shape, start):
    geometry = Geometry(native, start, shape)
    prepared = np.random.default_rng(0).integers(1, 100, (2, *shape))
    again = geometry.crop(geometry.restore(prepared), fill=-1)
    expected = np.full((2, *shape), -1)
    expected[:, *geometry.real_box] = prepared[:, *geometry.real_box]
    np.testing.assert_array_equal(again, expected)


def test_the_papers_crop_of_brats_begins_at_13_30_30():
    geometry = centred((155, 240, 240), (128, 180, 180))
    assert geometry.native_box == (slice(13, 141), slice(30, 210), slice(30, 210))


def test_crop_of_a_whole_volume_is_the_array_itself():
    array = np.ones((2, 3, 4))
    assert Geometry((2, 3, 4), (0, 0, 0), (2, 3, 4)).crop(array) is array


def test_an_array_of_another_shape_is_refused():
    geometry = Geometry((4, 4, 4), (0, 0, 0), (2, 2, 2))
    with pytest.raises(ValueError, match=r"native array has shape \(2, 2, 2\), the geometry says \(4, 4, 4\)"):
        geometry.crop(np.zeros((2, 2, 2)))
    with pytest.raises(ValueError, match="prepared array has shape"):
        geometry.restore(np.zeros((4, 4, 4)))


def test_pixels_gathers_the_asked_channels_in_the_asked_order():
    image = np.arange(3 * 2 * 3 * 4, dtype=np.float16).reshape(3, 2, 3, 4)
    case = PreparedCase("a", ("flair", "t1"), image, None, Geometry((2, 3, 4), (0, 0, 0), (2, 3, 4)), channels=(2, 0))
    np.testing.assert_array_equal(case.pixels(1, slice(0, 2), 3), image[[2, 0], 1, 0:2, 3])
    np.testing.assert_array_equal(case.pixels(), image[[2, 0]])


def test_channels_default_to_the_rows_as_they_are():
    case = PreparedCase(
        "a", ("t1", "t2"), np.zeros((2, 1, 1, 1), np.float16), None, Geometry((1,) * 3, (0,) * 3, (1,) * 3)
    )
    assert case.channels == (0, 1)
