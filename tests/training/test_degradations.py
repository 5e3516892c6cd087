"""Real-ESRGAN's degradation: kernels against closed forms, noise against its statistics."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esrgan_ext.training.blur_kernels import (
    BlurOptions,
    blur_kernel,
    random_kernel,
    random_sinc,
    sinc_kernel,
)
from esrgan_ext.training.degradations import FIRST, StageOptions, degraded, jpeg, noisy


def test_gaussian_kernel_has_its_standard_deviations():
    kernel = blur_kernel(21, (1.5, 3.0), 0.0, 1.0, plateau=False)
    offsets = np.arange(21) - 10
    assert kernel.sum() == pytest.approx(1)
    # Discrete and cut off at 10 pixels, 3.3 sigma: a few per cent less than the continuous one.
    assert math.sqrt((kernel.sum(0) * offsets**2).sum()) == pytest.approx(1.5, rel=0.01)
    assert math.sqrt((kernel.sum(1) * offsets**2).sum()) == pytest.approx(3.0, rel=0.02)


def test_turning_a_kernel_by_a_right_angle_swaps_its_axes():
    upright = blur_kernel(15, (1.0, 2.5), 0.0, 1.3, plateau=True)
    turned = blur_kernel(15, (1.0, 2.5), math.pi / 2, 1.3, plateau=True)
    assert np.allclose(turned, upright.T)
    assert not np.allclose(upright, upright.T)


def test_beta_makes_kernels_flatter_or_more_pointed():
    """Equation 3: exp(-q^beta / 2) with q = r^2 / sigma^2, here at r = 0, 1 and 2."""
    for beta in (0.5, 1.0, 3.0):
        row = blur_kernel(9, (2.0, 2.0), 0.0, beta, plateau=False)[4, 4:7]
        assert row / row[0] == pytest.approx([1, math.exp(-(0.25**beta) / 2), math.exp(-0.5)])
        row = blur_kernel(9, (2.0, 2.0), 0.0, beta, plateau=True)[4, 4:7]
        assert row / row[0] == pytest.approx([1, 1 / (1 + 0.25**beta), 0.5])


def test_sinc_kernel_passes_below_its_cutoff_only():
    cutoff = math.pi / 2
    kernel = sinc_kernel(cutoff, 21)
    response = np.abs(np.fft.fft2(np.pad(kernel, (0, 107))))[0]  # 128 frequencies along x
    frequency = 2 * math.pi * np.arange(128) / 128
    assert response[frequency < cutoff - 0.5] == pytest.approx(1, abs=0.15)
    assert response[(frequency > cutoff + 0.5) & (frequency < math.pi)].max() < 0.15


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.floats(0, 1))
def test_random_kernels_are_normalised_and_centred_squares(seed, sinc):
    rng = np.random.default_rng(seed)
    kernels = [random_kernel(rng, BlurOptions(sinc_probability=sinc)), random_sinc(rng, 1.0)]
    for kernel in kernels:
        assert kernel.shape == (21, 21)
        assert kernel.sum() == pytest.approx(1)
        assert np.allclose(kernel, kernel[::-1, ::-1])  # symmetric: nothing is shifted


@pytest.mark.parametrize("gray", [0.0, 1.0])
def test_gaussian_noise_has_its_standard_deviation(gray):
    stage = StageOptions(gaussian_probability=1.0, noise_sigma=(8, 8), gray_probability=gray)
    image = np.full((200, 200, 3), 0.5, np.float32)
    noise = (noisy(image, stage, np.random.default_rng(0)) - image) * 255
    assert noise.std() == pytest.approx(8, rel=0.02)
    assert noise.mean() == pytest.approx(0, abs=0.1)
    correlation = np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]
    assert correlation == pytest.approx(gray, abs=0.02)


def test_poisson_noise_grows_with_the_root_of_brightness():
    stage = StageOptions(gaussian_probability=0.0, poisson_scale=(1, 1), gray_probability=0.0)
    image = np.empty((128, 512, 3), np.float32)
    image[:, :256], image[:, 256:] = 51 / 255, 204 / 255
    image[:64, 0] = (np.arange(64, dtype=np.float32) / 255)[:, None]  # about 64 levels
    noise = noisy(image, stage, np.random.default_rng(0)) - image
    dark, bright = noise[:, 8:256].std(), noise[:, 256:].std()
    assert bright / dark == pytest.approx(2, rel=0.05)
    assert dark == pytest.approx(math.sqrt(0.2 / 128), rel=0.05)  # 66 levels: 2^7 photons


def test_jpeg_keeps_colours_in_their_order():
    image = np.zeros((32, 32, 3), np.float32)
    image[...] = (0.9, 0.5, 0.1)
    assert jpeg(image, 95)[16, 16] == pytest.approx([0.9, 0.5, 0.1], abs=0.02)
    assert np.abs(jpeg(image, 30) - image).max() > np.abs(jpeg(image, 95) - image).max() / 2


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([1, 2, 4]), st.integers(8, 20), st.integers(8, 20))
def test_degraded_images_have_the_lr_size_and_come_again(seed, scale, height, width):
    image = np.random.default_rng(0).integers(
        0, 256, (height * scale, width * scale, 3), dtype=np.uint8
    )
    lr = degraded(image, scale, np.random.default_rng(seed))
    assert lr.shape == (height, width, 3)
    assert lr.dtype == np.uint8
    assert np.array_equal(lr, degraded(image, scale, np.random.default_rng(seed)))


def test_degraded_photos_resemble_their_source(photo):
    """Blurred and noisy, but the same picture: low frequencies stay."""
    small = photo.reshape(8, 16, 8, 16, 3).mean((1, 3))
    changed = []
    for seed in range(20):
        lr = degraded(photo, 4, np.random.default_rng(seed))
        low = lr.reshape(8, 4, 8, 4, 3).mean((1, 3))
        assert np.corrcoef(low.ravel(), small.ravel())[0, 1] > 0.9
        changed.append(lr)
    assert len({lr.tobytes() for lr in changed}) == 20


def test_first_stage_is_the_published_one():
    """xinntao/Real-ESRGAN, options/train_realesrgan_x4plus.yml."""
    assert (FIRST.resize_probabilities, FIRST.resize_range) == ((0.2, 0.7, 0.1), (0.15, 1.5))
    assert (FIRST.noise_sigma, FIRST.poisson_scale) == ((1, 30), (0.05, 3))
    assert (FIRST.jpeg_quality, FIRST.gray_probability) == ((30, 95), 0.4)
