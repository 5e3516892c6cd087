"""Resampling in pieces: against MATLAB's imresize, and against itself done whole."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esrgan_ext.errors import ImageError
from esrgan_ext.inference.resample import PieceResampler, cubic, imresize, taps
from esrgan_ext.inference.tiles import Rect


def dense(source: int, target: int) -> np.ndarray:
    """The resampling of one axis as a (target, source) matrix."""
    positions, weights = taps(source, target, 0, target)
    matrix = np.zeros((target, source))
    np.add.at(matrix, (np.arange(target)[:, None], positions), weights)
    return matrix


@pytest.mark.parametrize("name", ["Set5", "Set14"])
def test_equals_matlab_imresize_bit_for_bit(shared_data, name):
    files = sorted((shared_data / "bench" / name / "HR").glob("*.png"))
    assert files
    for file in files:
        high = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        expected = cv2.imread(str(file.parent.parent / "LRx4" / file.name), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(imresize(high, expected.shape[:2]), expected), file.name


def test_imresize_takes_the_axis_that_shrinks_most_first():
    """MATLAB sorts the axes by their factor; rounding in between makes the order visible."""
    image = np.random.default_rng(3).integers(0, 256, (24, 24, 3), np.uint8)

    def one_pass(values, axis, size):
        moved = np.tensordot(dense(values.shape[axis], size), values, (1, axis))
        return np.clip(np.floor(np.moveaxis(moved, 0, axis) + 0.5), 0, 255)

    columns_first = one_pass(one_pass(image.astype(float), 1, 6), 0, 12)
    rows_first = one_pass(one_pass(image.astype(float), 0, 12), 1, 6)
    assert not np.array_equal(columns_first, rows_first)
    assert np.array_equal(imresize(image, (12, 6)), columns_first)
    transposed = imresize(image.swapaxes(0, 1), (6, 12))
    assert np.array_equal(transposed.swapaxes(0, 1), columns_first)


def test_imresize_to_the_same_size_is_a_copy():
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    same = imresize(image, (3, 4))
    assert np.array_equal(same, image)
    assert not np.shares_memory(same, image)


@pytest.mark.parametrize(
    ("shape", "dtype", "size"),
    [
        ((4, 4), np.uint16, (2, 2)),
        ((4,), np.uint8, (2, 2)),
        ((0, 4), np.uint8, (2, 2)),
        ((4, 4, 3), np.uint8, (0, 2)),
    ],
)
def test_imresize_refuses_what_it_cannot_do(shape, dtype, size):
    with pytest.raises(ImageError):
        imresize(np.zeros(shape, dtype), size)


def test_kernel_is_keys_with_a_half():
    # Keys 1981, equation 15: interpolating, and the derivative at 1 is -1/2.
    assert np.allclose(cubic(np.array([0.0, 1.0, 2.0, -1.0, 3.0])), [1, 0, 0, 0, 0])
    assert cubic(np.array([1.5]))[0] == pytest.approx(-0.0625)
    assert cubic(np.array([0.5]))[0] == pytest.approx(0.5625)


@pytest.mark.parametrize(("source", "target"), [(40, 20), (40, 60), (40, 17), (3, 7), (1, 5)])
def test_lines_stay_lines_away_from_the_border(source, target):
    """A cubic kernel reproduces linear functions: positions are not shifted by half a pixel."""
    ramp = dense(source, target) @ np.arange(source)
    expected = (np.arange(target) + 0.5) * source / target - 0.5
    reach = int(np.ceil(3 * max(1, target / source) + 3))
    inner = slice(reach, target - reach)
    # Widened and normalised, the kernel is off by a hundredth of a pixel at most.
    assert np.allclose(ramp[inner], expected[inner], atol=0.01)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_pieces_equal_the_whole(data):
    height, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 30))
    new_height = data.draw(st.integers(1, 80))
    new_width = data.draw(st.integers(1, 60))
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, height - 1)), max_size=5)))
    image = np.random.default_rng(0).random((2, height, width), np.float32)
    expected = np.einsum(
        "yj,xk,cjk->cyx", dense(height, new_height), dense(width, new_width), image
    )
    y0 = data.draw(st.integers(0, new_height - 1))
    wanted = Rect(y0, new_height, 0, new_width)
    resampler = PieceResampler(
        (height, width), (new_height, new_width), Rect(0, height, 0, width), wanted
    )
    result = np.full((2, new_height, new_width), np.nan, np.float32)
    edges = [0, *[c for c in cuts if c < height], height]
    for start, stop in pairwise(edges):
        for area, piece in resampler.feed(image[:, start:stop]):
            assert np.isnan(result[:, area.y0 : area.y1]).all()
            result[:, area.y0 : area.y1, area.x0 : area.x1] = piece
    assert np.allclose(result[:, y0:], expected[:, y0:], atol=1e-5)
