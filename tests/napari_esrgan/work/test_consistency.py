"""A result, reduced again, compared with its source."""

from __future__ import annotations

import numpy as np
import pytest

from esrgan_ext.inference.tiles import Rect
from napari_esrgan._work.axes import Axes
from napari_esrgan._work.consistency import compare, reduced

RNG = np.random.default_rng(0)
PLANE, STACK = Axes(("y", "x")), Axes(("plane", "y", "x"))


def test_reducing_averages_over_pixels():
    plane = RNG.random((12, 20))
    np.testing.assert_allclose(
        reduced(plane, 3, 5), plane.reshape(3, 4, 5, 4).mean((1, 3)), rtol=1e-12
    )


@pytest.mark.parametrize("size", [(7, 9), (8, 13), (12, 20)])
def test_reducing_by_any_factor_keeps_the_mean(size):
    plane = RNG.random((12, 20, 3))
    small = reduced(plane, *size)
    assert small.shape == (*size, 3)
    np.testing.assert_allclose(small.mean((0, 1)), plane.mean((0, 1)), rtol=1e-12)


def test_an_exact_enlargement_is_consistent():
    source = RNG.integers(0, 4000, (3, 10, 12), np.uint16)
    big = source.repeat(4, 1).repeat(4, 2)
    outcome = compare(source, big, STACK, Rect(0, 10, 0, 12), None)
    assert outcome.rmse == pytest.approx(0, abs=1e-6)
    assert outcome.difference.shape == source.shape


def test_a_known_difference_is_found():
    source = RNG.integers(0, 200, (10, 12), np.uint8)
    big = source.repeat(4, 0).repeat(4, 1)
    big[8:12, 4:8] += 20  # pixel (2, 1)
    outcome = compare(source, big, PLANE, Rect(0, 10, 0, 12), None)
    assert outcome.difference[2, 1] == pytest.approx(20)
    assert outcome.rmse == pytest.approx(np.sqrt(400 / 120))


def test_nan_is_not_compared():
    source = RNG.random((10, 12))
    source[3, 4] = np.nan
    big = source.repeat(4, 0).repeat(4, 1)
    big[0, 0] = np.nan
    outcome = compare(source, big, PLANE, Rect(0, 10, 0, 12), None)
    assert np.isnan(outcome.difference[3, 4])
    assert np.isnan(outcome.difference[0, 0])
    assert np.isnan(outcome.difference).sum() == 2
    assert outcome.rmse == pytest.approx(0, abs=1e-6)
