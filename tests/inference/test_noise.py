"""The noise that an image shows, and the strength of denoising that follows it."""

from __future__ import annotations

import numpy as np
import pytest

import esrgan_ext as esr
from esrgan_ext.errors import OptionError
from esrgan_ext.inference.noise import NoiseEstimate, denoise_strength, estimate_noise
from esrgan_ext.weights import load_denoising

PAIR = ("lite-micro-x4", "lite-micro-denoise-x4")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def spots(side: int = 256) -> np.ndarray:
    """Smooth bright spots on a dark background, 0 to 1."""
    y, x = np.mgrid[:side, :side]
    image = np.zeros((side, side))
    for k in range(9):
        image += np.exp(-((y - 37 * k % side) ** 2 + (x - 91 * k % side) ** 2) / 300)
    return image / image.max()


def exposed(image: np.ndarray, photons: float, rng: np.random.Generator, read: float = 1.6):
    return (rng.poisson(image * photons) + read * rng.normal(size=image.shape)) / photons


@pytest.mark.parametrize(("gain", "read"), [(0.5, 3.0), (2.0, 0.0), (7.0, 10.0)])
def test_gain_and_read_noise_are_found_on_a_slope(rng, gain, read):
    photons = np.linspace(20, 400, 512)[:, None] * np.ones(512)
    image = gain * rng.poisson(photons) + 100 + read * rng.normal(size=photons.shape)
    found = estimate_noise(image)
    assert found.slope == pytest.approx(gain, rel=0.15)
    true = np.sqrt((gain**2 * photons + read**2).mean())
    assert found.level == pytest.approx(true, rel=0.08)


def test_structure_is_hardly_taken_for_noise(rng):
    clean, noisy = spots(), exposed(spots(), 300, rng)
    true = np.sqrt((spots() / 300 + (1.6 / 300) ** 2).mean())
    assert estimate_noise(noisy).level == pytest.approx(true, rel=0.2)
    assert estimate_noise(clean).level < 0.02 * true


def test_noise_follows_the_scale_and_not_the_offset_of_the_values(rng):
    image = exposed(spots(), 100, rng)
    first, second = estimate_noise(image), estimate_noise(1000 * image + 500)
    assert second.level == pytest.approx(1000 * first.level, rel=1e-6)
    assert first.share == pytest.approx(second.share, rel=1e-6)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((64, 64)), np.full((300, 300), 7, np.uint16), np.zeros((5, 900)),
        np.full((64, 64), np.nan), np.zeros((0, 8)), np.zeros((2, 3, 64, 64), bool),
    ],
)  # fmt: skip
def test_images_that_tell_nothing_ask_for_nothing(image):
    found = estimate_noise(image)
    assert found == NoiseEstimate(0.0, 0.0, 0.0, 0)
    assert denoise_strength(found) == 0


def test_strength_rises_with_noise_from_none_to_all():
    strengths = [
        denoise_strength(NoiseEstimate(0, 0, level, 100, contrast=0.2, detail=level))
        for level in np.geomspace(1e-4, 1, 60)
    ]
    assert strengths == sorted(strengths)
    assert strengths[0] == 0
    assert strengths[-1] == 1


def test_the_share_is_of_contrast_and_detail_whatever_the_values_stand_for(rng):
    """White noise alone is all of both; a clean image with fine detail has next to none."""
    noise = rng.normal(5000, 40, (256, 256))
    assert estimate_noise(noise).share == pytest.approx(1, rel=0.1)
    y, x = np.mgrid[:256, :256]
    stripes = np.sin(x * 0.9) * np.sin(y * 1.1) * (np.hypot(y - 128, x - 128) < 60)
    assert estimate_noise(stripes + 1e-3 * rng.normal(size=stripes.shape)).share < 1e-3
    low, high = (estimate_noise(c * spots() + 0.01 * noise / 40) for c in (0.05, 1))
    assert low.level == pytest.approx(high.level, rel=0.2)
    assert low.share > 10 * high.share  # the same noise counts more where there is less image


def test_hot_pixels_change_no_estimate(rng):
    image = (exposed(spots(), 300, rng) * 2000 + 100).round().astype(np.uint16)
    hot = image.copy()
    hot.flat[rng.choice(hot.size, 20, replace=False)] = 65535
    assert estimate_noise(hot).share == pytest.approx(estimate_noise(image).share, rel=0.02)


def test_images_of_few_levels_have_the_noise_of_rounding():
    coarse = (spots() * 8).round().astype(np.uint8)
    assert estimate_noise(coarse).level == pytest.approx(12**-0.5, rel=0.5)
    assert estimate_noise((spots() * 255).round().astype(np.uint8)).share < 0.02


def test_images_too_small_for_blocks_are_judged_by_their_differences(rng):
    image = rng.normal(0, 1, (15, 14)) + np.linspace(0, 300, 14)
    found = estimate_noise(image)
    assert found.blocks == 0
    assert found.level == pytest.approx(1, rel=0.4)


