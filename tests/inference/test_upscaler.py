"""The public upscale(): arrays in, arrays out, by whatever tiles."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import esrgan_ext as esr
from esrgan_ext.inference import upscaler as module
from esrgan_ext.inference.tiles import Rect
from esrgan_ext.ops import eager
from tests.conftest import make_network

RNG = np.random.default_rng(0)


def by_hand(network, image: np.ndarray) -> np.ndarray:
    """What the network makes of a float image (H, W, C) or (H, W), with nothing around it."""
    channels = image[None] if image.ndim == 2 else np.moveaxis(image, -1, 0)
    repeated = np.repeat(channels, 3, 0) if image.ndim == 2 else channels
    with torch.no_grad():
        y = network.plain_forward(torch.from_numpy(repeated.astype(np.float32))[None])[0].numpy()
    return y.mean(0) if image.ndim == 2 else np.moveaxis(y, 0, -1)


def random_image(shape, dtype) -> np.ndarray:
    if np.dtype(dtype).kind == "b":
        return RNG.random(shape) > 0.5
    if np.dtype(dtype).kind in "iu":
        limits = np.iinfo(dtype)
        return RNG.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    return RNG.random(shape).astype(dtype)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (13, 17), (13, 17, 3), (1, 1, 3)])
def test_float_images_are_what_the_network_makes_of_them(tiny_network, shape):
    image = random_image(shape, np.float32)
    result = esr.upscale(image, tiny_network, data_range="type")
    assert result.dtype == np.float32
    assert np.allclose(result, by_hand(tiny_network, image), atol=1e-5)


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535)])
def test_integers_are_scaled_by_their_type(tiny_network, dtype, top):
    image = random_image((12, 15, 3), dtype)
    expected = np.clip(np.rint(by_hand(tiny_network, image / top) * top), 0, top)
    result = esr.upscale(image, tiny_network, data_range="type")
    assert result.dtype == dtype
    assert np.abs(result - expected).max() <= (1 if dtype == np.uint8 else 2)


def test_rgba_colour_and_alpha_go_through_by_themselves(tiny_network):
    image = random_image((10, 11, 4), np.float32)
    result = esr.upscale(image, tiny_network)
    assert np.allclose(result[..., :3], by_hand(tiny_network, image[..., :3]), atol=1e-5)
    assert np.allclose(result[..., 3], by_hand(tiny_network, image[..., 3]), atol=1e-5)


def test_gray_and_alpha(tiny_network):
    image = random_image((10, 11, 2), np.float32)
    result = esr.upscale(image, tiny_network, channel_axis=2)
    for channel in range(2):
        expected = by_hand(tiny_network, image[..., channel])
        assert np.allclose(result[..., channel], expected, atol=1e-5)


def test_stacks_are_upscaled_plane_by_plane(tiny_network):
    stack = random_image((2, 5, 9, 8), np.float32)
    result = esr.upscale(stack, tiny_network, data_range="type")
    assert result.shape == (2, 5, 36, 32)
    for index in np.ndindex(2, 5):
        assert np.allclose(result[index], by_hand(tiny_network, stack[index]), atol=1e-5)


def test_many_channels_go_through_each_by_itself(tiny_network):
    image = random_image((9, 8, 6), np.float32)
    result = esr.upscale(image, tiny_network, data_range="type", channel_axis=2)
    for channel in range(6):
        expected = by_hand(tiny_network, image[..., channel])
        assert np.allclose(result[..., channel], expected, atol=1e-5)


def test_channels_first_equals_channels_last(tiny_network):
    image = random_image((9, 8, 3), np.uint8)
    first = esr.upscale(np.moveaxis(image, -1, 0), tiny_network, channel_axis=0)
    assert np.array_equal(np.moveaxis(first, 0, -1), esr.upscale(image, tiny_network))


def test_inputs_of_any_memory_order_are_left_unchanged(tiny_network):
    image = random_image((18, 22, 3), np.uint8)
    view = image[::-2, ::2]
    before = image.copy()
    result = esr.upscale(view, tiny_network)
    assert np.array_equal(result, esr.upscale(view.copy(), tiny_network))
    assert np.array_equal(image, before)
    view.setflags(write=False)
    assert np.array_equal(esr.upscale(view, tiny_network), result)


def test_networks_with_one_or_four_channels():
    gray, rgba = (
        make_network(in_channels=1, out_channels=1),
        make_network(in_channels=4, out_channels=4),
    )
    assert esr.upscale(random_image((5, 6), np.uint8), gray).shape == (20, 24)
    assert esr.upscale(random_image((5, 6, 4), np.uint8), rgba).shape == (20, 24, 4)


@pytest.mark.parametrize(
    ("channels", "shape"), [(2, (5, 6, 3)), (4, (5, 6, 3)), (4, (5, 6)), (2, (5, 6, 4))]
)
def test_wrong_channel_count_is_an_error(channels, shape):
    network = make_network(in_channels=channels, out_channels=channels)
    with pytest.raises(esr.ImageError, match=f"the model takes {channels}"):
        esr.upscale(random_image(shape, np.uint8), network)


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 30),
    width=st.integers(1, 30),
    tile=st.integers(5, 35),
    outscale=st.sampled_from([None, 1, 1.5, 2, 3, 4, 5.3]),
    config=st.sampled_from([{}, {"scale": 2, "unshuffle": 2}, {"scale": 1, "unshuffle": 4}]),
)
def test_tiles_with_enough_overlap_leave_no_trace(height, width, tile, outscale, config):
    network = make_network(nf=4, gc=2, **config)
    image = np.random.default_rng(1).random((height, width, 3), np.float32)
    options = {"outscale": outscale, "overlap": network.reach + 4}
    whole = esr.upscale(image, network, **options)
    pieces = np.full_like(whole, np.nan)

    def place(piece, slices):
        assert np.isnan(pieces[slices]).all(), "a pixel was handed out twice"
        pieces[slices] = piece

    tiled = esr.upscale(image, network, tile=tile, on_tile=place, **options)
    assert np.allclose(tiled, whole, atol=1e-5)
    assert np.array_equal(pieces, tiled)


def test_tiles_of_one_pixel_are_legal(tiny_network):
    image = random_image((3, 4), np.float32)
    result = esr.upscale(image, tiny_network, data_range="type", tile=1)
    assert np.allclose(result, by_hand(tiny_network, image), atol=1e-5)


def test_too_small_an_overlap_does_leave_a_trace():
    network = make_network(nb=3)
    for p in network.parameters():
        p.mul_(2)
    image = random_image((60, 60, 3), np.float32)
    whole = esr.upscale(image, network)
    scale = np.abs(whole).max()
    assert np.abs(esr.upscale(image, network, tile=30, overlap=0) - whole).max() > 1e-3 * scale
    assert np.abs(esr.upscale(image, network, tile=30) - whole).max() < 1e-5 * scale


@pytest.mark.parametrize("outscale", [0.3, 1, 1.5, 2, 3, 4, 6.25])
def test_outscale_gives_round_of_size_times_outscale(tiny_network, outscale):
    result = esr.upscale(random_image((7, 11, 3), np.uint8), tiny_network, outscale=outscale)
    assert result.shape == (max(1, round(7 * outscale)), round(11 * outscale), 3)


def test_resampling_keeps_the_picture_in_place():
    """A ramp comes out as the same ramp, its pixel centres at (i + 1/2) / outscale - 1/2."""
    network = make_network(scale=1)
    for name, p in network.named_parameters():
        p.zero_()
        if name in ("conv_first.weight", "conv_hr.weight", "conv_last.weight"):
            for k in range(3):  # three channels straight through
                p[k, k, 1, 1] = 1
    ramp = np.tile(np.arange(40, dtype=np.float32), (5, 1))
    for outscale in (0.5, 1, 2, 3.5):
        result = esr.upscale(ramp, network, outscale=outscale, tile=8)
        centres = (np.arange(result.shape[1]) + 0.5) * 40 / result.shape[1] - 0.5
        inner = (centres > 4) & (centres < 35)
        assert np.allclose(result[:, inner], centres[inner], atol=1e-3)


def test_ensemble_is_the_mean_of_the_eight_flips_and_rotations(tiny_network):
    image = random_image((9, 14, 3), np.float32)
    results = []
    for flipped in (False, True):
        for turns in range(4):
            variant = np.rot90(image[:, ::-1] if flipped else image, turns)
            y = np.rot90(by_hand(tiny_network, variant), -turns)
            results.append(y[:, ::-1] if flipped else y)
    expected = np.mean(results, 0)
    assert np.allclose(
        esr.upscale(image, tiny_network, data_range="type", ensemble=True), expected, atol=1e-5
    )
    assert np.std(results, 0).max() > 1e-3  # the eight do differ


def test_nan_pixels_come_back_as_nan_and_spread_no_further(tiny_network):
    stack = random_image((2, 12, 10), np.float32)
    holed = stack.copy()
    holed[0, 3:5, 6] = np.nan
    with pytest.warns(RuntimeWarning, match="2 NaN pixels") as caught:
        result = esr.upscale(holed, tiny_network, data_range="type", tile=7)
    assert len(caught) == 1
    expected = np.kron(np.isnan(holed), np.ones((1, 4, 4), bool))
    assert np.array_equal(np.isnan(result), expected)
    assert np.allclose(result[1], by_hand(tiny_network, stack[1]), atol=1e-5)


def test_a_plane_of_nan_stays_nan(tiny_network):
    stack = random_image((2, 6, 6), np.float32)
    stack[1] = np.nan
    with pytest.warns(RuntimeWarning, match="36 NaN"):
        result = esr.upscale(stack, tiny_network, outscale=1.5)
    assert np.isnan(result[1]).all()
    assert not np.isnan(result[0]).any()


def test_infinite_pixels_are_an_error_before_any_work(tiny_network):
    stack = random_image((3, 6, 6), np.float32)
    stack[2, 0, 0] = np.inf
    pieces = []
    with pytest.raises(esr.ImageError, match="infinite"):
        esr.upscale(stack, tiny_network, on_tile=lambda *piece: pieces.append(piece))
    assert not pieces


def test_values_beyond_the_network_are_an_error_not_garbage(tiny_network):
    with pytest.raises(esr.ImageError, match="not finite"):
        esr.upscale(np.full((4, 4), 3e38), tiny_network, data_range="type")


@pytest.mark.parametrize("dtype", [complex, object, "S4"])
def test_impossible_dtypes_are_an_error(tiny_network, dtype):
    with pytest.raises(esr.ImageError, match="dtype"):
        esr.upscale(np.zeros((4, 4), dtype), tiny_network)


@pytest.mark.parametrize(
    "options",
    [
        {"tile": 0},
        {"tile": -5},
        {"tile": 1.5},
        {"tile": "big"},
        {"tile": True},
        {"overlap": -1},
        {"overlap": 0.5},
        {"outscale": 0},
        {"outscale": -2},
        {"outscale": float("nan")},
        {"outscale": "x2"},
        {"device": "tpu"},
        {"device": 1.5},
        {"precision": "fp8"},
        {"data_range": (1, 0)},
        {"model": 5},
    ],
    ids=str,
)
def test_impossible_options_are_named(tiny_network, options):
    with pytest.raises(esr.OptionError, match=next(iter(options))):
        esr.upscale(np.zeros((4, 4)), **{"model": tiny_network, **options})


def test_a_device_that_is_not_there_is_an_error(tiny_network):
    with pytest.raises(esr.DeviceError, match="there is: "):
        esr.Upscaler(tiny_network, device="cuda:97")


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_lower_precisions_agree(tiny_network, precision):
    image = random_image((16, 16, 3), np.float32)
    result = esr.upscale(image, tiny_network, precision=precision, device="cpu")
    expected = esr.upscale(image, tiny_network)
    assert np.abs(result - expected).max() < 0.02 * np.abs(expected).max()


def test_fp16_overflow_is_computed_again_in_fp32():
    network = make_network()
    network.conv_first.weight.mul_(1e6)
    network.conv_last.weight.mul_(1e-6)
    image = random_image((8, 8, 3), np.float32)
    with pytest.warns(RuntimeWarning, match="overflowed"):
        result = esr.upscale(image, network, data_range="type", precision="fp16", device="cpu")
    assert np.allclose(result, by_hand(network, image), rtol=1e-3, atol=1e-3)


def test_progress_starts_at_nothing_ends_at_everything_and_never_goes_back(tiny_network):
    for options in ({}, {"tile": 5}, {"ensemble": True}):
        calls: list[tuple[int, int]] = []
        esr.upscale(
            random_image((3, 20, 20), np.uint8),
            tiny_network,
            progress=lambda done, total, calls=calls: calls.append((done, total)),
            **options,
        )
        done = [call[0] for call in calls]
        assert {call[1] for call in calls} == {1200}
        assert done[0] == 0
        assert done[-1] == 1200
        assert done == sorted(done)


def test_progress_comes_from_inside_a_large_tile(monkeypatch):
    """Every piece of work between two calls is small: no call is more than 1 % of the work."""
    monkeypatch.setattr("esrgan_ext.inference.progress.PROGRESS_INTERVAL", 0)
    calls: list[int] = []
    network = make_network(nb=10)
    esr.upscale(
        random_image((64, 64, 3), np.uint8), network, progress=lambda done, _: calls.append(done)
    )
    assert np.diff(calls).max() < 0.12 * 64 * 64  # conv_hr at 16 times the pixels is the largest
    assert len(calls) > 100


def test_no_step_between_two_calls_is_longer_than_a_strip(monkeypatch):
    """Strips are what bounds the time between two calls; a network of full width needs them.

    In plain torch: the compiled kernels are watched by the clock instead.
    """
    monkeypatch.setattr("esrgan_ext.ops.cpu.supports", lambda *_: False)
    network = make_network(nf=64, gc=32)
    calls: list[int] = []
    with torch.no_grad():
        network(torch.rand(1, 3, 150, 150), calls.append)
    row = 600 * 64 * 64 * 9  # of conv_hr: a strip is a whole number of rows
    assert max(calls) <= eager.CPU_STRIP_MACS + row
    assert sum(calls) == pytest.approx(network.macs(150, 150), rel=0.01)


@pytest.mark.parametrize("how", ["false", "raise"])
def test_cancelling_stops_the_work(tiny_network, how):
    def stop(done, total):
        if done > 0:
            if how == "raise":
                raise ValueError("enough")
            return False
        return None

    pieces = []
    with pytest.raises(esr.UpscaleCancelled):
        esr.upscale(
            random_image((40, 40), np.uint8),
            tiny_network,
            tile=2,
            progress=stop,
            on_tile=lambda *piece: pieces.append(piece),
        )
    assert len(pieces) < 400


def test_an_upscaler_can_be_used_again_after_a_cancel(tiny_network):
    upscaler = esr.Upscaler(tiny_network)
    image = random_image((8, 8), np.uint8)
    with pytest.raises(esr.UpscaleCancelled):
        upscaler(image, progress=lambda done, total: False)
    assert np.array_equal(upscaler(image), esr.upscale(image, tiny_network))


def test_an_upscaler_for_other_axes_shares_the_network(tiny_network):
    image = random_image((9, 8, 3), np.uint8)
    upscaler = esr.Upscaler(tiny_network, channel_axis=False)
    other = upscaler.with_channel_axis(2)
    assert other.network is upscaler.network
    assert np.array_equal(other(image), esr.upscale(image, tiny_network))
    assert upscaler(image).shape == (9, 32, 12)


def test_other_options_share_the_network_unless_it_would_have_to_be_made_ready_anew(tiny_network):
    image = random_image((9, 8), np.uint16)
    upscaler = esr.Upscaler(tiny_network)
    other = upscaler.with_options(outscale=2, data_range="type", tile=5)
    assert other.network is upscaler.network
    expected = esr.upscale(image, tiny_network, outscale=2, data_range="type", tile=5)
    assert np.array_equal(other(image), expected)
    assert upscaler(image).shape == (36, 32)
    for options in ({"ensemble": True}, {"overlap": 3}, {"denoise": 0.5}):
        with pytest.raises(esr.OptionError, match=f"{next(iter(options))}: make an Upscaler"):
            upscaler.with_options(**options)


def test_a_result_can_be_written_into_a_given_array(tiny_network, tmp_path):
    image = random_image((8, 9), np.uint8)
    upscaler = esr.Upscaler(tiny_network)
    out = np.memmap(tmp_path / "out", np.uint8, "w+", shape=upscaler.output_shape(image.shape))
    assert upscaler(image, out=out) is out
    assert np.array_equal(out, upscaler(image))
    with pytest.raises(esr.OptionError, match="out must have shape"):
        upscaler(image, out=np.zeros((8, 9), np.uint8))


def out_of_memory_above(pixels: int, error: Exception, monkeypatch):
    """Make the network fail as an allocator does wherever a window is too large."""
    original = module.Engine.rows

    def rows(self, window, on_work):
        if window.shape[0] * window.shape[2] * window.shape[3] > pixels:
            raise error
        yield from original(self, window, on_work)

    monkeypatch.setattr(module.Engine, "rows", rows)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=["python", "cuda", "cpu"],
)
def test_out_of_memory_halves_the_tile_and_goes_on(tiny_network, monkeypatch, error):
    image = random_image((64, 90, 3), np.float32)
    options = {"overlap": tiny_network.reach}
    expected = esr.upscale(image, tiny_network, **options)
    out_of_memory_above(75 * 75, error, monkeypatch)
    with pytest.warns(RuntimeWarning, match="out of memory"):
        result = esr.upscale(image, tiny_network, **options)
    assert np.allclose(result, expected, atol=1e-5)


def test_a_batch_that_does_not_fit_is_taken_apart_first(tiny_network, monkeypatch):
    stack = random_image((6, 8, 8), np.float32)
    expected = esr.upscale(stack, tiny_network)
    out_of_memory_above(64, MemoryError(), monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.allclose(esr.upscale(stack, tiny_network), expected, atol=1e-5)


def test_memory_that_never_suffices_is_a_clear_error(tiny_network, monkeypatch):
    out_of_memory_above(0, MemoryError(), monkeypatch)
    with (
        pytest.warns(RuntimeWarning, match="out of memory"),
        pytest.raises(esr.OutOfMemory, match="not enough memory on CPU"),
    ):
        esr.upscale(random_image((64, 64), np.uint8), tiny_network)


def test_other_errors_are_not_taken_for_out_of_memory(tiny_network, monkeypatch):
    out_of_memory_above(0, RuntimeError("shapes do not match"), monkeypatch)
    with pytest.raises(RuntimeError, match="shapes"):
        esr.upscale(random_image((64, 64), np.uint8), tiny_network)


def test_a_result_that_cannot_be_allocated_is_a_clear_error(tiny_network):
    huge = np.broadcast_to(np.uint8(0), (2**24, 2**24))
    with pytest.raises(esr.OutOfMemory, match="GB"):
        esr.Upscaler(tiny_network)(huge)


def test_automatic_tiles_follow_the_free_memory(tiny_network, monkeypatch):
    upscaler = esr.Upscaler(tiny_network)
    per_pixel = upscaler.engine.bytes_per_pixel(3)
    image = random_image((100, 130, 3), np.float32)
    windows: list[int] = []
    original = module.Engine.rows

    def rows(self, window, on_work):
        windows.append(window.shape[2] * window.shape[3])
        yield from original(self, window, on_work)

    monkeypatch.setattr(module.Engine, "rows", rows)
    expected = upscaler(image)
    assert windows == [13000]
    windows.clear()
    budget = 70 * 70 * per_pixel + expected.nbytes
    monkeypatch.setattr(module.Device, "free_memory", lambda self: budget)
    assert np.allclose(upscaler(image), expected, atol=1e-5)
    assert len(windows) > 4
    assert max(windows) <= 70 * 70


@pytest.mark.parametrize("outscale", [None, 2.5])
@pytest.mark.parametrize("tile", ["auto", 16])
def test_a_region_is_the_same_part_of_the_whole_result(tiny_network, outscale, tile):
    image = random_image((2, 48, 61, 3), np.float32)
    options = {"outscale": outscale, "channel_axis": -1, "device": "cpu"}
    up = esr.Upscaler(tiny_network, tile=tile, overlap=16, **options)
    whole = esr.upscale(image, tiny_network, tile=512, **options)
    factor = outscale or 4
    region = Rect(9, 33, 20, 61)
    seen = []
    part = up(image, region=region, progress=lambda done, total: seen.append((done, total)))
    rows, columns = (slice(round(a * factor), round(b * factor)) for a, b in ((9, 33), (20, 61)))
    assert np.allclose(part, whole[:, rows, columns], atol=1e-4)
    assert seen[-1] == (2 * region.pixels, 2 * region.pixels)


def test_a_region_must_lie_within_the_image(tiny_network):
    up = esr.Upscaler(tiny_network, device="cpu")
    with pytest.raises(esr.OptionError, match="not within the 10 x 12 pixels"):
        up(random_image((10, 12), np.uint8), region=Rect(0, 11, 0, 5))
