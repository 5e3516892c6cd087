"""consistent=True: averaging a result down gives the image back, and no projection does harm."""

from __future__ import annotations

import numpy as np
import pytest

import esrgan_ext as esr
from esrgan_ext.inference.consistency import project

RNG = np.random.default_rng(5)


def averaged(result: np.ndarray, factor: int) -> np.ndarray:
    """Means of the blocks along the last two axes, by hand."""
    *front, height, width = result.shape
    blocks = result.astype(np.float64).reshape(
        *front, height // factor, factor, width // factor, factor
    )
    return blocks.mean((-3, -1))


@pytest.mark.parametrize(
    ("dtype", "outscale", "tile"),
    [
        (np.uint8, None, "auto"),
        (np.uint8, 3, 7),
        (np.int16, 1, 7),
        (np.uint16, None, 7),
        (np.uint16, 2, "auto"),
        (np.uint32, None, "auto"),
    ],
)
def test_the_result_averages_down_to_the_image(tiny_network, dtype, outscale, tile):
    limits = np.iinfo(dtype)
    image = RNG.integers(limits.min, limits.max, (2, 15, 18), dtype, endpoint=True)
    image[:, :4] = limits.max  # no pixel of these blocks can be brighter
    image[:, 4:8] = limits.min
    result = esr.upscale(
        image, tiny_network, outscale=outscale, tile=tile, consistent=True, device="cpu"
    )
    back = averaged(result, 4 if outscale is None else outscale)
    assert np.abs(back - image).max() <= 0.5


def test_floats_average_down_to_their_last_digits(tiny_network):
    image = RNG.normal(1e4, 30, (11, 9)).astype(np.float64)
    result = esr.upscale(image, tiny_network, consistent=True, device="cpu")
    assert np.abs(averaged(result, 4) - image).max() < 1e-9 * 1e4


def test_colours_and_nan(tiny_network):
    image = RNG.random((12, 10, 3)).astype(np.float32)
    image[3, 4] = np.nan
    with pytest.warns(RuntimeWarning, match="NaN"):
        result = esr.upscale(image, tiny_network, consistent=True, device="cpu")
    back = averaged(np.moveaxis(result, -1, 0), 4)
    assert np.isnan(back[:, 3, 4]).all()
    assert np.nanmax(np.abs(back - np.moveaxis(image, -1, 0))) < 1e-6


def test_the_projection_is_never_further_from_an_original():
    """An original that the image was averaged from, within the type's values."""
    for _ in range(50):
        original = np.clip(RNG.normal(0.5, 0.6, (12, 12)), 0, 1)
        guess = np.clip(original + RNG.normal(0, 0.3, original.shape), -0.2, 1.3)
        better = project(guess, averaged(original, 4), 4, 0.0, 1.0)
        assert better.min() >= 0
        assert better.max() <= 1
        assert np.abs(averaged(better, 4) - averaged(original, 4)).max() < 1e-9
        assert ((better - original) ** 2).sum() <= ((guess - original) ** 2).sum() + 1e-12


def test_integers_known_to_half_a_level_are_moved_no_further():
    """The original lies within half a level of the rounded image: it must not get further away."""
    for _ in range(50):
        original = RNG.normal(6, 3, (12, 12)).clip(0, 255)
        seen = np.rint(averaged(original, 4))
        guess = original + RNG.normal(0, 0.5, original.shape)
        better = project(guess, seen, 4, 0, 255, slack=0.5)
        assert np.abs(averaged(better, 4) - seen).max() <= 0.5 + 1e-9
        assert ((better - original) ** 2).sum() <= ((guess - original) ** 2).sum() + 1e-9


def test_it_needs_whole_blocks(tiny_network):
    with pytest.raises(esr.OptionError, match="whole number"):
        esr.upscale(np.zeros((8, 8), np.uint8), tiny_network, outscale=1.5, consistent=True)


def test_it_excludes_denoising():
    with pytest.raises(esr.OptionError, match="exclude each other"):
        esr.Upscaler("realesr-general-x4v3", denoise=0.5, consistent=True)


@pytest.mark.parametrize("tile", ["auto", 12])
def test_dask_arrays_and_stores_are_consistent_too(tiny_network, tile, tmp_path):
    image = RNG.integers(100, 2000, (2, 37, 41)).astype(np.uint16)
    lazily = esr.upscale_lazy(image, tiny_network, tile=tile, consistent=True, device="cpu")
    assert np.abs(averaged(lazily.compute(scheduler="sync"), 4) - image).max() <= 0.5