def test_auto_is_the_mix_of_the_strength_that_it_names(rng):
    image = (exposed(spots(64), 30, rng) * 1000 + 200).round().clip(0).astype(np.uint16)
    up = esr.Upscaler(PAIR[0], device="cpu")
    strength = up.denoise_strength(image)
    assert strength == 1
    given = esr.Upscaler(PAIR[0], device="cpu", denoise=strength)
    assert np.array_equal(up(image), given(image))
    assert np.array_equal(up(image), esr.upscale(image, PAIR[1], device="cpu", denoise=None))
    assert not np.array_equal(up(image), esr.upscale(image, PAIR[0], device="cpu", denoise=None))
    assert np.array_equal(esr.Upscaler(device="cpu")(image), up(image))  # model="auto"


def test_clean_images_are_not_denoised():
    image = (spots(64) * 60000).astype(np.uint16)
    up = esr.Upscaler(PAIR[0], device="cpu")
    assert up.denoise_strength(image) == 0
    plain = esr.upscale(image, PAIR[0], device="cpu", denoise=None)
    assert np.array_equal(up(image), plain)


def test_a_stack_has_one_strength(rng):
    clean = spots(96)
    stack = np.stack([exposed(clean, 100, rng) for _ in range(3)]).astype(np.float32)
    up = esr.Upscaler(PAIR[0], device="cpu", channel_axis=False)
    strength = up.denoise_strength(stack)
    assert strength is not None
    fixed = up.value_map(stack)
    alone = esr.upscale(
        stack[1], PAIR[0], device="cpu", denoise=strength, data_range=(fixed.low, fixed.high)
    )
    assert np.allclose(up(stack)[1], alone, atol=1e-4)


def test_lazily_the_same_strength_is_taken(rng):
    da = pytest.importorskip("dask.array")
    image = exposed(spots(96), 30, rng).astype(np.float32)
    lazily = esr.upscale_lazy(da.from_array(image, chunks=48), PAIR[0], device="cpu").compute()
    assert np.allclose(lazily, esr.upscale(image, PAIR[0], device="cpu"), atol=2e-3)


def test_consistent_results_and_other_models_are_not_denoised(rng):
    image = exposed(spots(64), 30, rng).astype(np.float32)
    consistent = esr.Upscaler(PAIR[0], device="cpu", consistent=True)
    assert consistent.denoise_strength(image) in (None, 0)
    assert esr.Upscaler("lite-psnr-x4", device="cpu").denoise_strength(image) is None
    network = load_denoising(PAIR[0], "auto")
    assert esr.Upscaler(network, device="cpu").denoise_strength(image) == 1


def test_words_other_than_auto_are_refused():
    with pytest.raises(OptionError, match="auto"):
        esr.Upscaler(PAIR[0], device="cpu", denoise="strong")


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_each_channel_goes_through_a_network_of_one_by_itself(rng, channels):
    image = rng.random((24, 20, channels)).astype(np.float32)
    options = {"device": "cpu", "denoise": None, "data_range": (0.0, 1.0)}
    together = esr.upscale(image, PAIR[0], channel_axis=-1, **options)
    for k in range(channels):
        alone = esr.upscale(image[..., k], PAIR[0], **options)
        assert np.allclose(together[..., k], alone, atol=1e-5)


@pytest.fixture
def stains(rng: np.random.Generator):
    """Channels of which every second is noisy: (count, 40, 44), float32."""

    def make(count: int) -> np.ndarray:
        clean = spots(64)[10:50, 8:52]
        planes = [exposed(clean, 10, rng) if k % 2 else clean for k in range(count)]
        return np.stack(planes).astype(np.float32)

    return make


@pytest.mark.parametrize("count", [3, 5])
def test_each_channel_has_the_strength_that_it_asks_for(stains, count):
    image = np.moveaxis(stains(count), 0, 1)  # the channels lie in the middle
    up = esr.Upscaler(PAIR[0], device="cpu", channel_axis=1)
    values = up.value_map(image)
    options = {"device": "cpu", "data_range": (values.low, values.high)}
    expected = np.stack(
        [esr.upscale(image[:, k], PAIR[0], denoise=float(k % 2), **options) for k in range(count)],
        1,
    )
    pieces = np.full_like(expected, np.nan)
    done = []

    def on_tile(piece, slices):
        pieces[slices] = piece

    out = np.empty_like(expected)
    result = up(image, on_tile=on_tile, out=out, progress=lambda *seen: done.append(seen) or True)
    assert result is out
    assert np.array_equal(result, expected)
    assert np.array_equal(pieces, expected)
    assert done[-1][0] == done[-1][1]
    assert sorted(done) == done
    assert up.denoise_strength(image) == 1
    lazily = esr.upscale_lazy(image, PAIR[0], device="cpu", channel_axis=1).compute()
    assert np.allclose(lazily, expected, atol=2e-3)
    mean, std = up(image, return_std=True)
    assert mean.shape == std.shape == expected.shape
    with pytest.raises(OptionError, match="out"):
        up(image, out=np.empty((2, 2), np.float32))


def test_a_stack_without_channels_has_one_strength_for_all_planes(stains):
    image = stains(3)
    up = esr.Upscaler(PAIR[0], device="cpu", channel_axis=False)
    strength = up.denoise_strength(image)
    expected = esr.upscale(image, PAIR[0], device="cpu", channel_axis=False, denoise=strength)
    assert np.array_equal(up(image), expected)
