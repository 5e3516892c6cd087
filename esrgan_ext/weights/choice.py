"""`model="auto"`: which model an image gets, and why. Torch-free.

Networks that were trained to look sharp draw detail that is not there. On photos that is what they
are for; whoever measures needs one that is true to the data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from esrgan_ext.weights.catalogue import FAITHFUL, FAITHFUL_COLOUR

AUTO = "auto"

#: What photos get.
PHOTO = "realesrgan-x4plus"


@dataclass(frozen=True)
class Choice:
    """A model, and why it was chosen.

    Attributes
    ----------
    model : str
        A name of the catalogue.
    reason : str
        A phrase for people, as in "lite-psnr-x4 (true to the data: 16 bits)".
    """

    model: str
    reason: str

    def __str__(self) -> str:
        return f"{self.model} ({self.reason})"


def is_auto(model: Any) -> bool:
    """Whether a model is left to `choose_model`."""
    return isinstance(model, str) and model == AUTO


def choose_model(
    dtype: np.dtype,
    channels: int,
    *,
    scientific: str | None = None,
    calibrated: bool = False,
    empty_channel: bool = False,
) -> Choice:
    """The model for an image.

    Photos are 8-bit images of three channels, or four with alpha. Everything else gets the model
    that is true to the data.

    Parameters
    ----------
    dtype : numpy dtype
    channels : int
        That belong together: 1 gray, 2 gray + alpha, 3 RGB, 4 RGBA.
    scientific : str, optional
        The name of a format of which measurements come ("TIFF", "OME-Zarr").
    calibrated : bool
        Its pixels have a physical size.
    empty_channel : bool
        One of its colours is of one value throughout, as where one or two stains are drawn in
        colour: then each channel is an image of its own.
    """
    dtype = np.dtype(dtype)
    if scientific is not None:
        why = scientific
    elif calibrated:
        why = "pixels of a physical size"
    elif empty_channel and channels in (3, 4):
        why = "an empty colour channel, as of stains"
    elif dtype.kind == "f":
        why = "floating point"
    elif dtype.itemsize > 1:
        why = f"{8 * dtype.itemsize} bits"
    elif channels not in (3, 4):
        why = "one channel"
    elif dtype != np.uint8:
        why = f"{dtype} values"
    else:
        return Choice(PHOTO, "draws detail: an 8-bit colour photo")
    # Channel by channel a photo of 16 bits would lose 1.4 dB (Set5).
    model = FAITHFUL_COLOUR if channels in (3, 4) and not empty_channel else FAITHFUL
    return Choice(model, f"true to the data: {why}")
