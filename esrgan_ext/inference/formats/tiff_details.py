"""The metadata of ImageJ, OME-XML and GeoTIFF: what is taken from a file, and what of it changes
with the pixel grid."""

from __future__ import annotations

from typing import Any

import tifffile

from esrgan_ext.inference.formats import imagej_rois

# ImageJ's description and its tags, as tifffile names them, that hold for a result as they are.
_IMAGEJ_KEPT = (
    "spacing", "unit", "yunit", "zunit", "finterval", "fps", "loop", "mode", "min", "max", "tunit",
    "xorigin", "yorigin", "zorigin", "cf", "c0", "c1", "c2", "c3", "c4", "vunit",
    "Info", "Labels", "LUTs", "Ranges", "Properties", "ROI", "Overlays",
)  # fmt: skip
_IMAGEJ_REGIONS = {"ROI": "selection", "Overlays": "overlay"}
# Written anew for the result's own axes.
_IMAGEJ_OWN = ("ImageJ", "images", "channels", "slices", "frames", "hyperstack", "SCIFIO")

_OME_IMAGE = ("Name", "AcquisitionDate", "Description")
_OME_PIXELS = (
    "PhysicalSizeX", "PhysicalSizeXUnit", "PhysicalSizeY", "PhysicalSizeYUnit", "PhysicalSizeZ",
    "PhysicalSizeZUnit", "TimeIncrement", "TimeIncrementUnit",
)  # fmt: skip
_OME_CHANNEL = (
    "Name", "Color", "AcquisitionMode", "ContrastMethod", "EmissionWavelength",
    "EmissionWavelengthUnit", "ExcitationWavelength", "ExcitationWavelengthUnit", "Fluor",
    "IlluminationType", "NDFilter", "PinholeSize", "PinholeSizeUnit", "PockelCellSetting",
)  # fmt: skip
_OME_PLANE = (
    "DeltaT", "DeltaTUnit", "ExposureTime", "ExposureTimeUnit", "PositionX", "PositionXUnit",
    "PositionY", "PositionYUnit", "PositionZ", "PositionZUnit",
)  # fmt: skip
_OME_BESIDE = (
    "Experimenter", "ExperimenterGroup", "Instrument", "ROI", "StructuredAnnotations", "Plate",
    "Screen", "Project", "Dataset", "Folder",
)  # fmt: skip

_NAMES = {"imagej": "ImageJ", "ome": "OME"}

# GeoTIFF 1.1: pixel scale, tie points, transformation, keys, their numbers and texts; GDAL's own.
PIXEL_SCALE, TIE_POINTS, TRANSFORMATION = 33550, 33922, 34264
_KEYS = 34735
_DOUBLE = 12
_GEO = (PIXEL_SCALE, TIE_POINTS, TRANSFORMATION, _KEYS, 34736, 34737, 42112, 42113)


def imagej_details(tif: tifffile.TiffFile) -> tuple[dict[str, Any], list[str]]:
    """ImageJ's metadata that are kept, and notes of those that are not."""
    found = dict(tif.imagej_metadata or {})
    lost = sorted(key for key in found if key not in (*_IMAGEJ_KEPT, *_IMAGEJ_OWN))
    notes = [f"ImageJ's {', '.join(lost)} not kept"] if lost else []
    return {key: found[key] for key in _IMAGEJ_KEPT if key in found}, notes


