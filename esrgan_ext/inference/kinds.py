"""Images of other libraries: torch tensors, arrays with DLPack, xarray, PIL. Each becomes a NumPy
array for the upscaler, or a tensor where it lies on a GPU, and the result becomes the same kind of
thing again.

Nothing here imports a library that the caller has not.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from esrgan_ext.errors import ImageError, OptionError
from esrgan_ext.inference import arrays

# Names of dimensions that hold channels, in xarray's users' files.
_CHANNEL_NAMES = ("c", "channel", "channels", "band", "bands", "rgb", "rgba")

_PIL_MODES = ("L", "LA", "RGB", "RGBA", "I;16", "F")


@dataclass(frozen=True)
class Unwrapped:
    """An image as an array, and the way back.

    Attributes
    ----------
    array : ndarray
    channel_axis : int, False or None
    type_range : bool
        Whether the values are by convention those of the type ([0, 1] for floats), where the
        caller names no range.
    wrap : callable
        Makes the given kind of a result (of any dtype).
    wrap_part : callable or None
        Makes it of a finished piece; None where pieces are handed out as arrays.
    wrap_spread : callable or None
        Makes it of a spread, float32; None where `wrap` does.
    """

    array: np.ndarray
    channel_axis: int | bool | None
    type_range: bool
    wrap: Callable[[np.ndarray], Any]
    wrap_part: Callable[[np.ndarray], Any] | None = None
    wrap_spread: Callable[[np.ndarray], Any] | None = None


@dataclass(frozen=True)
class OnDevice:
    """An image as a tensor where it lies, sharing its memory, and the way back.

    Attributes
    ----------
    tensor : Tensor
        Without gradients.
    channel_axis : int, False or None
    type_range : bool
        See `Unwrapped`.
    wrap : callable
        Makes the given kind of a tensor.
    """

    tensor: Tensor
    channel_axis: int | bool | None
    type_range: bool
    wrap: Callable[[Tensor], Any]


# Devices of DLPack whose memory torch reads as a CUDA device's: CUDA's, and what CUDA manages.
_DLPACK_CUDA = (2, 13)


def on_device(image: Any, channel_axis: int | bool | None) -> OnDevice | None:
    """A tensor, or another library's array that lies on a GPU, as torch sees it there; None for all
    else.

    Raises
    ------
    OptionError, ImageError
        See `unwrap`.
    """
    if isinstance(image, Tensor):
        axis = tensor_axis(image, channel_axis)
        return OnDevice(image.detach(), axis, True, lambda result: result)
    if (namespace := _dlpack_namespace(image)) is None:
        return None
    if image.__dlpack_device__()[0] not in _DLPACK_CUDA:
        return None
    return OnDevice(torch.from_dlpack(image).detach(), channel_axis, False, namespace.from_dlpack)


def _dlpack_namespace(image: Any) -> Any:
    """The library of an array with DLPack; None for what is none."""
    if isinstance(image, np.ndarray) or not hasattr(image, "__dlpack_device__"):
        return None
    if hasattr(image, "__array_namespace__"):
        return image.__array_namespace__()
    # CuPy's arrays name it from version 14 on.
    library = sys.modules.get(type(image).__module__.partition(".")[0])
    return library if hasattr(library, "from_dlpack") else None


def unwrap(image: Any, channel_axis: int | bool | None) -> Unwrapped | None:
    """Find out what an image is; None for what NumPy takes itself.

    Raises
    ------
    OptionError
        It is the name of a file, or a tensor with a `channel_axis`.
    ImageError
        A tensor's rank or channels, or a PIL mode, cannot be upscaled, or an array hides values
        behind a mask.
    """
    if isinstance(image, np.ndarray):
        if isinstance(image, np.ma.MaskedArray) and np.ma.is_masked(image):
            raise ImageError(
                "the array is masked, and a result has no mask: pass image.filled(value), or "
                "image.astype(float).filled(numpy.nan), whose NaN come back as NaN"
            )
        return None
    if isinstance(image, str | bytes | os.PathLike):
        raise OptionError(
            f"{os.fsdecode(image)!r} is the name of a file: use esrgan_ext.upscale_file(source, "
            "target), or esrgan_ext.upscale_files for a folder"
        )
    if isinstance(image, Tensor):
        return _of_tensor(image, channel_axis)
    xarray = sys.modules.get("xarray")
    if xarray is not None and isinstance(image, xarray.DataArray):
        return _of_xarray(image, channel_axis)
    pil = sys.modules.get("PIL.Image")
    if pil is not None and isinstance(image, pil.Image):
        return _of_pil(image, channel_axis)
    if (namespace := _dlpack_namespace(image)) is not None:
        tensor = torch.from_dlpack(image).detach()
        if tensor.dtype == torch.bfloat16:  # NumPy has none
            return Unwrapped(
                tensor.float().cpu().numpy(),
                channel_axis,
                False,
                lambda result: namespace.from_dlpack(torch.from_numpy(result).bfloat16()),
            )
        return Unwrapped(tensor.cpu().numpy(), channel_axis, False, namespace.asarray)
    return None


def tensor_axis(image: Tensor, channel_axis: int | bool | None) -> int:
    """The axis of a tensor's channels.

    Raises
    ------
    OptionError
        A `channel_axis` is given.
    ImageError
        Rank, channels or layout cannot be upscaled.
    """
    if channel_axis is not None:
        raise OptionError(
            "a tensor is C, H, W or N, C, H, W: leave channel_axis out, or pass an array"
        )
    if image.ndim not in (3, 4):
        raise ImageError(
            f"a tensor must be C, H, W or N, C, H, W; this one has shape {tuple(image.shape)}"
        )
    axis = image.ndim - 3
    if not 1 <= image.shape[axis] <= arrays.RGBA:
        raise ImageError(
            "a tensor has 1 (gray), 2 (gray and alpha), 3 (RGB) or 4 (RGBA) channels in its axis "
            f"{axis}; this one has shape {tuple(image.shape)}: permute it, or pass an array"
        )
    if image.is_complex() or image.is_sparse or image.is_quantized or image.is_meta:
        raise ImageError(f"cannot upscale a tensor of {image.dtype}, {image.layout}")
    return axis


def _of_tensor(image: Tensor, channel_axis: int | bool | None) -> Unwrapped:
    axis = tensor_axis(image, channel_axis)
    dtype, device = image.dtype, image.device
    values = image.detach()
    if dtype == torch.bfloat16:  # NumPy has none
        values = values.float()

    def wrap(result: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(result)
        return tensor.to(device, dtype if dtype == torch.bfloat16 else tensor.dtype)

    def wrap_spread(spread: np.ndarray) -> Tensor:
        return torch.from_numpy(spread).to(device)

    return Unwrapped(values.cpu().numpy(), axis, True, wrap, wrap, wrap_spread)


def _of_xarray(image: Any, channel_axis: int | bool | None) -> Unwrapped:
    names = [str(name).lower() for name in image.dims]
    if channel_axis is None:
        found = [axis for axis, name in enumerate(names) if name in _CHANNEL_NAMES]
        if len(found) == 1:
            channel_axis = found[0]
    values = np.asarray(image.values)
    layout = arrays.layout_of(values.shape, channel_axis)

    def wrap(result: np.ndarray) -> Any:
        spatial = {
            image.dims[layout.y_axis]: result.shape[layout.y_axis],
            image.dims[layout.x_axis]: result.shape[layout.x_axis],
        }
        coordinates, dropped = {}, []
        for name, coordinate in image.coords.items():
            touched = [dim for dim in coordinate.dims if dim in spatial]
            if not touched:
                coordinates[name] = coordinate
            elif coordinate.ndim == 1 and coordinate.dtype.kind in "iuf":
                places = _places(coordinate.values, spatial[touched[0]])
                coordinates[name] = (coordinate.dims, places, coordinate.attrs)
            else:
                dropped.append(str(name))
        if dropped:
            warnings.warn(
                f"no coordinates {', '.join(dropped)} in the result: they are no numbers along one "
                "axis",
                RuntimeWarning,
                stacklevel=4,
            )
        return type(image)(
            result, dims=image.dims, coords=coordinates, attrs=image.attrs, name=image.name
        )

    return Unwrapped(values, channel_axis, False, wrap)


def _places(centres: np.ndarray, count: int) -> np.ndarray:
    """Where the centres of `count` pixels lie that take the place of these; beyond the outermost
    ones the nearest two go on in a line."""
    if len(centres) < 2:
        return np.full(count, centres[0], np.float64)
    at = (np.arange(count) + 0.5) * len(centres) / count - 0.5
    left = np.clip(np.floor(at).astype(int), 0, len(centres) - 2)
    low, high = centres[left].astype(np.float64), centres[left + 1].astype(np.float64)
    return low + (high - low) * (at - left)


def _of_pil(image: Any, channel_axis: int | bool | None) -> Unwrapped:
    if channel_axis is not None:
        raise OptionError("a PIL image says itself what its channels are: leave channel_axis out")
    mode = image.mode
    if mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    elif mode == "1":
        image = image.convert("L")
    if image.mode not in _PIL_MODES:
        raise ImageError(
            f"cannot upscale a PIL image of mode {mode}; convert it to {', '.join(_PIL_MODES)}"
        )
    array = np.asarray(image)
    kind = sys.modules["PIL.Image"]

    def wrap(result: np.ndarray) -> Any:
        return kind.fromarray(np.ascontiguousarray(result))

    return Unwrapped(array, 2 if array.ndim == 3 else False, image.mode != "F", wrap)
