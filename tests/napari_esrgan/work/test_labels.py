"""Labels by the nearest pixel, against numpy's repeat."""

from __future__ import annotations

import numpy as np
import pytest

from esrgan_ext.inference.tiles import Rect
from napari_esrgan._work.axes import Axes
from napari_esrgan._work.labels import enlarge_labels
from tests.napari_esrgan.conftest import never

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("budget", [0, 1e9])
def test_whole_factors_repeat(budget, tmp_path):
    data = RNG.integers(0, 99, (3, 6, 5), np.uint16)
    axes = Axes(("plane", "y", "x"))
    region = Rect(1, 6, 0, 4)
    result = enlarge_labels(data, axes, region, None, (15, 12), budget, tmp_path, never)
    levels = result.levels
    expected = data[:, 1:6, :4].repeat(3, 1).repeat(3, 2)
    np.testing.assert_array_equal(np.asarray(levels[:] if budget == 0 else levels), expected)
    result.discard()


def test_one_plane_with_x_before_y():
    data = RNG.integers(0, 99, (5, 3, 6), np.uint8)
    axes = Axes(("x", "plane", "y"))
    result = enlarge_labels(data, axes, Rect(0, 6, 0, 5), (2,), (12, 10), 1e9, None, never)
    np.testing.assert_array_equal(result.levels, data[:, 2:3].repeat(2, 0).repeat(2, 2))
