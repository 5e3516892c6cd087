"""Memory of results is there before they are written, and what is written stays."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from esrgan_ext.inference import result_memory
from esrgan_ext.inference.result_memory import copy_by_threads, provide_in_background

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="pages are provided ahead on Linux only")

RESIDENT = """
import numpy as np
from esrgan_ext.inference.result_memory import provide_in_background
def resident():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * 4096
array = np.empty(200_000_000, np.uint8)
before = resident()
provide_in_background(array).join()
print(resident() - before)
"""


@LINUX
def test_pages_are_there_afterwards() -> None:
    done = subprocess.run(
        [sys.executable, "-c", RESIDENT], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) > 190_000_000


@LINUX
def test_what_is_written_meanwhile_stays() -> None:
    for size in (4096, 5000, 3 * 4096 - 1, 30_000_000):
        array = np.empty(size, np.uint8)
        thread = provide_in_background(array)
        array[:] = np.arange(size) % 251
        assert thread is not None
        thread.join()
        assert np.array_equal(array, (np.arange(size) % 251).astype(np.uint8))


def test_a_file_s_memory_a_small_array_and_a_view_are_left_alone(tmp_path: Path) -> None:
    mapped = np.memmap(tmp_path / "a", np.uint8, "w+", shape=(1 << 20,))
    whole = np.empty((1 << 20, 2), np.uint8)
    for array in (mapped, np.empty(100, np.uint8), whole[:, 0], whole[::2], whole[:5000]):
        assert provide_in_background(array) is None


def test_more_than_a_machine_may_have_is_provided_as_it_is_written(monkeypatch) -> None:
    monkeypatch.setattr(result_memory, "_MOST_BYTES", 1 << 20)
    assert provide_in_background(np.empty((1 << 20) + 1, np.uint8)) is None


@LINUX
def test_a_system_that_cannot_says_nothing(monkeypatch) -> None:
    monkeypatch.setattr(result_memory, "_POPULATE_WRITE", 9999)  # as before Linux 5.14
    array = np.ones(1 << 20, np.uint8)
    thread = provide_in_background(array)
    assert thread is not None
    thread.join()
    assert (array == 1).all()
    assert not any("result-memory" in t.name for t in threading.enumerate())


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    "view",
    [
        lambda a: a,
        lambda a: a[::2, 1:-1],
        lambda a: a[:, ::-1],
        lambda a: np.moveaxis(a, -1, 0),
        lambda a: a[5, 6],
    ],
)
def test_a_copy_is_numpys(dtype: type, view) -> None:
    rng = np.random.default_rng(0)
    source = view(rng.integers(0, np.iinfo(dtype).max, (300, 400, 3)).astype(dtype))
    whole = np.zeros((300, 400, 3), dtype)
    expected = whole.copy()
    copy_by_threads(view(whole), source)
    view(expected)[...] = source
    assert np.array_equal(whole, expected)
