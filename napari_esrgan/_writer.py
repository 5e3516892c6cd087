"""File > Save as OME-TIFF, with what napari's own writer loses: pixel size, units, axes, the time
step, channel names and colours, and what made the layer; and as MP4."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from napari_esrgan._work.ome_tiff import OmeImage


def write_ome_tiff(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write one image layer, as napari's File > Save calls it.

    Parameters
    ----------
    path : str
        Ends in .ome.tif or .ome.tiff. A file of that name is replaced when the new one is whole.
    data : array-like, or list of them from fine to coarse
        The layer's; the finest level is written, read plane by plane.
    attributes : dict
        The layer's arguments: scale, units, axis_labels, name, metadata, rgb, ...

    Returns
    -------
    list of str
        Paths of the files that were written.

    Raises
    ------
    EsrganError
        The array has more axes than OME-TIFF has, or a type that it does not know.
    OSError
        The file cannot be written.
    """
    from napari_esrgan._work import ome_tiff

    ome_tiff.write_ome_tiff(Path(path), [_image(data, attributes)])
    return [path]


def write_channels(path: str, layers: list[tuple[Any, dict[str, Any], str]]) -> list[str]:
    """Write several image layers as the channels of one file, named and coloured as they are.

    Parameters
    ----------
    path : str
        As for `write_ome_tiff`.
    layers : list of (data, attributes, 'image')

    Returns
    -------
    list of str

    Raises
    ------
    EsrganError
        They are not alike (shape, type, pixel size, place), or have channels or colours already.
    OSError
    """
    from dataclasses import replace

    from esrgan_ext.errors import ImageFileError
    from napari_esrgan._work import ome_tiff

    images = [_image(data, attributes) for data, attributes, _ in layers]
    first = images[0]
    if any(set(image.axes) & set("CS") for image in images):
        raise ImageFileError("layers with channels or colours of their own are saved one by one")
    for image, (_, attributes, _) in zip(images, layers, strict=True):
        same = image.data.shape == first.data.shape and image.data.dtype == first.data.dtype
        same &= (image.axes, image.units) == (first.axes, first.units)
        same &= _place(attributes, first.scale) == _place(layers[0][1], first.scale)
        if not same:
            raise ImageFileError(
                f"{image.name!r} differs from {first.name!r} in shape, type, pixel size or place, "
                "so they cannot be channels of one file: save them one by one"
            )
    provenance = {image.name: image.provenance for image in images if image.provenance}
    joined = replace(
        first,
        data=_Stack([image.data for image in images]),
        axes="C" + first.axes,
        name=Path(path).name.split(".")[0],
        scale=(1.0, *first.scale),
        units=("pixel", *first.units),
        channel_names=tuple(image.name for image in images),
        channel_colours=tuple(image.channel_colours[0] for image in images),
        provenance=provenance or None,
    )
    ome_tiff.write_ome_tiff(Path(path), [joined])
    return [path]


class _Stack:
    """Arrays along a further first axis, none of them copied."""

    def __init__(self, parts: list[Any]) -> None:
        self._parts = parts
        self.shape = (len(parts), *parts[0].shape)
        self.dtype = parts[0].dtype

    def __getitem__(self, index: tuple[Any, ...]) -> Any:
        number, *rest = index
        return self._parts[number][tuple(rest)]


def _place(attributes: dict[str, Any], scale: Sequence[float]) -> list[float]:
    """Scale and translation, rounded to a millionth of a pixel."""
    moved = np.asarray(attributes.get("translate", np.zeros(len(scale))), float)
    size = np.asarray(attributes.get("scale", np.ones(len(scale))), float)
    return [*np.round(moved / size, 6).tolist(), *np.round(size / scale, 6).tolist()]


