"""Tile geometry: cores cover an image once, windows hold their overlap."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from esrgan_ext.inference.tiles import Rect, even_tile, nearest_first, split, window

sides = st.integers(1, 60)


@given(height=sides, width=sides, tile=st.integers(1, 70))
def test_cores_cover_every_pixel_once(height, width, tile):
    count = np.zeros((height, width), int)
    for core in split(Rect(0, height, 0, width), tile):
        assert 1 <= core.height <= tile
        assert 1 <= core.width <= tile
        count[core.y0 : core.y1, core.x0 : core.x1] += 1
    assert (count == 1).all()


def test_cores_have_the_side_that_was_asked_for():
    assert [(c.height, c.width) for c in split(Rect(0, 320, 0, 320), 192)] == [
        (192, 192),
        (192, 128),
        (128, 192),
        (128, 128),
    ]


@given(
    height=sides,
    width=sides,
    tile=st.integers(1, 20),
    overlap=st.integers(0, 20),
    alignment=st.sampled_from([1, 2, 4]),
)
def test_windows_hold_the_overlap_and_stay_inside(height, width, tile, overlap, alignment):
    for core in split(Rect(0, height, 0, width), tile):
        seen = window(core, overlap, height, width, alignment)
        assert seen.y0 % alignment == seen.x0 % alignment == 0
        assert 0 <= seen.y0 <= max(core.y0 - overlap, 0)
        assert core.y0 - overlap - alignment < seen.y0
        assert seen.y1 == min(core.y1 + overlap, height)
        assert 0 <= seen.x0 <= max(core.x0 - overlap, 0)
        assert seen.x1 == min(core.x1 + overlap, width)


@given(
    height=st.integers(1, 5000),
    width=st.integers(1, 5000),
    overlap=st.integers(0, 64),
    pixels=st.integers(200**2, 4000**2),
)
def test_the_automatic_tile_fits_and_is_no_sliver(height, width, overlap, pixels):
    tile = even_tile(height, width, pixels, overlap, smallest=16)
    if height * width <= pixels:
        assert tile == max(height, width)
        return
    assert (tile + 2 * overlap) ** 2 <= pixels
    largest = int(pixels**0.5) - 2 * overlap
    side = max(height, width)
    assert -(-side // tile) == -(-side // largest)  # evened out without a further tile


def test_nearest_first_keeps_every_tile_and_starts_at_the_point() -> None:
    cores = split(Rect(0, 30, 0, 50), 10)
    ordered = nearest_first(cores, (25, 45))
    assert sorted(ordered, key=lambda c: (c.y0, c.x0)) == cores
    assert ordered[0] == Rect(20, 30, 40, 50)
    assert ordered[-1] == Rect(0, 10, 0, 10)
