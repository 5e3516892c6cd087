"""Several devices share the planes and tiles of one array; two workers on the CPU stand in."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

import esrgan_ext as esr
from esrgan_ext.errors import OptionError, UpscaleCancelled
from esrgan_ext.inference import engine as engine_module
from esrgan_ext.inference.engine import Engine

RNG = np.random.default_rng(0)
STACK = RNG.integers(0, 65536, (7, 90, 70), dtype=np.uint16)
PHOTO = RNG.integers(0, 256, (90, 130, 3), dtype=np.uint8)


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """Windows done, by engine. The first two engines that share a job begin together."""
    counts: dict[int, int] = {}
    lock = threading.Lock()
    both = threading.Barrier(2, timeout=60)
    rows = Engine.rows

    def counted(self, window, on_work):
        with lock:
            first = id(self) not in counts and len(counts) < 2
            counts[id(self)] = counts.get(id(self), 0) + 1
        if first and threading.current_thread().name.startswith("device"):
            both.wait()
        return rows(self, window, on_work)

    monkeypatch.setattr(Engine, "rows", counted)
    return counts


@pytest.mark.parametrize("device", ["cpu,cpu", ["cpu", torch.device("cpu")], "cpu, cpu, cpu"])
def test_planes_of_a_stack(tiny_network, used, device) -> None:
    expected = esr.upscale(STACK, tiny_network, device="cpu", tile=64)
    alone = sum(used.values())
    used.clear()
    result = esr.upscale(STACK, tiny_network, device=device, tile=64)
    np.testing.assert_array_equal(result, expected)
    assert sum(used.values()) == alone
    assert len(used) > 1


@pytest.mark.parametrize(
    "options",
    [
        {"data_range": "minmax"},
        {"outscale": 2.5},
        {"outscale": 4, "consistent": True},
        {"ensemble": True, "overlap": 4},
    ],
)
def test_tiles_of_a_photo(tiny_network, used, options) -> None:
    expected = esr.upscale(PHOTO, tiny_network, device="cpu", tile=40, **options)
    used.clear()
    result = esr.upscale(PHOTO, tiny_network, device="cpu,cpu", tile=40, **options)
    np.testing.assert_array_equal(result, expected)
    assert len(used) == 2


def test_a_model_that_is_chosen_with_its_denoising() -> None:
    image = np.clip(STACK[:3, :40, :40] / 40 + 200, 0, 65535).astype(np.uint16)
    mean, std = esr.upscale(image, device="cpu", return_std=True)
    shared_mean, shared_std = esr.upscale(image, device="cpu,cpu", return_std=True)
    np.testing.assert_array_equal(shared_mean, mean)
    np.testing.assert_array_equal(shared_std, std)


def test_small_planes_are_one_batch_for_each(tiny_network) -> None:
    stack = STACK[:, :8, :8]
    np.testing.assert_array_equal(
        esr.upscale(stack, tiny_network, device="cpu,cpu"),
        esr.upscale(stack, tiny_network, device="cpu"),
    )


def test_progress_never_falls_and_every_piece_is_told_once(tiny_network, monkeypatch) -> None:
    monkeypatch.setattr("esrgan_ext.inference.progress.PROGRESS_INTERVAL", 0)
    seen: list[tuple[int, int]] = []
    told = np.zeros((7, 360, 280), int)
    at_once = threading.Lock()

    def progress(done: int, total: int) -> None:
        assert at_once.acquire(blocking=False)
        seen.append((done, total))
        at_once.release()

    def on_tile(piece, slices) -> None:
        told[slices] += 1

    esr.upscale(STACK, tiny_network, device="cpu,cpu", tile=32, progress=progress, on_tile=on_tile)
    assert (told == 1).all()
    done = [done for done, _ in seen]
    assert done == sorted(done)
    assert seen[-1] == (STACK.size, STACK.size)
    assert len(set(done)) > 10


@pytest.mark.parametrize("stops", [False, KeyError("x")])
def test_a_cancel_or_a_failing_callback_stops_all(tiny_network, used, stops) -> None:
    def progress(done: int, total: int) -> bool:
        if done and isinstance(stops, Exception):
            raise stops
        return not done

    with pytest.raises(UpscaleCancelled, match="cancelled" if stops is False else "callback"):
        esr.upscale(STACK, tiny_network, device="cpu,cpu", tile=16, overlap=2, progress=progress)
    assert sum(used.values()) < 100  # of 210
    assert not [t for t in threading.enumerate() if t.name.startswith("device")]


def test_the_failure_of_one_device_is_what_is_said(tiny_network, monkeypatch) -> None:
    rows, failed = Engine.rows, []

    def failing(self, window, on_work):
        if threading.current_thread().name.endswith("_1"):
            failed.append(1)
            raise ValueError("the second device broke")
        return rows(self, window, on_work)

    monkeypatch.setattr(Engine, "rows", failing)
    with pytest.raises(ValueError, match="second device broke"):
        esr.upscale(STACK, tiny_network, device="cpu,cpu", tile=16, overlap=2)
    assert len(failed) == 1


def test_what_does_not_fit_on_one_device_is_halved_there(tiny_network, monkeypatch) -> None:
    expected = esr.upscale(PHOTO, tiny_network, device="cpu", tile=64, overlap=16)
    rows, small = Engine.rows, []
    up = esr.Upscaler(tiny_network, device="cpu,cpu", tile=64, overlap=16)
    first = up.engine

    def full(self, window, on_work):
        if self is not first and max(window.shape[2:]) > 70:
            raise MemoryError
        small.append(self is not first)
        return rows(self, window, on_work)

    monkeypatch.setattr(Engine, "rows", full)
    monkeypatch.setattr(engine_module, "release_memory", lambda device: None)
    with pytest.warns(RuntimeWarning, match="going on with tiles of 32 pixels"):
        result = up(PHOTO)
    assert any(small)
    assert np.abs(result.astype(int) - expected.astype(int)).max() <= 1


def test_workers_share_the_memory_that_is_planned_for(tiny_network) -> None:
    up = esr.Upscaler(tiny_network, device="cpu,cpu")
    assert [device.share for device in up.devices] == [0.5, 0.5]
    assert [engine.device.share for engine in up._prepared.tiles.engines] == [0.5, 0.5]
    up.share_memory(0.5)
    assert [engine.device.share for engine in up._prepared.tiles.engines] == [0.25, 0.25]
    assert up._prepared.tiles.engines[0].network is not up._prepared.tiles.engines[1].network


def test_a_store_and_a_lazy_array_have_one_device(tmp_path) -> None:
    dask_array = pytest.importorskip("dask.array")
    source = dask_array.from_array(STACK, chunks=(1, 90, 70))
    with pytest.raises(OptionError, match=r"one device in each process.*--scheduler processes"):
        esr.upscale_lazy(source, "lite-psnr-x4", device="cpu,cpu")
