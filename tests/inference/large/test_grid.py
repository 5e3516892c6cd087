"""Chunk geometry: the area is covered once, and a window holds what its chunk needs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esrgan_ext.errors import OptionError
from esrgan_ext.inference.arrays import layout_of
from esrgan_ext.inference.large import sizes
from esrgan_ext.inference.large.grid import Grid, chunk_side
from esrgan_ext.inference.large.sizes import Needs
from esrgan_ext.inference.tiles import Rect

sides = st.integers(1, 40)


@settings(max_examples=60, deadline=None)
@given(
    height=sides, width=sides, side=st.integers(8, 90), overlap=st.integers(0, 20),
    factor=st.sampled_from([0.4, 1.0, 2.7, 4.0]), alignment=st.sampled_from([1, 2, 4]),
    data=st.data(),
)  # fmt: skip
def test_chunks_cover_the_area_once_and_see_their_overlap(
    height, width, side, overlap, factor, alignment, data
):
    size = max(1, round(height * factor)), max(1, round(width * factor))
    y0, x0 = data.draw(st.integers(0, size[0] - 1)), data.draw(st.integers(0, size[1] - 1))
    area = Rect(y0, size[0], x0, size[1])
    grid = Grid(layout_of((2, height, width), False), size, area, side, 4, overlap, alignment)
    count = np.zeros((2, area.height, area.width), int)
    for number, chunk in enumerate(grid.chunks()):
        assert grid.chunk(number) == chunk
        stored, result = grid.store_rect(chunk), grid.result_rect(chunk)
        window = grid.source_window(chunk)
        count[chunk.image[0], stored.y0 : stored.y1, stored.x0 : stored.x1] += 1
        assert window.y0 % alignment == window.x0 % alignment == 0
        # The pixels of the source under the chunk, to either side the overlap or the border.
        top, bottom = result.y0 * height / size[0], result.y1 * height / size[0]
        assert 0 <= window.y0 <= max(top - overlap, 0)
        assert min(bottom + overlap, height) <= window.y1 <= height
        left, right = result.x0 * width / size[1], result.x1 * width / size[1]
        assert 0 <= window.x0 <= max(left - overlap, 0)
        assert min(right + overlap, width) <= window.x1 <= width
    assert len(grid) == number + 1
    assert (count == 1).all()


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 9000), width=st.integers(1, 9000), wanted=st.integers(1, 5000))
def test_chunks_of_work_are_whole_stored_chunks_and_no_slivers(height, width, wanted):
    side, stored = chunk_side(Rect(0, height, 0, width), wanted, 4)
    assert side % stored == 0
    assert stored % 4 == 0
    for length in (height, width):
        assert -(-length // side) <= -(-length // wanted)  # evened out, not made more


NEEDS = Needs(
    bytes_per_pixel=1000, weight_bytes=66_000_000, scale=4, alignment=1, overlap=64,
    precision="fp32", device="CPU", memory=None,
)  # fmt: skip


def test_the_tile_is_what_memory_allows():
    assert sizes.tile_for(NEEDS, 3_000_000_000) == sizes.LARGEST_TILE
    tile = sizes.tile_for(NEEDS, 1_500_000_000)
    assert 256 < tile < sizes.LARGEST_TILE
    assert (tile + 128) ** 2 * NEEDS.bytes_per_pixel < 1_500_000_000
    with pytest.raises(OptionError, match="cannot hold one tile"):
        sizes.tile_for(NEEDS, 500_000_000)
