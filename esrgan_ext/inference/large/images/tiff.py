"""Large TIFFs (BigTIFF, tiled, OME, ImageJ, pyramids) by tiles, through tifffile's zarr view."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import tifffile

from esrgan_ext.errors import ImageError, ImageFileError
from esrgan_ext.inference.formats import tiff, tiff_chain, tiff_colour
from esrgan_ext.inference.large.images.image import Level, Scene, check_names, check_shape
from esrgan_ext.inference.large.images.source import Source

Result = TypeVar("Result")

_TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}

# Letters of tifffile for axes that OME-Zarr has no name for: pages in a row are taken for depth.
_ALIASES = {"S": "c", "I": "z", "Q": "z"}

# Units as OME-XML and ImageJ write them, and as OME-Zarr does.
_UNITS = {
    "µm": "micrometer", "μm": "micrometer", "um": "micrometer", "micron": "micrometer",
    "\\u00B5m": "micrometer", "nm": "nanometer", "mm": "millimeter", "cm": "centimeter",
    "m": "meter", "inch": "inch", "pm": "picometer", "å": "angstrom",
}  # fmt: skip
# ImageJ's words for the unit of a frame interval, in seconds.
_SECONDS = {
    "sec": 1.0, "s": 1.0, "second": 1.0, "seconds": 1.0, "ms": 1e-3, "msec": 1e-3, "min": 60.0,
    "minute": 60.0, "h": 3600.0, "hour": 3600.0,
}  # fmt: skip
_PER_UNIT = {2: "inch", 3: "centimeter"}


def count(path: Path) -> int:
    """The images of a TIFF, pyramids and thumbnails left out.

    Raises
    ------
    ImageFileError
        As `read_scene`.
    """
    return _opened(path, lambda file: len(tiff.images_of(file)))


def read_scene(path: Path, number: int = 0) -> Scene:
    """Description of one image of a TIFF, the first by default.

    Raises
    ------
    ImageFileError
        It is not there, truncated, damaged, or of a kind that is not read by tiles.
    ImageError
        Its axes are none that can be upscaled.
    """
    path = path.resolve()
    return _opened(path, lambda file: _scene(path, file, number))


def _opened(path: Path, look: Callable[[tifffile.TiffFile], Result]) -> Result:
    try:
        with open(path, "rb") as raw:
            chain = tiff_chain.survey(raw)
        with tiff.opened(path) as file:
            if chain.cut and not file.is_ndpi:
                raise ImageFileError(
                    f"{path}: the TIFF is cut off behind page {chain.pages}; into a TIFF instead "
                    "of a .zarr what is there is upscaled"
                )
            return look(file)
    except (ImageError, ImageFileError) as error:
        if str(path) in str(error):
            raise
        raise type(error)(f"{path}: {error}") from error
    except OSError as error:
        raise ImageFileError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # tifffile raises whatever its parsing of a damaged file meets
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ImageFileError(f"{path}: the TIFF is damaged: {reason[0]}") from error


def _scene(path: Path, file: tifffile.TiffFile, chosen: int) -> Scene:
    series = tiff.chosen(tiff.images_of(file), chosen)[0]
    layout = tiff.check_piecewise(path, file, series)
    stored = [_ALIASES.get(letter, letter.lower()) for letter in series.axes]
    if len(set(stored)) < len(stored) or not set(stored) <= set("tczyx"):
        raise ImageError(f"{path}: the TIFF's axes {series.axes!r} are not understood")
    names = [name for name in "tczyx" if name in stored]
    check_names(path, names)
    order = tuple(stored.index(name) for name in names)
    size = pixel_size(layout, names)
    modified = path.stat().st_mtime_ns
    levels = []
    finest: tuple[int, ...] | None = None
    for number, level in enumerate(series.levels):
        if not tiff.is_level(series, level):
            continue
        shape = tuple(int(level.shape[k]) for k in order)
        finest = finest or shape
        check_shape(path, names, shape)
        ratio = [whole / part for whole, part in zip(finest, shape, strict=True)]
        scale = tuple(s * r for s, r in zip(size[0], ratio, strict=True))
        middle = tuple(s * (r - 1) / 2 for s, r in zip(size[0], ratio, strict=True))
        source = Source(
            "tiff", str(path), str(number), order, shape, str(level.dtype), modified, chosen
        )
        levels.append(Level(source, scale, middle))
    axes = [{"name": name, "type": _TYPES[name]} for name in names]
    for axis, unit in zip(axes, size[1], strict=True):
        if unit is not None:
            axis["unit"] = unit
    return Scene(
        path=path,
        axes=tuple(axes),
        levels=tuple(levels),
        version="0.5",
        name=path.name.split(".")[0],
        omero=_omero(layout, names, levels[0].source),
        colour="S" in series.axes and tiff_colour.is_colour_image(series.keyframe),
    )


def pixel_size(layout: tiff.TiffLayout, names: list[str]) -> tuple[list[float], list[str | None]]:
    """Pixel size and unit along each axis: OME's, ImageJ's, or the resolution in the tags.

    Parameters
    ----------
    layout : TiffLayout
    names : list of {'t', 'c', 'z', 'y', 'x'}
        The axes that are asked about.

    Returns
    -------
    (list of float, list of str or None)
        One each an axis; 1 and None where the file does not say. Units in OME-Zarr's words
        ("micrometer", "second").
    """
    size, unit = dict.fromkeys(names, 1.0), dict.fromkeys(names)
    details: dict[str, Any] = layout.details
    if layout.kind == "ome":
        for name in (n for n in names if n in "zyx"):
            found = details.get(f"PhysicalSize{name.upper()}")
            if found is not None and float(found) > 0:
                size[name] = float(found)
                unit[name] = _unit(details.get(f"PhysicalSize{name.upper()}Unit", "µm"))
        if "t" in names and details.get("TimeIncrement"):
            size["t"], unit["t"] = float(details["TimeIncrement"]), "second"
    elif layout.resolution is not None:
        x, y, per = layout.resolution
        length = _unit(details.get("unit")) if layout.kind == "imagej" else _PER_UNIT.get(per)
        if length is not None:
            size["x"], size["y"] = 1 / x, 1 / y
            unit["x"] = unit["y"] = length  # type: ignore[assignment]
            if "z" in names and layout.kind == "imagej" and details.get("spacing"):
                size["z"], unit["z"] = float(details["spacing"]), length  # type: ignore[assignment]
    if layout.kind == "imagej" and "t" in names and details.get("finterval"):
        seconds = _SECONDS.get(str(details.get("tunit", "sec")).strip().lower())
        if seconds is not None:
            size["t"], unit["t"] = float(details["finterval"]) * seconds, "second"  # type: ignore[assignment]
    return [size[name] for name in names], [unit[name] for name in names]


def _unit(text: Any) -> str | None:
    text = str(text or "").strip()
    if text in _UNITS.values():
        return text
    return _UNITS.get(text.lower())


def _omero(layout: tiff.TiffLayout, names: list[str], source: Source) -> dict[str, Any]:
    """Channel names, where the file has them."""
    labels = layout.details.get("Channel", {})
    labels = labels.get("Name", []) if isinstance(labels, dict) else []
    if "c" not in names or len(labels) != source.shape[names.index("c")]:
        return {}
    return {"channels": [{"label": str(label)} for label in labels]}
