"""Writes arrays as OME-TIFF, plane by plane, with what other programs need to know of them:
pixel size, units, channels, and what made them. No Qt, no napari."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from esrgan_ext import __version__
from esrgan_ext.errors import ImageFileError  # no ValueError: npe2 takes that for "no writer"
from esrgan_ext.literal import literal
from napari_esrgan._work.axes import Role
from napari_esrgan._work.messages import Cancelled, stop_if

# Planes above this are written in tiles, so that no more than a band of them is in memory.
TILED_SIDE = 4096
TILE = 512

_TYPES = (
    "int8", "int16", "int32", "uint8", "uint16", "uint32", "float32", "float64",
)  # fmt: skip

# OME spells units as people write them.
_UNITS = {
    "meter": "m", "millimeter": "mm", "micrometer": "µm", "nanometer": "nm", "centimeter": "cm",
    "angstrom": "Å", "inch": "in", "picometer": "pm", "second": "s", "millisecond": "ms",
    "minute": "min", "hour": "h", "pixel": "pixel",
}  # fmt: skip


@dataclass(frozen=True)
class OmeImage:
    """An array and what its file says about it.

    Attributes
    ----------
    data : array-like
        NumPy, dask, zarr, ...; read one plane at a time.
    axes : str
        A letter an axis, of "TCZYX" in any order; "S" at the end for colours (gray+alpha, RGB or
        RGBA).
    name : str
    scale : tuple of float
        Pixel size along each axis, colours left out; empty where it is not known.
    units : tuple of str
        Units of `scale`, as pint knows them ("micrometer", "um"); "pixel" where there is none.
    channel_names : tuple of str
        One a channel, or none.
    channel_colours : tuple of (float, float, float)
        Red, green and blue from 0 to 1, one a channel, or none.
    provenance : dict or None
        Its provenance, in JSON types.
    details : dict
        More of the OME-XML, as tifffile takes it: "AcquisitionDate", and "Channel" with a list of
        one value a channel for each of its attributes.
    """

    data: Any
    axes: str
    name: str = ""
    scale: tuple[float, ...] = ()
    units: tuple[str, ...] = ()
    channel_names: tuple[str, ...] = ()
    channel_colours: tuple[tuple[float, float, float], ...] = ()
    provenance: dict[str, Any] | None = field(default=None, repr=False)
    details: dict[str, Any] = field(default_factory=dict)


def ome_axes(labels: Sequence[str], roles: Sequence[Role] = ()) -> str:
    """OME's letters for the axes of an array, colours left out.

    Parameters
    ----------
    labels : sequence of str
        One an axis. Those that begin with t, c, z, y or x decide, where no two say the same.
    roles : sequence of {'y', 'x', 'channel', 'plane'}
        Roles of the axes whose labels do not tell; by default the last two are Y and X.

    Raises
    ------
    ImageFileError
        OME-TIFF has no more than five axes.
    """
    ndim = len(labels)
    if not 2 <= ndim <= 5:
        raise ImageFileError(
            f"OME-TIFF has the axes t, c, z, y and x, and the layer has {ndim}: take a part of it"
        )
    said = [label.strip().upper()[:1] for label in labels]
    if set(said) <= set("TCZYX") and len(set(said)) == ndim and {"Y", "X"} <= set(said):
        return "".join(said)
    letters = {"y": "Y", "x": "X", "channel": "C"}
    found = [letters.get(role, "") for role in roles] or [*[""] * (ndim - 2), "Y", "X"]
    # One further axis is depth, two are time and depth; a third can only be channels.
    planes = [letter for letter in ("TCZ" if found.count("") == 3 else "TZ") if letter not in found]
    left = iter(planes[-found.count("") :] if found.count("") else "")
    return "".join(letter or next(left) for letter in found)


def write_ome_tiff(
    path: Path, images: Sequence[OmeImage], cancelled: Cancelled = lambda: False
) -> None:
    """Write images into one file, which replaces one of that name when it is whole.

    Parameters
    ----------
    path : Path
    images : sequence of OmeImage
    cancelled : callable
        Asked before each piece.

    Raises
    ------
    ImageFileError
        A type that OME-TIFF does not know; nothing is written.
    OSError
        The file cannot be written; nothing is left.
    UpscaleCancelled
    """
    import tifffile

    from esrgan_ext.inference.files import replacing

    for image in images:
        _check_type(image.data.dtype)
    size = sum(math.prod(i.data.shape) * _stored(i.data.dtype).itemsize for i in images)
    with (
        replacing(path) as part,
        tifffile.TiffWriter(part, ome=True, bigtiff=size > 2**31) as writer,
    ):
        for image in images:
            pieces = _Pieces(image)
            writer.write(
                pieces.read(cancelled),
                shape=pieces.shape,
                dtype=pieces.dtype,
                tile=pieces.tile,
                compression="zlib",
                predictor=pieces.dtype.kind in "ui",
                metadata=_metadata(image, pieces.axes),
                **_samples(image),
            )


def _check_type(dtype: Any) -> None:
    name = _stored(dtype).name
    if name not in _TYPES:
        advice = " to float32" if name in ("float16", "int64", "uint64") else ""
        raise ImageFileError(
            f"OME-TIFF has no pixels of type {name}: convert the layer{advice} first"
        )


def _stored(dtype: Any) -> np.dtype:
    dtype = np.dtype(dtype)
    return np.dtype(np.uint8) if dtype.kind == "b" else dtype.newbyteorder("=")


class _Pieces:
    """The planes of an image in the order of its file, or the tiles of large ones."""

    def __init__(self, image: OmeImage) -> None:
        self._data = image.data
        colours = image.axes.endswith("S")
        letters = image.axes.removesuffix("S")
        self._y, self._x = letters.index("Y"), letters.index("X")
        self._outer = [k for k in range(len(letters)) if k not in (self._y, self._x)]
        shape = image.data.shape
        self._size = shape[self._y], shape[self._x]
        self._counts = [shape[k] for k in self._outer]
        self._letters = letters
        self.axes = "".join(letters[k] for k in self._outer) + "YX" + "S" * colours
        self.shape = (*self._counts, *self._size, *(shape[-1:] if colours else ()))
        self.dtype = _stored(image.data.dtype)
        self.tile = (TILE, TILE) if max(self._size) > TILED_SIDE else None

    def read(self, cancelled: Cancelled) -> Iterator[np.ndarray]:
        height, width = self._size
        for plane in itertools.product(*map(range, self._counts)):
            rows = TILE if self.tile else height
            for top in range(0, height, rows):
                stop_if(cancelled)
                band = self._band(plane, top, min(top + rows, height))
                if self.tile is None:
                    yield band
                    continue
                for left in range(0, width, TILE):
                    stop_if(cancelled)
                    yield np.ascontiguousarray(band[:, left : left + TILE])

    def _band(self, plane: tuple[int, ...], top: int, bottom: int) -> np.ndarray:
        index: list[int | slice] = [slice(None)] * len(self._letters)
        for axis, number in zip(self._outer, plane, strict=True):
            index[axis] = number
        index[self._y] = slice(top, bottom)
        band = np.asarray(self._data[tuple(index)])
        if self._x < self._y:
            band = np.swapaxes(band, 0, 1)
        return np.ascontiguousarray(band, self.dtype)


def _samples(image: OmeImage) -> dict[str, Any]:
    """tifffile's options for the colours."""
    count = image.data.shape[-1] if image.axes.endswith("S") else 1
    options: dict[str, Any] = {"photometric": "rgb" if count in (3, 4) else "minisblack"}
    if count in (2, 4):
        options["extrasamples"] = ["unassalpha"]
    if count > 1:
        options["planarconfig"] = "contig"
    return options