def _image(data: Any, attributes: dict[str, Any]) -> OmeImage:
    from napari_esrgan._work.ome_tiff import OmeImage, ome_axes

    rgb = bool(attributes.get("rgb", False))
    array = data[0] if isinstance(data, Sequence) else data  # napari's levels are one
    ndim = len(array.shape) - rgb
    made = (attributes.get("metadata") or {}).get("esrgan") or {}
    roles = made.get("parameters", {}).get("axes", ())
    labels = tuple(attributes.get("axis_labels") or ())
    axes = ome_axes(
        labels if len(labels) == ndim else ("",) * ndim, roles if len(roles) == ndim else ()
    )
    name = str(attributes.get("name") or "")
    names: tuple[str, ...] = (name,)
    colours: tuple[tuple[float, float, float], ...] = ()
    if "C" in axes:
        names = _names_in_source(made.get("source_path"), array.shape[axes.index("C")])
    elif not rgb:
        colours = (_colour(attributes.get("colormap")),)
    return OmeImage(
        data=array,
        axes=axes + "S" * rgb,
        name=name,
        scale=tuple(float(v) for v in attributes.get("scale", ())),
        units=tuple(str(unit) for unit in attributes.get("units") or ()),
        channel_names=names,
        channel_colours=colours,
        provenance=made or None,
    )


def _colour(colormap: Any) -> tuple[float, float, float]:
    """Of the brightest pixels."""
    from napari.utils.colormaps import ensure_colormap

    if colormap is None:
        return 1.0, 1.0, 1.0
    red, green, blue, *_ = ensure_colormap(colormap).colors[-1]
    return float(red), float(green), float(blue)


def _names_in_source(path: Any, channels: int) -> tuple[str, ...]:
    """The channels' names in the file that a result's source came from, where it has them.

    A layer that holds several channels has no place for their names.
    """
    from esrgan_ext.errors import EsrganError
    from esrgan_ext.inference.large.images.tiff import read_scene

    if not path:
        return ()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that file is not what is being written
        try:
            found = read_scene(Path(path)).omero.get("channels", [])
        except (EsrganError, OSError):
            return ()
    return tuple(str(one["label"]) for one in found) if len(found) == channels else ()


def write_mp4(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write a layer of (T, Y, X, 3), or gray (T, Y, X), as a video, as the layer shows it.

    Parameters
    ----------
    path : str
        Ends in .mp4.
    data : array-like, or list of them from fine to coarse
        The finest level is written, read frame by frame; what is not 8 bits goes from the layer's
        contrast limits to 0 to 255. Alpha is left out.
    attributes : dict
        The layer's arguments. A time step of 20 ms to 1 s is kept, in whole milliseconds; any
        other, or none, becomes 40 ms.

    Returns
    -------
    list of str

    Raises
    ------
    EsrganError
        The layer has other axes, or the file cannot be written.
    """
    from esrgan_ext.errors import ImageFileError
    from esrgan_ext.inference.animation import write_animation

    array = data[0] if isinstance(data, Sequence) else data
    rgb = bool(attributes.get("rgb", False))
    if len(array.shape) - rgb != 3:
        raise ImageFileError(f"{path}: a video has the axes T, Y, X, this layer has others")
    low, high = attributes.get("contrast_limits") or (0, 255)
    write_animation(Path(path), _Frames(array, rgb, float(low), float(high)), _duration(attributes))
    return [path]


def _duration(attributes: dict[str, Any]) -> int:
    """Milliseconds a frame: the time step, where that can be watched, else 40."""
    units: Any = attributes.get("units") or ()
    scale: Any = attributes.get("scale")
    seconds = {"s": 1.0, "second": 1.0, "ms": 1e-3, "millisecond": 1e-3}
    if len(units) == 3 and scale is not None and str(units[0]) in seconds:
        step = round(1000 * seconds[str(units[0])] * float(scale[0]))
        return step if 20 <= step <= 1000 else 40
    return 40


class _Frames(Sequence[np.ndarray]):
    """The frames of a layer as (Y, X, 3) of uint8, computed when they are asked for."""

    def __init__(self, array: Any, rgb: bool, low: float, high: float) -> None:
        self._array, self._rgb, self._low, self._high = array, rgb, low, high

    def __len__(self) -> int:
        return int(self._array.shape[0])

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(index)
        frame = np.asarray(self._array[index])
        if frame.dtype != np.uint8:
            span = self._high - self._low or 1.0
            shown = np.nan_to_num((frame.astype(np.float64) - self._low) / span)
            frame = np.rint(255 * np.clip(shown, 0, 1)).astype(np.uint8)
        if self._rgb:
            return np.ascontiguousarray(frame[..., :3])
        return np.repeat(frame[..., None], 3, axis=2)
