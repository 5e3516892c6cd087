"""Where results grow: pyramids in memory, stores on disk."""

from __future__ import annotations

import subprocess
import sys

import numpy as np

from napari_esrgan._work.result import MemoryResult, ZarrResult, level_steps
from tests.napari_esrgan.conftest import words


def test_pyramids_start_above_4096():
    assert level_steps(4096, 4096) == [1]
    assert level_steps(8192, 300) == [1, 2, 4, 8]


def test_a_store_has_each_piece_in_every_level(tmp_path, monkeypatch):
    from napari_esrgan._work import result as result_module

    monkeypatch.setattr(result_module, "MULTISCALE_SIDE", 30)
    monkeypatch.setattr(result_module, "_COARSEST_SIDE", 10)
    data = words((2, 37, 61))
    on_disk = ZarrResult(data.shape, data.dtype, 1, 2, tmp_path)
    for plane in range(2):
        for y in range(0, 37, 7):
            for x in range(0, 61, 9):
                piece = data[plane, y : y + 7, x : x + 9]
                ends = y + piece.shape[0], x + piece.shape[1]
                on_disk.write((plane, slice(y, ends[0]), slice(x, ends[1])), piece)
    in_memory = MemoryResult(data.shape, data.dtype, 1, 2)
    in_memory.array[:] = data
    assert len(on_disk.levels) == len(in_memory.levels) == 4
    for disk, memory in zip(on_disk.levels, in_memory.levels, strict=True):
        np.testing.assert_array_equal(np.asarray(disk), memory)


def test_only_stores_that_nobody_shows_are_unused(tmp_path):
    from napari_esrgan._work import stores

    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    shown, mine = stores.make_store(tmp_path), stores.make_store(tmp_path)
    (mine / "0").write_bytes(b"12345")
    old = tmp_path / f"esrgan-{ended.pid}-x.zarr"
    other = tmp_path / "esrgan-1-x.zarr"  # a process that runs
    foreign = tmp_path / "cells.zarr"
    for path in (old, other, foreign):
        path.mkdir()
    unused = stores.unused_stores(tmp_path, [str(shown)])
    assert set(unused) == {mine, old}
    assert stores.size_of(mine) == 5
    stores.delete(unused)
    assert set(tmp_path.iterdir()) == {shown, other, foreign}
    assert stores.unused_stores(tmp_path / "absent", []) == []
