"""Hot pixels are kept away from the network, and stay where they were measured."""

from __future__ import annotations

import numpy as np
import pytest

import esrgan_ext as esr
from esrgan_ext.inference import hot_pixels
from esrgan_ext.inference.arrays import ValueMap
from esrgan_ext.inference.consistency import block_factor
from esrgan_ext.inference.hot_pixels import find_hot_pixels

MODEL = "lite-micro-x4"


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def nuclei(rng: np.random.Generator, side: int = 96) -> np.ndarray:
    """Smooth blobs of 100 to 2000 with a little noise, uint16."""
    y, x = np.mgrid[:side, :side]
    image = np.zeros((side, side))
    for _ in range(12):
        at = rng.uniform(0, side, 2)
        image += np.exp(-((y - at[0]) ** 2 + (x - at[1]) ** 2) / (2 * rng.uniform(4, 9) ** 2))
    image = 100 + 1900 * image / image.max()
    return np.rint(image + rng.normal(0, 8, image.shape)).clip(0).astype(np.uint16)


def found(image: np.ndarray, low: float = 100, high: float = 2000) -> list[tuple[int, int]]:
    hot = find_hot_pixels(image[None, None], ValueMap(image.dtype, low, high))
    return [] if hot is None else list(zip(hot.row.tolist(), hot.column.tolist(), strict=True))


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32, np.float64, np.uint64])
def test_single_pixels_pairs_and_corners_are_found_in_every_type(rng, dtype):
    image = nuclei(rng).astype(dtype)
    assert found(image) == []
    places = [(0, 0), (40, 50), (40, 51), (70, 20), (71, 20), (71, 21), (95, 95)]
    for place in places:
        image[place] = 60000
    assert found(image) == places


def test_spots_that_a_lens_draws_and_plateaus_are_no_hot_pixels(rng):
    image = nuclei(rng).astype(np.float64)
    y, x = np.mgrid[:96, :96]
    for shift in (0.0, 0.25, 0.5):  # a bead as sharp as the sampling allows, 10 times white
        bead = 20000 * np.exp(-((y - 40 - shift) ** 2 + (x - 50 - shift) ** 2) / (2 * 0.85**2))
        assert found(image + bead) == []
    image[20:23, 20:23] = 30000
    assert found(image) == []


def test_dead_pixels_far_below_black_are_found():
    image = np.full((32, 32), 1500, np.int32) + np.arange(32, dtype=np.int32)
    image[10, 11] = -30000
    assert found(image, 1000, 2000) == [(10, 11)]


@pytest.mark.parametrize("hot", [1, 5, 20])
def test_the_result_away_from_hot_pixels_is_that_without_them(rng, hot):
    clean = nuclei(rng)
    image = clean.copy()
    at = rng.choice(clean.size, hot, replace=False)
    image.flat[at] = 65535
    up = esr.Upscaler(MODEL, device="cpu", data_range=(100.0, 2000.0), denoise=0)
    expected, result = up(clean).astype(float), up(image).astype(float)
    near = np.zeros(clean.shape, bool)
    near.flat[at] = True
    y, x = np.nonzero(near)
    for dy in range(-2, 3):
        for dx in range(-2, 3):
            near[(y + dy).clip(0, 95), (x + dx).clip(0, 95)] = True
    away = ~near.repeat(4, 0).repeat(4, 1)
    assert np.abs(result - expected)[away].max() <= 60  # of 1900: filled is not what was there
    assert np.sqrt(np.mean((result - expected)[away] ** 2)) < 4
    # and they are not lost: all that was above lies within a pixel around them
    excess = (image.astype(float) - clean).sum() * 16
    assert (result - expected).sum() == pytest.approx(excess, rel=0.02 if hot == 1 else 0.1)


def test_tiles_and_resampled_results_hold_them_once(rng):
    image = nuclei(rng)
    image[47, 48] = image[0, 30] = image[95, 0] = 65535
    whole = esr.upscale(image, MODEL, device="cpu", denoise=0).astype(float)
    tiled = esr.upscale(image, MODEL, device="cpu", denoise=0, tile=48).astype(float)
    assert np.abs(whole - tiled).max() <= 1900 / 255
    half = esr.upscale(image, MODEL, device="cpu", denoise=0, outscale=0.5)
    assert half.shape == (48, 48)
    assert half.max() > 8000


def test_consistent_results_average_down_to_the_hot_pixel_too(rng):
    image = nuclei(rng)
    image[47, 48] = 65535
    result = esr.upscale(image, MODEL, device="cpu", consistent=True)
    assert block_factor(image.shape, result.shape) == 4
    means = result.reshape(96, 4, 96, 4).mean((1, 3))
    assert np.abs(means - image).max() <= 0.5


def test_each_channel_has_its_own(rng):
    image = np.stack([nuclei(rng) for _ in range(3)], -1)
    clean = image.copy()
    image[47, 48, 1] = 65535
    options = {"device": "cpu", "data_range": (100.0, 2000.0)}
    result = esr.upscale(image, "lite-psnr-x4", **options).astype(float)
    expected = esr.upscale(clean, "lite-psnr-x4", **options).astype(float)
    assert result[188:192, 192:196, 1].min() > 10000
    assert np.abs(result - expected)[..., [0, 2]].max() <= 120


def test_a_range_far_below_the_image_is_no_reason_to_look_at_every_neighbourhood(rng, monkeypatch):
    image = nuclei(rng).astype(np.float32)
    image[40, 50] = 60000
    looked_at = []
    whole = hot_pixels._alone

    def counted(window, places, height):
        looked_at.append(len(places))
        return whole(window, places, height)

    monkeypatch.setattr(hot_pixels, "_alone", counted)
    image += 300
    assert (image > 110 + 2 * 10).all()
    assert (40, 50) in found(image, 100, 110)
    assert sum(looked_at) < image.size / 5


@pytest.mark.parametrize("high", [200, 800, 2500])
def test_the_quick_look_at_all_of_a_window_loses_none(rng, monkeypatch, high):
    image = rng.integers(0, 3000, (90, 100)).astype(np.uint16)
    image.flat[rng.choice(image.size, 30, replace=False)] = 60000
    image[0, 0] = image[-1, 50] = image[-1, 51] = 60000
    quickly = found(image, 0, high)
    monkeypatch.setattr(hot_pixels, "MANY", 2.0)
    assert found(image, 0, high) == quickly
    assert {(0, 0), (89, 50)} <= set(quickly)
    assert found(np.tile(np.arange(0, 30000, 300, dtype=np.uint16), (50, 1)), 0, 100) == []
