"""PSNR, SSIM and luma: against published values, hand-computed ones and float64 definitions."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esrgan_ext.errors import ImageError
from esrgan_ext.evaluation.metrics import luma, psnr, ssim
from esrgan_ext.inference.resample import imresize


# MATLAB's bicubic at x4, Y channel, 4 pixels cut: the first row of ESRGAN's table of PSNR and
# SSIM (arXiv 1809.00219), as of many others.
@pytest.mark.parametrize(
    ("name", "decibel", "similarity"), [("Set5", 28.42, 0.8104), ("Set14", 26.00, 0.7027)]
)
def test_bicubic_gives_the_published_values(shared_data, name, decibel, similarity):
    files = sorted((shared_data / "bench" / name / "HR").glob("*.png"))
    assert len(files) == {"Set5": 5, "Set14": 14}[name]
    found = []
    for file in files:
        high = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        low = cv2.imread(str(file.parent.parent / "LRx4" / file.name), cv2.IMREAD_UNCHANGED)
        bicubic = imresize(low, high.shape[:2])
        if high.ndim == 3:
            high, bicubic = luma(high[..., ::-1]), luma(bicubic[..., ::-1])
        found.append((psnr(bicubic, high), ssim(bicubic, high)))
    mean = np.mean(found, axis=0)
    assert mean[0] == pytest.approx(decibel, abs=0.02)
    assert mean[1] == pytest.approx(similarity, abs=0.001)


# MATLAB's documentation of rgb2ycbcr, and the primaries of BT.601: 16 + 65.481 = 81.481 ...
@pytest.mark.parametrize(
    ("rgb", "expected"),
    [
        ((0, 0, 0), 16),
        ((255, 255, 255), 235),
        ((255, 0, 0), 81),
        ((0, 255, 0), 145),
        ((0, 0, 255), 41),
        ((128, 128, 128), 126),
    ],
)
def test_luma_of_primaries(rgb, expected):
    assert luma(np.array([[rgb]], np.uint8))[0, 0] == expected


def test_luma_rounds_the_float64_formula():
    rgb = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    exact = 16 + rgb.astype(np.float64) @ np.array([65.481, 128.553, 24.966]) / 255
    clear = np.abs(exact % 1 - 0.5) > 1e-6  # float64 itself cannot tell the halves
    assert clear.mean() > 0.999
    assert np.array_equal(luma(rgb)[clear], np.round(exact)[clear])


def test_psnr_by_hand():
    reference = np.full((12, 12), 100, np.uint8)
    image = reference.copy()
    image[6, 6] += 8  # one of the 4 x 4 pixels inside the border: MSE = 64 / 16 = 4
    assert psnr(image, reference) == pytest.approx(10 * np.log10(255**2 / 4))
    # 42.11 dB; with the border kept, MSE = 64 / 144.
    assert psnr(image, reference, border=0) == pytest.approx(10 * np.log10(255**2 / (64 / 144)))


def test_the_border_is_not_seen():
    rng = np.random.default_rng(1)
    reference = rng.integers(0, 256, (30, 30, 3), np.uint8)
    image = reference.copy()
    image[:4], image[-4:], image[:, :4], image[:, -4:] = 0, 0, 0, 0
    assert psnr(image, reference) == float("inf")
    assert ssim(image, reference) == pytest.approx(1)
    image[4, 4] ^= 128
    assert psnr(image, reference) < 60


def test_rgb_psnr_is_of_the_joint_error():
    reference = np.zeros((10, 10, 3), np.uint8)
    image = reference.copy()
    image[..., 0] = 3  # MSE = 9 / 3
    assert psnr(image, reference) == pytest.approx(10 * np.log10(255**2 / 3))


def direct_ssim(x: np.ndarray, y: np.ndarray) -> float:
    """Equation 13 of the paper, window by window."""
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for top in range(x.shape[0] - 10):
        for left in range(x.shape[1] - 10):
            a = x[top : top + 11, left : left + 11].astype(np.float64)
            b = y[top : top + 11, left : left + 11].astype(np.float64)
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            variance_a = (window * (a - mean_a) ** 2).sum()
            variance_b = (window * (b - mean_b) ** 2).sum()
            covariance = (window * (a - mean_a) * (b - mean_b)).sum()
            c1, c2 = 6.5025, 58.5225
            values.append(
                (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
                / ((mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2))
            )  # fmt: skip
    return float(np.mean(values))


@settings(max_examples=25, deadline=None)
@given(st.integers(19, 30), st.integers(19, 30), st.integers(0, 60), st.integers(0, 2**32 - 1))
def test_ssim_equals_the_definition(height, width, noise, seed):
    rng = np.random.default_rng(seed)
    reference = rng.integers(0, 256, (height, width), np.uint8)
    image = np.clip(reference + rng.integers(-noise, noise + 1, reference.shape), 0, 255)
    image = image.astype(np.uint8)
    inside = (slice(4, -4), slice(4, -4))
    expected = direct_ssim(image[inside], reference[inside])
    assert ssim(image, reference) == pytest.approx(expected, abs=1e-9)


def test_rgb_ssim_is_the_mean_over_channels():
    rng = np.random.default_rng(2)
    reference, image = rng.integers(0, 256, (2, 24, 24, 3), np.uint8)
    planes = [ssim(image[..., c].copy(), reference[..., c].copy()) for c in range(3)]
    assert ssim(image, reference) == pytest.approx(np.mean(planes))


@pytest.mark.parametrize("metric", [psnr, ssim])
@pytest.mark.parametrize(
    ("image", "reference"),
    [
        (np.zeros((20, 20)), np.zeros((20, 20))),
        (np.zeros((20, 20), np.uint8), np.zeros((20, 21), np.uint8)),
        (np.zeros((20, 20), np.uint8), np.zeros((20, 20, 3), np.uint8)),
        (np.zeros((8, 20), np.uint8), np.zeros((8, 20), np.uint8)),
        (np.zeros(400, np.uint8), np.zeros(400, np.uint8)),
    ],
    ids=["float", "size", "channels", "all-border", "1-D"],
)
def test_what_cannot_be_compared_is_refused(metric, image, reference):
    with pytest.raises(ImageError):
        metric(image, reference)


def test_ssim_needs_room_for_its_window():
    small = np.zeros((18, 30), np.uint8)
    with pytest.raises(ImageError, match="11 x 11"):
        ssim(small, small)
    assert psnr(small, small) == float("inf")


def test_luma_refuses_other_pixels():
    for pixels in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8)):
        with pytest.raises(ImageError):
            luma(pixels)
