"""The range that follows the data, against percentiles of all values in float64."""

from __future__ import annotations

import numpy as np
import pytest

from esrgan_ext.errors import ImageError
from esrgan_ext.inference import ranges
from esrgan_ext.inference.ranges import robust_range

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i8", "f2", "f4", "f8"])
def test_it_is_the_percentiles_of_all_planes(dtype):
    planes = RNG.normal(40, 12, (3, 80, 90)) + np.reshape([0, 5, 30], (3, 1, 1))
    planes = planes.clip(0, 127).astype(dtype)
    low, high = np.percentile(planes.astype(float), (0.1, 99.9))
    step = 1 if np.dtype(dtype).kind in "iu" else 1e-6
    assert robust_range(planes) == (pytest.approx(low, abs=step), pytest.approx(high, abs=step))


@pytest.mark.parametrize("dtype", ["u2", "i2", "u4", "f4"])
def test_hot_and_dead_pixels_do_not_matter(dtype):
    planes = RNG.integers(200, 2000, (4, 64, 64)).astype(dtype)
    before = robust_range(planes)
    planes[1, 3, 3], planes[2, 9, 9] = 30000, 0
    after = robust_range(planes)
    assert np.abs(np.subtract(after, before)).max() < 5


@pytest.mark.parametrize(("side", "hot"), [(14, 1), (64, 20), (200, 200)])
@pytest.mark.parametrize("dtype", ["u2", "f4", "f8"])
def test_neither_does_one_in_two_hundred(dtype, side, hot):
    y, x = np.mgrid[:side, :side] * (3 / side)
    plane = (1000 + 900 * np.sin(y) * np.cos(x) + RNG.normal(0, 20, (side, side))).astype(dtype)
    before = robust_range([plane])
    bad = plane.copy()
    bad.flat[RNG.choice(side * side, hot, replace=False)] = RNG.integers(20000, 65535, hot).astype(
        dtype
    )
    assert np.abs(np.subtract(robust_range([bad]), before)).max() < 25  # of 1800


def test_spots_wider_than_a_pixel_count():
    plane = RNG.normal(100, 5, (100, 100))
    y, x = np.mgrid[:100, :100]
    for at in (20, 50, 80):
        plane += 3000 * np.exp(-((y - at) ** 2 + (x - at) ** 2) / (2 * 0.85**2))
    low, high = np.percentile(plane, (0.1, 99.9))
    assert robust_range([plane]) == (pytest.approx(low), pytest.approx(high))


def test_many_values_are_sampled_without_bias_and_in_bounded_memory(monkeypatch):
    monkeypatch.setattr(ranges, "_SAMPLES", 5000)
    found = ranges.RobustRange()
    planes = RNG.random((50, 64, 64))
    for plane in planes:
        found.add(plane)
    assert sum(map(len, found._sample.parts)) <= 5000
    assert found.range == (pytest.approx(0.001, abs=0.004), pytest.approx(0.999, abs=0.004))


def test_where_percentiles_say_nothing():
    plane = np.zeros((100, 100), np.uint16)
    plane[5, 5] = 700
    assert robust_range([plane]) == (0, 700)
    assert robust_range([np.full((3, 3), 7, np.int16)]) == (7, 7)
    assert robust_range([np.full((3, 3), np.nan)]) == (0, 1)
    assert robust_range([np.array([[np.nan, 2.0], [4.0, 2.0]])])[0] == pytest.approx(2.0)
    assert robust_range([np.array([[False, True]])]) == (0, 1)


def test_infinities_are_refused():
    with pytest.raises(ImageError, match="infinite"):
        robust_range([np.array([[1.0, -np.inf]])])
