"""return_std=True: mean and standard deviation over the eight flips and rotations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import esrgan_ext as esr

RNG = np.random.default_rng(6)


def the_eight(network, image: np.ndarray) -> np.ndarray:
    """The network's results for the variants of a gray image, each turned back, by hand."""
    results = []
    for flipped in (False, True):
        for turns in range(4):
            variant = np.rot90(image[:, ::-1] if flipped else image, turns).copy()
            x = torch.from_numpy(variant)[None, None].repeat(1, 3, 1, 1)
            with torch.no_grad():
                y = network.plain_forward(x)[0].mean(0).numpy()
            y = np.rot90(y, -turns)
            results.append(y[:, ::-1] if flipped else y)
    return np.array(results, np.float64)


def test_mean_and_standard_deviation_of_the_eight(tiny_network):
    image = RNG.random((9, 14)).astype(np.float32)
    mean, std = esr.upscale(image, tiny_network, data_range="type", device="cpu", return_std=True)
    expected = the_eight(tiny_network, image)
    np.testing.assert_allclose(mean, expected.mean(0), atol=1e-5)
    np.testing.assert_allclose(std, expected.std(0), atol=1e-5)
    assert std.dtype == np.float32
    assert expected.std(0).max() > 1e-3


def test_the_spread_is_in_the_units_of_the_image(tiny_network):
    image = RNG.random((9, 14)).astype(np.float32)
    options = {"device": "cpu", "return_std": True}
    _, std = esr.upscale(image, tiny_network, data_range=(0, 1), **options)
    scaled = (image * 4000 + 100).astype(np.float32)
    _, other = esr.upscale(scaled, tiny_network, data_range=(100, 4100), **options)
    np.testing.assert_allclose(other, std * 4000, rtol=1e-2, atol=0.05)


@pytest.mark.parametrize("outscale", [None, 2.5])
def test_tiles_stacks_colours_and_nan(tiny_network, outscale):
    image = RNG.random((20, 22, 3)).astype(np.float32)
    image[4, 5, 0] = np.nan
    seen: list[int] = []
    with pytest.warns(RuntimeWarning, match="NaN"):
        mean, std = esr.Upscaler(
            tiny_network, tile=9, channel_axis=2, outscale=outscale, device="cpu"
        )(image, return_std=True, progress=lambda done, total: seen.append(done))
    assert mean.shape == std.shape
    assert np.array_equal(np.isnan(mean), np.isnan(std))
    assert np.isnan(std[..., 0]).any()
    assert not np.isnan(std[..., 1:]).any()
    assert seen[-1] == 20 * 22
    assert seen == sorted(seen)


def test_with_a_consistent_result_the_mean_is_projected(tiny_network):
    image = RNG.integers(0, 255, (8, 8)).astype(np.uint8)
    mean, std = esr.upscale(image, tiny_network, consistent=True, device="cpu", return_std=True)
    back = mean.astype(float).reshape(8, 4, 8, 4).mean((1, 3))
    assert np.abs(back - image).max() <= 0.5
    assert std.shape == mean.shape