def _metadata(image: OmeImage, written: str) -> dict[str, Any]:
    """Metadata that tifffile puts into the OME-XML; it escapes text itself."""
    creator = f"esrgan-ext {__version__}"
    found: dict[str, Any] = {**image.details, "axes": written, "Creator": creator}
    if image.name:
        found["Name"] = literal(image.name)  # XML has no control characters
    for k, letter in enumerate(image.axes.removesuffix("S")):
        if k >= len(image.scale) or letter == "C":
            continue
        known = image.units[k] if k < len(image.units) else "pixel"
        side, unit = _in_ome(abs(float(image.scale[k])), known, time=letter == "T")
        if letter == "T" and unit == "pixel":
            continue  # frames are no time
        key = "TimeIncrement" if letter == "T" else f"PhysicalSize{letter}"
        found[key] = side
        found[f"{key}Unit"] = unit
    letters = image.axes
    channels = image.data.shape[letters.index("C")] if "C" in letters else 1
    channel: dict[str, Any] = {**image.details.get("Channel", {})}
    if len(image.channel_names) == channels:
        channel["Name"] = [literal(name) for name in image.channel_names]
    if len(image.channel_colours) == channels and "S" not in letters:
        channel["Color"] = [_rgba(colour) for colour in image.channel_colours]
    found["Channel"] = channel
    if image.provenance:
        made = {"esrgan": image.provenance}
        found["Description"] = json.dumps(made, default=str, sort_keys=True)
    return found


def _in_ome(side: float, unit: str, time: bool) -> tuple[float, str]:
    """A length or a time in a unit that OME has; "pixel" is what is neither."""
    import pint

    registry = pint.get_application_registry()
    known = str(registry.Unit(unit))
    of_time = registry.Unit(unit).is_compatible_with("second")
    if known in _UNITS and of_time == time:
        return side, _UNITS[known]
    base, letters = ("second", "s") if time else ("micrometer", "µm")
    if registry.Unit(unit).is_compatible_with(base):
        return float(registry.Quantity(side, unit).m_as(base)), letters
    return side, "pixel"


def _rgba(colour: tuple[float, float, float]) -> int:
    """OME's colours: red, green, blue and alpha in the bytes of a signed integer."""
    red, green, blue = (round(255 * min(max(part, 0.0), 1.0)) for part in colour)
    number = red << 24 | green << 16 | blue << 8 | 255
    return number - 2**32 if number >= 2**31 else number
