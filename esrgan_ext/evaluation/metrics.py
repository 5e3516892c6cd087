"""PSNR and SSIM as the super-resolution literature computes them, on 8-bit images.

The luma is MATLAB's, rounded to 8 bit before anything is compared, and the border is cut: only so
do figures compare with published ones. Reading files and running models is left to `benchmark`.
"""

from __future__ import annotations

import cv2
import numpy as np

from esrgan_ext.errors import ImageError

BORDER = 4
"""Pixels cut from each side at x4: by convention as many as the scale."""

# SSIM's constants and window: Wang et al., IEEE TIP 13(4), 2004, section III.C.
_TAPS, _SIGMA = 11, 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def luma(rgb: np.ndarray) -> np.ndarray:
    """The luma Y' of ITU-R BT.601 in studio swing, 16 to 235, as MATLAB's rgb2ycbcr gives it.

    Y' = 16 + (65.481 R + 128.553 G + 24.966 B) / 255, rounded, halves up. Computed in integers,
    so that no rounding error can fall on the wrong side of a half.

    Parameters
    ----------
    rgb : ndarray, shape (H, W, 3), uint8

    Returns
    -------
    ndarray, shape (H, W), uint8

    Raises
    ------
    ImageError
        Another shape or dtype.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ImageError(f"luma takes uint8 pixels of shape H,W,3, not {_described(rgb)}")
    weighted = rgb.astype(np.int32) @ np.array([65_481, 128_553, 24_966], np.int32)
    return (16 + (weighted + 127_500) // 255_000).astype(np.uint8)


def psnr(image: np.ndarray, reference: np.ndarray, *, border: int = BORDER) -> float:
    """Peak signal-to-noise ratio, 10 log10(255^2 / MSE), in dB.

    Parameters
    ----------
    image, reference : ndarray, shape (H, W) or (H, W, C), uint8
        For RGB the mean squared error is taken over all channels together.
    border : int
        Pixels that are cut from each side first.

    Returns
    -------
    float
        Infinity where the two are equal.

    Raises
    ------
    ImageError
        Shapes or dtypes differ, are not those above, or nothing is left inside the border.
    """
    image, reference = compared(image, reference, border, smallest=1)
    difference = image.astype(np.int32) - reference
    error = float(np.mean(np.square(difference), dtype=np.float64))
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def ssim(image: np.ndarray, reference: np.ndarray, *, border: int = BORDER) -> float:
    """Structural similarity (Wang et al., IEEE TIP 13(4), 2004, equation 13), at most 1.

    An 11-tap Gaussian window of sigma 1.5, only where it lies inside the image, K1 = 0.01,
    K2 = 0.03, in float64.

    Parameters
    ----------
    image, reference : ndarray, shape (H, W) or (H, W, C), uint8
        For RGB the mean over the channels.
    border : int
        Pixels that are cut from each side first.

    Raises
    ------
    ImageError
        As for `psnr`; inside the border at least 11 x 11 pixels must be left.
    """
    image, reference = compared(image, reference, border, smallest=_TAPS)
    if image.ndim == 3:
        channels = range(image.shape[2])
        return float(np.mean([_ssim_plane(image[..., c], reference[..., c]) for c in channels]))
    return _ssim_plane(image, reference)


def _ssim_plane(image: np.ndarray, reference: np.ndarray) -> float:
    x, y = image.astype(np.float64), reference.astype(np.float64)
    mean_x, mean_y = _windowed(x), _windowed(y)
    variance_x = _windowed(x * x) - mean_x**2
    variance_y = _windowed(y * y) - mean_y**2
    covariance = _windowed(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    structure = (2 * covariance + _C2) / (variance_x + variance_y + _C2)
    return float(np.mean(luminance * structure))


def _windowed(plane: np.ndarray) -> np.ndarray:
    """Weighted means under the Gaussian window, at the positions where it fits."""
    offsets = np.arange(_TAPS) - _TAPS // 2
    window = np.exp(-(offsets**2) / (2 * _SIGMA**2))
    window /= window.sum()
    inside = slice(_TAPS // 2, -(_TAPS // 2))
    return cv2.sepFilter2D(plane, cv2.CV_64F, window, window)[inside, inside]


def compared(
    image: np.ndarray, reference: np.ndarray, border: int, smallest: int
) -> tuple[np.ndarray, np.ndarray]:
    """Both without their border, once they are known to be comparable.

    Parameters
    ----------
    image, reference : ndarray, shape (H, W) or (H, W, C), uint8
    border : int
        Pixels to cut from each side.
    smallest : int
        The shortest side that must be left.

    Raises
    ------
    ImageError
        They are not.
    """
    for pixels in (image, reference):
        if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3):
            raise ImageError(f"metrics take uint8 pixels, H,W or H,W,C, not {_described(pixels)}")
    if image.shape != reference.shape:
        raise ImageError(f"the shapes {image.shape} and {reference.shape} differ")
    height, width = image.shape[0] - 2 * border, image.shape[1] - 2 * border
    if border < 0 or min(height, width) < smallest:
        raise ImageError(
            f"{image.shape[1]} x {image.shape[0]} pixels with a border of {border} to cut leave "
            f"too little: at least {smallest} x {smallest} pixels are compared"
        )
    inside = (slice(border, border + height), slice(border, border + width))
    return image[inside], reference[inside]


def _described(pixels: np.ndarray) -> str:
    return f"{pixels.dtype} of shape {','.join(map(str, pixels.shape))}"
