"""Axes, value ranges and NaN of image arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from esrgan_ext.errors import ImageError, OptionError
from esrgan_ext.inference.arrays import (
    check_finite,
    fill_nan,
    layout_of,
    nearest_mask,
)
from esrgan_ext.inference.ranges import value_map
from esrgan_ext.inference.tiles import Rect


@pytest.mark.parametrize(
    ("shape", "channel_axis", "images", "together", "size"),
    [
        ((5, 6), None, 1, 1, (5, 6)),
        ((5, 6, 3), None, 1, 3, (5, 6)),
        ((5, 6, 4), None, 1, 4, (5, 6)),
        ((5, 6, 2), None, 5, 1, (6, 2)),
        ((3, 5, 6), None, 3, 1, (5, 6)),
        ((7, 2, 5, 6), None, 14, 1, (5, 6)),
        ((7, 5, 6, 3), None, 35, 1, (6, 3)),
        ((5, 6, 3), False, 5, 1, (6, 3)),
        ((3, 5, 6), 0, 1, 3, (5, 6)),
        ((7, 5, 6, 3), 3, 7, 3, (5, 6)),
        ((7, 5, 6, 3), -1, 7, 3, (5, 6)),
        ((7, 2, 5, 6), 1, 7, 2, (5, 6)),
        ((5, 1, 6), 1, 1, 1, (5, 6)),
        ((9, 5, 6), 0, 9, 1, (5, 6)),
    ],
)
def test_axes(shape, channel_axis, images, together, size):
    layout = layout_of(shape, channel_axis)
    assert len(layout.images()) == images
    assert layout.channels_per_image == together
    assert (layout.height, layout.width) == size


@pytest.mark.parametrize("shape", [(), (4,), (0, 4), (4, 0, 3)])
def test_shapes_without_pixels_are_refused(shape):
    with pytest.raises(ImageError, match="shape"):
        layout_of(shape, None)


@pytest.mark.parametrize("axis", [3, -4, True, 1.0, "c"])
def test_impossible_channel_axes_are_refused(axis):
    with pytest.raises(OptionError, match="channel_axis"):
        layout_of((4, 5, 6), axis)


def test_channel_axis_of_a_plane_is_refused():
    with pytest.raises(OptionError, match="channel_axis"):
        layout_of((4, 5), 0)


@given(
    shape=hnp.array_shapes(min_dims=2, max_dims=5, max_side=5),
    axis=st.one_of(st.none(), st.just(False), st.integers(-3, 2)),
)
def test_reading_and_arranging_are_inverse(shape, axis):
    if axis is not None and axis is not False and (len(shape) < 3):
        return
    array = np.arange(np.prod(shape)).reshape(shape)
    layout = layout_of(shape, axis)
    everything = Rect(0, layout.height, 0, layout.width)
    rebuilt = np.full(shape, -1)
    for image in layout.images():
        channels = layout.read(array, image, everything)
        assert channels.shape == (layout.channels_per_image, layout.height, layout.width)
        rebuilt[layout.slices(image, everything)] = layout.arrange(channels)
    assert np.array_equal(rebuilt, array)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32])
def test_integers_come_back_as_they_were(dtype):
    limits = np.iinfo(dtype)
    values = np.unique(np.linspace(limits.min, limits.max, 65536).round().astype(dtype))[None]
    mapping = value_map(values, "type")
    normalised = mapping.normalise(values)
    assert normalised.dtype == np.float32
    assert normalised.min() == 0
    assert normalised.max() == 1
    # float32 has 24 bits; wider integers lose the rest.
    tolerance = 0 if values.itemsize <= 2 else (int(limits.max) - int(limits.min)) / 2**23
    restored = mapping.restore(normalised)
    assert np.abs(restored.astype(np.float64) - values.astype(np.float64)).max() <= tolerance


def test_integers_are_rounded_half_to_even_and_clipped():
    mapping = value_map(np.zeros((1, 1), np.uint8), "type")
    network = np.array([-0.1, 0.5 / 255, 1.5 / 255, 2.5 / 255, 1.2], np.float32)
    assert mapping.restore(network).tolist() == [0, 0, 2, 2, 255]


@pytest.mark.parametrize("dtype", [np.uint64, np.int64])
def test_the_widest_integers_do_not_wrap_around(dtype):
    mapping = value_map(np.zeros((1, 1), dtype), "type")
    restored = mapping.restore(np.array([-1, 0, 1, 2], np.float32))
    assert (np.diff(restored.astype(np.float64)) >= 0).all()
    assert restored[-1] > np.iinfo(dtype).max * 0.999


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_are_not_clipped(dtype):
    mapping = value_map(np.zeros((1, 1), dtype), "type")
    values = np.array([-0.5, 0, 0.25, 1, 3], dtype)
    restored = mapping.restore(mapping.normalise(values))
    assert restored.dtype == dtype
    assert np.array_equal(restored, values)


def test_a_given_range_is_mapped_to_the_unit_interval_and_back():
    values = np.array([[104, 240, 375]], np.uint16)
    mapping = value_map(values, (104, 375))
    assert np.allclose(mapping.normalise(values), [[0, 136 / 271, 1]])
    assert np.array_equal(mapping.restore(mapping.normalise(values)), values)
    # Integers are clipped to the type's range, not to the one that was given.
    assert mapping.restore(np.array([2.0], np.float32)).tolist() == [646]


def test_auto_range_is_that_of_the_whole_array_without_nan():
    values = np.array([[[1.0, np.nan], [2, 3]], [[5, 9], [np.nan, 4]]])
    mapping = value_map(values, "minmax")
    assert (mapping.low, mapping.high) == (1, 9)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_constant_image_stays_constant_under_the_auto_range(dtype):
    mapping = value_map(np.full((3, 3), 7, dtype), "minmax")
    assert (mapping.restore(np.array([0.3, -0.2], np.float32)) == 7).all()


@pytest.mark.parametrize(
    "bad", [(1, 1), (2, 1), (0, np.inf), (np.nan, 1), (1,), 3, "full", ("a", "b")]
)
def test_impossible_ranges_are_refused(bad):
    with pytest.raises(OptionError, match="data_range"):
        value_map(np.zeros((2, 2)), bad)


@pytest.mark.parametrize("dtype", [np.complex64, object, "U3", "datetime64[s]", np.longdouble])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(ImageError, match="dtype"):
        value_map(np.zeros((2, 2), dtype), "type")


def test_infinities_are_refused():
    with pytest.raises(ImageError, match="infinite"):
        check_finite(np.array([[0, -np.inf]]))


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_nan_is_filled_from_the_nearest_valid_pixel(mask):
    plane = np.arange(mask.size, dtype=np.float32).reshape(mask.shape)
    holed = np.where(mask, np.float32(np.nan), plane)
    filled, found = fill_nan(holed)
    if not mask.any():
        assert found is None
        return
    assert np.array_equal(found, mask)
    if mask.all():
        assert not filled.any()
        return
    assert np.array_equal(filled[~mask], plane[~mask])
    valid = np.argwhere(~mask)
    for y, x in np.argwhere(mask):
        source = np.argwhere(plane == filled[y, x])[0]
        distance = np.hypot(*(source - (y, x)))
        nearest = np.hypot(*(valid - (y, x)).T).min()
        assert not mask[tuple(source)]
        # The distance transform with labels is OpenCV's 5x5 approximation.
        assert distance <= nearest * 1.1 + 1e-6


def test_a_mask_is_resized_by_the_nearest_pixel():
    mask = np.array([[True, False], [False, True]])
    whole = nearest_mask(mask, (6, 6), Rect(0, 6, 0, 6))
    assert np.array_equal(whole, np.kron(mask, np.ones((3, 3), bool)))
    assert np.array_equal(nearest_mask(mask, (6, 6), Rect(1, 4, 2, 6)), whole[1:4, 2:6])
