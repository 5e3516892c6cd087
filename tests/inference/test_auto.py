"""model="auto" and the range that follows the data: what an image gets without a word."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

import esrgan_ext as esr
from esrgan_ext.weights.catalogue import FAITHFUL, FAITHFUL_COLOUR
from esrgan_ext.weights.choice import PHOTO, choose_model

RNG = np.random.default_rng(7)


@pytest.mark.parametrize(
    ("shape", "dtype", "axis", "model"),
    [
        ((8, 9, 3), np.uint8, None, PHOTO),
        ((8, 9, 4), np.uint8, None, PHOTO),
        ((5, 8, 9, 3), np.uint8, -1, PHOTO),
        ((8, 9), np.uint8, None, FAITHFUL),
        ((8, 9, 1), np.uint8, None, FAITHFUL),
        ((5, 8, 9), np.uint8, None, FAITHFUL),
        ((5, 8, 9), np.uint8, 0, FAITHFUL),
        ((8, 9, 3), np.uint16, None, FAITHFUL_COLOUR),
        ((8, 9, 3), np.float32, None, FAITHFUL_COLOUR),
        ((8, 9, 3), np.int8, None, FAITHFUL_COLOUR),
        ((8, 9, 3), bool, None, FAITHFUL_COLOUR),
    ],
)
def test_colour_photos_get_detail_and_all_else_the_truth(shape, dtype, axis, model):
    choice = esr.Upscaler(device="cpu").choice(shape, np.dtype(dtype), channel_axis=axis)
    assert choice is not None
    assert choice.model == model
    assert choice.reason


def test_formats_and_units_of_measurements_get_the_truth():
    for given in ({"scientific": "TIFF"}, {"calibrated": True}):
        assert choose_model(np.dtype(np.uint8), 3, **given).model == FAITHFUL_COLOUR


def test_auto_is_the_model_it_chose():
    image = RNG.integers(100, 2000, (9, 8)).astype(np.uint16)
    expected = esr.upscale(image, FAITHFUL, device="cpu")
    assert np.array_equal(esr.upscale(image, device="cpu"), expected)
    lazily = esr.upscale_lazy(image, device="cpu")
    assert np.abs(lazily.compute(scheduler="sync").astype(int) - expected).max() <= 8
    up = esr.Upscaler(device="cpu")
    assert up.output_shape((9, 8)) == expected.shape
    assert up.plan(image.shape, image.dtype).output_shape == expected.shape
    with pytest.raises(esr.OptionError, match="for_image"):
        _ = up.network


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.astype(np.float32),
        lambda a: a.astype(np.int64),
        lambda a: a * 16.0,
        lambda a: a.astype(np.int32) - 1024,
        lambda a: a / 4095,
    ],
)
def test_a_range_is_the_datas_whatever_type_and_units_it_came_in(tiny_network, change):
    """The same picture in other types and units is the same result in them."""
    image = RNG.integers(100, 2000, (12, 14)).astype(np.uint16)
    options = {"device": "cpu"}
    low, high = np.percentile(image, [0.1, 99.9])
    known = esr.upscale(image.astype(float), tiny_network, data_range=(low, high), **options)
    ones = np.array([0.0, 1.0])
    other = change((ones * 1000).astype(np.uint16)).astype(float)
    slope, offset = (other[1] - other[0]) / 1000, other[0]
    result = esr.upscale(change(image), tiny_network, **options)
    assert np.abs((result - offset) / slope - known).max() <= 4


def test_a_hot_pixel_changes_nothing_far_from_it():
    image = RNG.integers(100, 2000, (64, 64)).astype(np.uint16)
    hot = image.copy()
    hot[5, 5] = 65535
    up = esr.Upscaler(FAITHFUL, device="cpu")
    part = slice(160, 256)  # 35 pixels of the image away
    normal = up(image).astype(float)[part, part]
    followed = up(hot).astype(float)[part, part]
    spoilt = up(hot, data_range="minmax").astype(float)[part, part]
    assert np.abs(followed - normal).mean() < 2
    assert np.abs(spoilt - normal).mean() > 10


def test_values_beyond_the_range_are_not_clipped():
    image = RNG.random((10, 10))
    up = esr.Upscaler(FAITHFUL, device="cpu", data_range=(0.4, 0.6), denoise=None)
    assert up(image).max() > 0.9  # clipped it would be at most 0.6
    assert up(np.clip(image, 0.4, 0.6)).max() < 1.0


def test_one_range_for_a_stack(tiny_network):
    stack = np.stack([np.full((6, 6), 200.0), np.full((6, 6), 3000.0)])
    stack += RNG.normal(0, 1, stack.shape)
    found = esr.Upscaler(tiny_network, device="cpu").value_map(stack)
    assert found.low < 250
    assert found.high > 2950


def test_alpha_keeps_the_range_of_its_type(tiny_network):
    image = RNG.integers(0, 2000, (6, 6, 4)).astype(np.uint16)
    found = esr.Upscaler(tiny_network, device="cpu").value_map(image)
    assert (found.low, found.high) == (0, 65535)


def test_range_and_axes_may_be_given_with_a_call(tiny_network):
    image = RNG.integers(100, 2000, (6, 7, 3)).astype(np.uint16)
    up = esr.Upscaler(tiny_network, device="cpu")
    given = up(image, data_range=(0, 4095), channel_axis=False)
    made = esr.Upscaler(tiny_network, device="cpu", data_range=(0, 4095), channel_axis=False)
    assert np.array_equal(given, made(image))
    assert np.array_equal(up(image), esr.upscale(image, tiny_network, device="cpu"))


def test_one_channel_at_the_end_is_gray(tiny_network):
    image = RNG.integers(0, 255, (6, 7, 1)).astype(np.uint8)
    result = esr.upscale(image, tiny_network, device="cpu")
    assert result.shape == (24, 28, 1)
    assert np.array_equal(result[..., 0], esr.upscale(image[..., 0], tiny_network, device="cpu"))


def test_a_file_says_what_was_chosen(tmp_path):
    from typer.testing import CliRunner

    from esrgan_ext.cli import app
    from esrgan_ext.inference.files import write_image

    image = RNG.integers(100, 2000, (8, 9)).astype(np.uint16)
    write_image(tmp_path / "in.tif", image)
    write_image(tmp_path / "rgb.tif", RNG.integers(0, 255, (8, 9, 3)).astype(np.uint8))
    run = CliRunner().invoke(app, ["upscale", str(tmp_path), str(tmp_path / "out"), "-d", "cpu"])
    assert run.exit_code == 0, run.output
    lines = {line.split(" -> ")[0][-7:]: line for line in run.stdout.splitlines() if "->" in line}
    assert f"{FAITHFUL_COLOUR} (true to the data: TIFF)" in lines["rgb.tif"]
    found = re.search(r"(\d+) is black, (\d+) is white", lines["/in.tif"])
    assert found is not None
    assert np.allclose([int(v) for v in found.groups()], np.percentile(image, [0.1, 99.9]), atol=40)


def test_every_option_is_a_keyword_of_all_that_upscale():
    from esrgan_ext.inference.options import OptionValues

    fields = set(esr.UpscaleOptions.__dataclass_fields__)
    assert set(OptionValues.__annotations__) == fields
    assert fields <= set(esr.StoreOptions.__dataclass_fields__)
    for call in (esr.Upscaler, esr.upscale, esr.upscale_lazy):
        with pytest.raises(TypeError, match="nonsense"):
            call(np.zeros((4, 4), np.uint8), nonsense=1)


@pytest.mark.parametrize("empty", [(2,), (0, 2)])
@pytest.mark.parametrize("channels", [3, 4])
def test_stains_drawn_in_colour_are_no_photo(channels, empty):
    image = RNG.integers(0, 255, (9, 8, channels)).astype(np.uint8)
    up = esr.Upscaler(device="cpu")
    assert up.choice(image.shape, image.dtype, image=image).model == PHOTO
    image[..., list(empty)] = 0
    choice = up.choice(image.shape, image.dtype, image=image)
    assert choice.model == FAITHFUL
    assert "empty" in choice.reason
    expected = esr.upscale(image, FAITHFUL, device="cpu")
    assert np.array_equal(up(image), expected)
    lazily = esr.upscale_lazy(image, device="cpu").compute(scheduler="sync")
    assert np.abs(lazily.astype(int) - expected).max() <= 1
    everything_even = np.full_like(image, 7)
    assert up.choice(image.shape, image.dtype, image=everything_even).model == PHOTO


def test_a_png_of_stains_gets_the_truth(tmp_path):
    image = RNG.integers(0, 255, (9, 8, 3)).astype(np.uint8)
    image[..., 0] = 0
    Image.fromarray(image).save(tmp_path / "in.png")
    esr.upscale_file(tmp_path / "in.png", tmp_path / "out.png", device="cpu")
    result = np.asarray(Image.open(tmp_path / "out.png"))
    assert np.array_equal(result, esr.upscale(image, FAITHFUL, device="cpu"))
