"""CIE L*a*b* as TIFF stores it, to sRGB by the formula. References: TIFF 6.0, section 23; the
Photoshop TIFF technical notes of 2002 (ICCLab); ICC.1:2001, annex A (16 bits); CIE 15."""

from __future__ import annotations

import numpy as np

_D50 = np.array([0.96422, 1.0, 0.82521])
# From XYZ relative to D50 to linear sRGB: Bradford adaptation to D65, then IEC 61966-2-1's inverse.
_XYZ_TO_RGB = np.array(
    [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.0334540],
        [0.0719453, -0.2289914, 1.4052427],
    ]
)
_ROWS = 256  # at a time: float64 of a whole photograph would be eight times its size


def to_srgb(stored: np.ndarray, *, icc: bool) -> np.ndarray:
    """Convert L*a*b* samples to sRGB.

    The white point is taken for D50, as Photoshop and ICC profiles have it, so that neutral
    colours come out neutral; colours outside sRGB are clipped.

    Parameters
    ----------
    stored
        ..., 3 of uint8 or uint16 as in the file.
    icc
        ICCLab (a* and b* unsigned around 128; 16 bits: L* 100 is 0xFF00) instead of CIELAB (a* and
        b* signed; 16 bits: L* 100 is 0xFFFF).

    Returns
    -------
    ndarray
        ..., 3 of the same dtype.
    """
    wide = stored.dtype == np.uint16
    flat = stored.reshape(-1, stored.shape[-2], 3) if stored.ndim > 2 else stored[None]
    result = np.empty_like(flat)
    for start in range(0, len(flat), _ROWS):
        part = flat[start : start + _ROWS]
        if icc:
            ab = part[..., 1:].astype(np.float64) - (0x8000 if wide else 0x80)
        else:
            ab = part[..., 1:].view(np.int16 if wide else np.int8).astype(np.float64)
        if wide:
            ab /= 256
        lightness = part[..., :1] * (100.0 / ((0xFF00 if icc else 0xFFFF) if wide else 0xFF))
        result[start : start + _ROWS] = _encoded(lightness[..., 0], ab, np.iinfo(stored.dtype).max)
    return result.reshape(stored.shape)


def _encoded(lightness: np.ndarray, ab: np.ndarray, top: int) -> np.ndarray:
    y = (lightness + 16) / 116
    f = np.stack([y + ab[..., 0] / 500, y, y - ab[..., 1] / 200], axis=-1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * _D50
    linear = np.clip(xyz @ _XYZ_TO_RGB.T, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(srgb * top)
