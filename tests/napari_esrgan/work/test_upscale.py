"""The upscaling job without a window: planes, channels, ranges, stores, cancelling, scripts."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

import esrgan_ext as esr
from esrgan_ext import ops
from esrgan_ext.errors import ImageError, UpscaleCancelled
from esrgan_ext.inference.model_cache import inference
from esrgan_ext.inference.tiles import Rect
from esrgan_ext.ops.build import jit
from napari_esrgan._work import kernels, upscale
from napari_esrgan._work.axes import Axes
from napari_esrgan._work.estimate import estimate
from napari_esrgan._work.messages import Appear, Progress, Status
from napari_esrgan._work.ranges import RangeChoice, default_kind
from napari_esrgan._work.request import Mix
from napari_esrgan._work.uncertainty import run_uncertainty
from napari_esrgan._work.upscale import run_upscale
from tests.napari_esrgan.conftest import never, words

RNG = np.random.default_rng(0)


def run(request, reports=None) -> np.ndarray:
    outcome = run_upscale(request, (reports if reports is not None else []).append, never)
    levels = outcome.result.levels
    return np.asarray(levels[0] if isinstance(levels, list) else levels)


def assert_same_levels(result: np.ndarray, expected: np.ndarray) -> None:
    """Equal but for the rounding of small planes that the API runs as one batch."""
    assert result.shape == expected.shape
    assert np.abs(result.astype(int) - expected).max() <= 1
    assert np.ptp(expected) > 50


def test_defaults_of_the_range():
    assert default_kind(np.dtype(np.uint8), lazy=True) == "type"
    assert default_kind(np.dtype(np.uint16), lazy=False) == "data"
    assert default_kind(np.dtype(np.float32), lazy=False) == "data"
    assert default_kind(np.dtype(np.uint16), lazy=True) == "limits"


def test_a_time_series_has_one_range(make_request, model_file):
    series = np.stack([words((12, 14), 100, 200), words((12, 14), 100, 4000)])
    axes = Axes(("plane", "y", "x"))
    expected = esr.upscale(
        series, model_file, channel_axis=False, data_range="minmax", device="cpu"
    )
    assert_same_levels(run(make_request(series, axes=axes)), expected)


def test_each_channel_has_its_own_range(make_request, model_file):
    image = np.stack([words((12, 14), 100, 200), words((12, 14), 1000, 4000)])
    axes = Axes(("channel", "y", "x"))
    expected = [esr.upscale(c, model_file, data_range="minmax", device="cpu") for c in image]
    np.testing.assert_array_equal(run(make_request(image, axes=axes)), expected)


def test_the_range_follows_the_data_and_not_a_hot_pixel(make_request, model_file):
    series = words((3, 40, 44), 100, 2000)
    series[1, 5, 6] = 65535
    low, high = np.percentile(series, (0.1, 99.9))
    outcome = run_upscale(
        make_request(series, axes=Axes(("plane", "y", "x")), value_range=RangeChoice("data")),
        lambda _: None,
        never,
    )
    ((found_low, found_high),) = outcome.provenance["parameters"]["ranges"]
    assert (found_low, found_high) == (pytest.approx(low, abs=2), pytest.approx(high, abs=2))
    expected = esr.upscale(
        series, model_file, channel_axis=False, data_range=(found_low, found_high), device="cpu"
    )
    assert_same_levels(outcome.result.levels, expected)


def test_a_range_by_type_is_the_types(make_request, model_file):
    image = words((12, 14), 20_000, 60_000)
    result = run(make_request(image, value_range=RangeChoice("type")))
    expected = esr.upscale(image, model_file, data_range=(0, 65535), device="cpu")
    np.testing.assert_array_equal(result, expected)


def test_a_consistent_result_averages_to_its_source(make_request):
    image = words((3, 12, 14))
    result = run(make_request(image, axes=Axes(("plane", "y", "x")), consistent=True))
    means = result.reshape(3, 12, 4, 14, 4).mean((2, 4))
    assert np.abs(means - image).max() <= 0.5


@pytest.mark.parametrize("rgb", [False, True])
def test_uncertainty_is_the_spread_over_flips_and_rotations(make_request, model_file, rgb):
    data = words((2, 10, 12, 3) if rgb else (2, 12, 10), 0, 4000)
    axes = Axes(("plane", "y", "x"), rgb) if rgb else Axes(("plane", "x", "y"))
    request = make_request(data, rgb=rgb, axes=axes, shown=(1,))
    outcome = run_uncertainty(request, [].append, never)
    plane = data[1].astype(np.float64)
    up = esr.Upscaler(model_file, device="cpu", channel_axis=-1 if rgb else False)
    low, high = float(data.min()), float(data.max())
    results = []
    for turns in range(4):
        for flip in (False, True):
            seen = np.rot90(plane[:, ::-1] if flip else plane, turns)
            out = np.rot90(up(seen, data_range=(low, high)), -turns)
            results.append(out[:, ::-1] if flip else out)
    expected = np.std(results, axis=0)
    expected = expected.max(-1) if rgb else expected
    assert outcome.result.shape == (1, *expected.shape)
    np.testing.assert_allclose(outcome.result.levels[0], expected, rtol=1e-3, atol=0.5)
    assert expected.max() > 10


def test_denoising_follows_the_noise_of_the_whole_series(make_request):
    rng = np.random.default_rng(3)
    clean = np.linspace(500, 5000, 64 * 64).reshape(64, 64)
    series = rng.poisson(np.stack([clean, clean, clean])).astype(np.uint16)
    request = make_request(
        series,
        axes=Axes(("plane", "y", "x")),
        model="lite-micro-x4",
        denoise_auto=True,
        value_range=RangeChoice("data"),
    )
    outcome = run_upscale(request, lambda _: None, never)
    a, b, alpha = outcome.provenance["model"]["mix"]
    assert (a, b) == ("lite-micro-x4", "lite-micro-denoise-x4")
    assert 0 < alpha < 1
    still = run_upscale(replace(request, consistent=True), lambda _: None, never)
    assert still.provenance["model"]["key"] == "lite-micro-x4"  # noise is what was measured
    assert estimate(request, [].append, never).model == Mix(a, b, alpha)


@pytest.mark.parametrize("kind", ["limits", "own"])
def test_given_ranges(make_request, model_file, kind):
    image = words((12, 14))
    choice = RangeChoice(kind, (500.0, 2500.0))
    expected = esr.upscale(image, model_file, data_range=(500, 2500), device="cpu")
    np.testing.assert_array_equal(run(make_request(image, value_range=choice)), expected)


def test_rgb_goes_through_as_rgb(make_request, model_file):
    movie = RNG.integers(0, 255, (2, 12, 14, 3), np.uint8)
    result = run(make_request(movie, rgb=True, value_range=RangeChoice("type")))
    expected = [esr.upscale(frame, model_file, device="cpu") for frame in movie]
    np.testing.assert_array_equal(result, expected)


def test_space_may_be_any_axes(make_request, model_file):
    stack = words((14, 3, 12))  # x, plane, y
    result = run(make_request(stack, axes=Axes(("x", "plane", "y"))))
    turned = np.moveaxis(stack, (2, 0), (-2, -1))
    expected = esr.upscale(
        turned, model_file, channel_axis=False, data_range="minmax", device="cpu"
    )
    assert_same_levels(result, np.moveaxis(expected, (-2, -1), (2, 0)))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, np.float64, bool])
def test_type_and_range_come_back(make_request, dtype):
    image = (RNG.random((12, 14)) * 200).astype(dtype)
    result = run(make_request(image))
    assert result.dtype == dtype
    if dtype is not bool:
        assert 0.2 * 200 < np.mean(result, dtype=float) < 0.8 * 200


def test_nan_comes_back_as_nan(make_request, microscopy):
    image = microscopy("membrane2d.tif")[:24, :20].astype(np.float32)
    image[5:9, 3:7] = np.nan
    result = run(make_request(image))
    np.testing.assert_array_equal(np.isnan(result), np.isnan(image).repeat(4, 0).repeat(4, 1))


def test_infinities_are_refused_before_anything_is_shown(make_request):
    image = RNG.random((12, 14)).astype(np.float32)
    image[1, 1] = -np.inf
    reports = []
    with pytest.raises(ImageError, match="infinite"):
        run(make_request(image, fill_in_seconds=0), reports)
    assert not any(isinstance(report, Appear) for report in reports)


@pytest.mark.parametrize("on_disk", [False, True])
def test_tiles_regions_and_stores_give_the_same(make_request, tmp_path, on_disk):
    data = words((2, 40, 50))
    whole = run(make_request(data, tile=64))
    request = make_request(
        data,
        tile=64,
        region=Rect(0, 40, 0, 50),
        fill_in_seconds=0,
        budget_bytes=0 if on_disk else 1e9,
        folder=tmp_path,
    )
    np.testing.assert_array_equal(run(request), whole)
    assert bool(list(tmp_path.iterdir())) == on_disk


def test_a_growing_result_is_the_nearest_pixels_at_first(make_request, monkeypatch):
    data = words((20, 30))
    seen = []
    real = upscale._Work.run

    def run_after_a_look(work):
        seen.append(work._result.array.copy())
        real(work)

    monkeypatch.setattr(upscale._Work, "run", run_after_a_look)
    reports = []
    result = run(make_request(data, fill_in_seconds=0), reports)
    np.testing.assert_array_equal(seen[0], data.repeat(4, 0).repeat(4, 1))
    (appear,) = [report for report in reports if isinstance(report, Appear)]
    np.testing.assert_array_equal(appear.result.array, result)


def test_the_plane_on_show_comes_first(make_request, monkeypatch):
    data = words((4, 12, 14))
    order = []
    real = upscale._Work.read
    monkeypatch.setattr(
        upscale._Work, "read", lambda work, plane: (order.append(plane), real(work, plane))[1]
    )
    axes = Axes(("plane", "y", "x"))
    run(make_request(data, axes=axes, shown=(2,)))
    assert order == [(2,), (0,), (1,), (3,)]


def test_progress_ends_complete(make_request):
    reports = []
    run(make_request(words((3, 12, 14))), reports)
    progress = [report for report in reports if isinstance(report, Progress)]
    assert progress[-1].done == progress[-1].total == 3 * 12 * 14
    assert progress[-1].tiles_done == progress[-1].tiles == 3
    assert [p.done for p in progress] == sorted(p.done for p in progress)


def test_cancel_takes_the_store_away(make_request, tmp_path):
    stop = threading.Event()

    def report(message):
        if isinstance(message, Progress) and message.done:
            stop.set()

    request = make_request(words((3, 40, 50)), budget_bytes=0, folder=tmp_path, fill_in_seconds=0)
    with pytest.raises(UpscaleCancelled):
        run_upscale(request, report, stop.is_set)
    assert not list(tmp_path.iterdir())


def test_waiting_for_another_run_can_be_cancelled(make_request):
    stop, ended = threading.Event(), threading.Event()

    def work():
        with pytest.raises(UpscaleCancelled):
            run_upscale(make_request(words((8, 8))), lambda _: None, stop.is_set)
        ended.set()

    with inference(torch.device("cpu")):
        threading.Thread(target=work).start()
        assert not ended.wait(0.3)
        stop.set()
        assert ended.wait(10)


@pytest.mark.parametrize("work", [run_upscale, estimate])
def test_compiling_is_announced_and_can_be_cancelled(make_request, monkeypatch, work):
    compiling, done, cancel, ended = (threading.Event() for _ in range(4))
    seen = []

    def backend(device, dtype):
        with jit._notice("compiling the kernels"):
            compiling.set()
            done.wait(60)

    def report(message):
        seen.append(message)
        if message == Status("Compiling the kernels…"):
            cancel.set()

    def run_it():
        with pytest.raises(UpscaleCancelled):
            work(request, report, cancel.is_set)
        ended.set()

    request = make_request(words((12, 14)))
    monkeypatch.setattr(ops, "backend", backend)
    monkeypatch.setattr(kernels, "_had", set())
    threading.Thread(target=run_it).start()
    assert compiling.wait(60)
    assert ended.wait(60), "it waits for the compiler"
    assert not done.is_set()
    done.set()
    assert seen[-1] == Status("Compiling the kernels…")
    for thread in threading.enumerate():  # the compiler's work is not thrown away
        if thread.name == "esrgan-kernels":
            thread.join(60)
    assert jit.under_way() is None


def test_lazy_data_is_read_plane_by_plane(make_request, model_file):
    import dask.array as da

    data = words((3, 12, 14))
    read = []

    def plane(block, block_info=None):
        read.append(block_info[0]["chunk-location"])
        return block

    lazy = da.from_array(data, chunks=(1, 12, 14)).map_blocks(plane, dtype=data.dtype)
    read.clear()
    choice = RangeChoice("limits", (100.0, 4000.0))
    result = run(make_request(lazy, value_range=choice, axes=Axes(("plane", "y", "x"))))
    assert len(read) == 3
    assert_same_levels(
        result,
        esr.upscale(data, model_file, channel_axis=False, data_range=(100, 4000), device="cpu"),
    )


def test_estimates_know_shape_memory_and_download(make_request):
    request = make_request(words((5, 40, 50)), budget_bytes=1e3)
    result = estimate(request, [].append, never)
    assert result.output_shape == (5, 160, 200)
    assert result.output_bytes == 5 * 160 * 200 * 2
    assert result.on_disk
    assert result.download_bytes == 0
    assert result.work_bytes > 0
    assert result.seconds > 0
    absent = estimate(replace(request, model="esrgan-x4"), [].append, never)
    assert absent.download_bytes == 66_929_193
    assert absent.output_shape == (5, 160, 200)
