"""Writes image layers as OME-TIFF, with what napari's own writer loses: pixel size, units, axes,
the time step and what made the layer. Names and colours of channels are not written."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

SUFFIXES = (".ome.tif", ".ome.tiff")


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
        What was written.

    Raises
    ------
    EsrganError
        The array has more axes than OME-TIFF has, or a type that it does not know.
    OSError
        The file cannot be written.
    """
    import tifffile

    from esrgan_ext.errors import ImageError

    rgb = bool(attributes.get("rgb", False))
    array = data[0] if isinstance(data, Sequence) else data  # napari's levels are one
    if np.dtype(array.dtype) == bool:
        array = np.asarray(array).astype(np.uint8)
    if np.dtype(array.dtype).kind not in "uif" or np.dtype(array.dtype).itemsize > 8:
        raise ImageError(f"OME-TIFF has no pixels of type {array.dtype}: convert the layer first")
    if np.dtype(array.dtype) in (np.float16, np.int64, np.uint64):
        raise ImageError(
            f"OME-TIFF has no pixels of type {array.dtype}: convert the layer to float32 first"
        )
    ndim = len(array.shape) - rgb
    names = _axes(ndim, tuple(attributes.get("axis_labels") or ()))
    if names is None:
        raise ImageError(
            f"OME-TIFF has the axes t, c, z, y and x, and the layer has {ndim}: take a part of it"
        )
    target = Path(path)
    temporary = target.with_name(f".{os.getpid()}-{target.name}")
    try:
        tifffile.imwrite(
            temporary,
            np.asarray(array),
            ome=True,
            photometric="rgb" if rgb else "minisblack",
            compression="zlib",
            bigtiff=int(np.prod(array.shape)) * array.dtype.itemsize > 2**31,
            metadata=_metadata(names + ("S" if rgb else ""), attributes),
        )
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return [path]


def _axes(ndim: int, labels: tuple[str, ...]) -> str | None:
    """OME's letters for a layer's axes: by their labels where these say, else t, z, y, x."""
    found = [label.strip().upper()[:1] if label else "" for label in labels]
    known = {"T", "C", "Z", "Y", "X"}
    if len(found) == ndim and set(found) <= known and len(set(found)) == ndim:
        return "".join(found) if found[-2:] == ["Y", "X"] else None
    return "TCZYX"[-ndim:] if ndim == 5 else "TZYX"[-ndim:] if 2 <= ndim <= 4 else None


# OME spells units as people write them.
_UNITS = {
    "meter": "m", "millimeter": "mm", "micrometer": "µm", "nanometer": "nm", "centimeter": "cm",
    "angstrom": "Å", "second": "s", "millisecond": "ms", "minute": "min", "hour": "h",
    "pixel": "pixel",
}  # fmt: skip


def _metadata(axes: str, attributes: dict[str, Any]) -> dict[str, Any]:
    """What tifffile puts into the OME-XML; it escapes text itself."""
    from esrgan_ext import __version__
    from esrgan_ext.literal import literal

    found: dict[str, Any] = {"axes": axes, "Creator": f"esrgan-ext {__version__}"}
    if name := attributes.get("name"):
        found["Name"] = literal(str(name))  # XML has no control characters
    scale = attributes.get("scale")
    units = [str(unit) for unit in attributes.get("units") or ()]
    for k, letter in enumerate(axes.rstrip("S")):
        if scale is None or letter == "C":
            continue
        field = "TimeIncrement" if letter == "T" else f"PhysicalSize{letter}"
        unit = _UNITS.get(units[k] if k < len(units) else "pixel", "pixel")
        if letter == "T" and unit == "pixel":
            continue  # frames are no time
        found[field] = float(scale[k])
        found[f"{field}Unit"] = unit
    made = (attributes.get("metadata") or {}).get("esrgan")
    if made:
        found["Description"] = json.dumps({"esrgan": made}, default=str, sort_keys=True)
    return found
