"""The options of upscaling, in one place: what `Upscaler`, `upscale`, `upscale_lazy`, stores and
the command line share. Torch-free, so that an option that cannot be used is refused at once.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypedDict

import numpy as np

from esrgan_ext.errors import OptionError
from esrgan_ext.inference.ranges import DataRange, check_range

if TYPE_CHECKING:
    from esrgan_ext.inference.devices import Devices


class OptionValues(TypedDict, total=False):
    """The keywords of `UpscaleOptions`, for signatures."""

    outscale: float | None
    tile: int | str
    overlap: int | str
    device: Devices
    precision: str
    data_range: DataRange
    channel_axis: int | bool | None
    ensemble: bool
    denoise: float | Literal["auto"] | None
    consistent: bool


@dataclass(frozen=True, kw_only=True)
class UpscaleOptions:
    """How to upscale.

    Attributes
    ----------
    outscale : float or None
        Output pixels per input pixel, any positive number; the network's own scale if None.
        Each side becomes round(side * outscale), by resampling the network's result.
    tile : int or 'auto'
        Side in input pixels of what is written at a time. 'auto' takes the whole image where
        free memory allows, else the largest tile that fits.
    overlap : int or 'auto'
        Context in input pixels around each tile; 'auto' takes what the model needs for tiles
        that differ from the untiled result by at most 1 in 255.
    device : str, torch.device, or a sequence of them
        'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'. Several, as a sequence or as in 'cuda:0,cuda:1',
        share the planes and tiles of an image; 'all' is every GPU.
    precision : str
        'auto', 'fp32', 'fp16' or 'bf16'.
    data_range : (float, float), 'auto', 'type', 'minmax' or None
        The values that mean black and white. None: the type's range for bool and 8 bits, 'auto'
        for everything wider and for floats. 'auto': the percentiles 0.1 and 99.9 of the finite
        values of the whole array, so that neither an empty half of the type's range nor a hot
        pixel counts; nothing is clipped to them. 'type': the type's range for integers, (0, 1) for
        floats. 'minmax': the smallest and the largest finite value of the whole array.
    channel_axis : int, None or False
        None: 2-D is gray, 3-D whose last axis is 1, 3 or 4 is gray or RGB(A), else a stack of
        planes over the last two axes. A number names the axis: 1 gray, 2 gray + alpha, 3 RGB,
        4 RGBA, more channels each by itself. False: always a stack of planes.
    ensemble : bool
        Average the 8 flips and rotations: 8 times the work for slightly better results.
    denoise : float, 'auto' or None
        Strength of denoising from 0 to 1, for models that come with a choice of it
        (`ModelInfo.denoise`), given by name. 'auto': as the noise that the image shows asks for,
        where the model was made for that (`lite-micro-x4`), one strength for all planes of a
        channel, and none with `consistent`; other models as they stand. None: the model as it
        stands.
    consistent : bool
        Project the result onto what was measured, so that averaging it down gives the image back to
        within half a level. Needs a whole number of output pixels per input pixel, and excludes
        denoising, whose work it would undo.

    Raises
    ------
    OptionError
        A value cannot be used.

    Examples
    --------
    >>> from esrgan_ext import UpscaleOptions
    >>> UpscaleOptions(outscale=2.5, tile=256).tile_side
    256
    >>> UpscaleOptions(outscale=-1)
    Traceback (most recent call last):
        ...
    esrgan_ext.errors.OptionError: ...
    """

    outscale: float | None = None
    tile: int | str = "auto"
    overlap: int | str = "auto"
    device: Devices = "auto"
    precision: str = "auto"
    data_range: DataRange = None
    channel_axis: int | bool | None = None
    ensemble: bool = False
    denoise: float | Literal["auto"] | None = "auto"
    consistent: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.device, Sequence) and not isinstance(self.device, str):
            # A text can be compared and hashed.
            object.__setattr__(self, "device", ",".join(str(name) for name in self.device))
        whole_number("tile", self.tile, smallest=1)
        whole_number("overlap", self.overlap, smallest=0)
        if self.outscale is not None and not (
            isinstance(self.outscale, numbers.Real)
            and math.isfinite(self.outscale)
            and self.outscale > 0
        ):
            raise OptionError(f"outscale must be a positive number, not {self.outscale!r}")
        check_range(self.data_range)
        if isinstance(self.denoise, str) and self.denoise != "auto":
            raise OptionError(f"denoise must be 'auto' or a number, not {self.denoise!r}")
        if self.consistent and self.denoise not in (None, 0, "auto"):
            raise OptionError(
                "consistent and denoise exclude each other: a result that averages down to a noisy "
                "image holds its noise again"
            )

    @property
    def tile_side(self) -> int | None:
        """The tile in input pixels; None for 'auto'."""
        return whole_number("tile", self.tile, smallest=1)

    @property
    def overlap_pixels(self) -> int | None:
        """The overlap in input pixels; None for 'auto'."""
        return whole_number("overlap", self.overlap, smallest=0)


def whole_number(name: str, value: int | str, smallest: int) -> int | None:
    """An option that is 'auto' (None comes back) or a whole number of pixels."""
    if isinstance(value, str) and value == "auto":
        return None
    if (
        isinstance(value, bool | np.bool_)
        or not isinstance(value, numbers.Integral)
        or value < smallest
    ):
        raise OptionError(
            f"{name} must be 'auto' or a whole number of pixels, at least {smallest}, not {value!r}"
        )
    return int(value)
