"""The bicubic LR images that the literature trains and measures on, of whole HR images."""

from __future__ import annotations

import numpy as np

from esrgan_ext.errors import ImageError
from esrgan_ext.inference.resample import imresize


def downscale(image: np.ndarray, scale: int) -> np.ndarray:
    """The LR image of an HR image, as MATLAB's imresize makes it, bit for bit.

    Parameters
    ----------
    image : ndarray, shape (H, W) or (H, W, C), uint8
        Its sides are multiples of the scale.
    scale : int

    Returns
    -------
    ndarray, shape (H / scale, W / scale) or (H / scale, W / scale, C), uint8

    Raises
    ------
    ImageError
        A side is not a multiple of the scale (`crop_to_multiple` first), or not uint8.
    """
    height, width = image.shape[:2]
    if height % scale or width % scale:
        raise ImageError(f"{width} x {height} pixels are not a multiple of the scale {scale}")
    return imresize(image, (height // scale, width // scale))


def crop_to_multiple(image: np.ndarray, scale: int) -> np.ndarray:
    """The image without the last rows and columns beyond a multiple (modcrop)."""
    height, width = image.shape[:2]
    return image[: height - height % scale, : width - width % scale]