def scaled_imagej(
    details: dict[str, Any], factor: tuple[float, float]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The same for a grid of `factor` (x, y) times as many pixels (origins are in pixels, and so
    are regions), and notes of what could not be scaled."""
    scaled, notes = dict(details), []
    for key, by in (("xorigin", factor[0]), ("yorigin", factor[1])):
        if isinstance(scaled.get(key), int | float):
            scaled[key] = scaled[key] * by
    for key, name in _IMAGEJ_REGIONS.items():
        if key in scaled:
            found = scaled.pop(key)
            regions, left = imagej_rois.scaled(_listed(found), factor)
            if regions:
                scaled[key] = regions
            if left:
                notes.append(f"ImageJ's {name} {', '.join(left)} cannot be scaled: left out")
    return scaled, tuple(notes)


def ome_details(
    tif: tifffile.TiffFile, series: tifffile.TiffPageSeries
) -> tuple[dict[str, Any], list[str]]:
    """Metadata in OME-XML about the image of a series, as tifffile's writer takes it."""
    try:
        root = tifffile.xml2dict(tif.ome_metadata or "<OME/>").get("OME", {})
    except Exception:  # damaged XML: tifffile found pixels all the same
        return {}, ["its OME-XML is damaged: left out"]
    if not isinstance(root, dict):
        return {}, []
    images = _listed(root.get("Image", []))
    number = next((k for k, one in enumerate(tif.series) if one is series), 0)
    image = images[number] if number < len(images) else {}
    if not isinstance(image, dict):
        return {}, []
    pixels = image.get("Pixels", {})
    pixels = pixels if isinstance(pixels, dict) else {}
    details = {key: image[key] for key in _OME_IMAGE if image.get(key) not in (None, "")}
    if isinstance(details.get("Name"), int | float):
        details["Name"] = str(details["Name"])
    details |= {key: pixels[key] for key in _OME_PIXELS if pixels.get(key) is not None}
    for name, keys in (("Channel", _OME_CHANNEL), ("Plane", _OME_PLANE)):
        columns = _columns(_listed(pixels.get(name, [])), keys)
        if columns:
            details[name] = columns
    lost = sorted(key for key in _OME_BESIDE if key in root)
    return details, [f"OME's {', '.join(lost)} not kept"] if lost else []


def scaled_ome(details: dict[str, Any], factor: tuple[float, float]) -> dict[str, Any]:
    """The same for a grid of `factor` (x, y) times as many pixels."""
    scaled = dict(details)
    for key, by in (("PhysicalSizeX", factor[0]), ("PhysicalSizeY", factor[1])):
        if key in scaled:
            scaled[key] = float(scaled[key]) / by
    return scaled


def lost(kind: str, details: dict[str, Any], geo: tuple[Any, ...]) -> list[str]:
    """Names of what a file without a place for it loses."""
    names = [f"{_NAMES[kind]}'s {', '.join(sorted(details))}"] if details else []
    return [*names, *(["GeoTIFF's tags"] if geo else [])]


def geo_tags(page: Any) -> tuple[tuple[int, int, Any], ...]:
    """GeoTIFF's tags as (tag, type, values)."""
    return tuple(
        (code, int(page.tags[code].dtype), page.tags[code].value)
        for code in _GEO
        if code in page.tags
    )


def scaled_geo(
    tags: tuple[tuple[int, int, Any], ...], factor: tuple[float, float]
) -> list[tuple[int, int, int, Any, bool]]:
    """The tags for a grid of `factor` (x, y) times as many pixels, as tifffile's writer takes them.

    Raster coordinates count from the corner of the first pixel, or from its centre where the file
    says that a pixel is a point (GeoTIFF 1.1, 7.1.2.5): a centre at i lies at (i + 1/2) f - 1/2 of
    the result.
    """
    shift = 0.5 if _is_point(tags) else 0.0
    result: list[tuple[int, int, int, Any, bool]] = []
    for code, kind, value in tags:
        if isinstance(value, str | bytes):
            text = value.encode() if isinstance(value, str) else value
            result.append((code, 2, 0, text, True))
            continue
        values = [float(v) for v in value] if kind == _DOUBLE else list(value)
        if code == PIXEL_SCALE and len(values) >= 2:
            values[0], values[1] = values[0] / factor[0], values[1] / factor[1]
        elif code == TIE_POINTS:
            for start in range(0, len(values) - 5, 6):
                for axis in (0, 1):
                    place = values[start + axis]
                    values[start + axis] = (place + shift) * factor[axis] - shift
        elif code == TRANSFORMATION and len(values) == 16:
            for row in range(0, 16, 4):
                for axis in (0, 1):
                    step = values[row + axis]
                    values[row + axis] = step / factor[axis]
                    values[row + 3] += step * (shift / factor[axis] - shift)
        result.append((code, kind, len(values), tuple(values), True))
    return result


def _is_point(tags: tuple[tuple[int, int, Any], ...]) -> bool:
    """Whether the key directory has GTRasterTypeGeoKey = RasterPixelIsPoint."""
    for code, _, value in tags:
        if code == _KEYS and not isinstance(value, str | bytes):
            return any(
                tuple(value[k : k + 4]) == (1025, 0, 1, 2) for k in range(4, len(value) - 3, 4)
            )
    return False


def _listed(found: Any) -> list[Any]:
    return found if isinstance(found, list) else [found]


def _columns(rows: list[Any], keys: tuple[str, ...]) -> dict[str, list[Any]]:
    """One list a key that every row has."""
    rows = [row for row in rows if isinstance(row, dict)]
    if not rows:
        return {}
    return {key: [row[key] for row in rows] for key in keys if all(key in row for row in rows)}
