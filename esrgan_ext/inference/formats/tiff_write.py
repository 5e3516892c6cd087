"""Writes TIFF through tifffile, laid out as the source was: plain pages, ImageJ or OME, with
resolution or calibration, profile, XMP, IPTC and EXIF."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile

from esrgan_ext.inference.formats import exif
from esrgan_ext.inference.formats.metadata import Metadata, fitting_profile
from esrgan_ext.inference.formats.tiff import IPTC_TAG, UNIT_PER_INCH, XMP_TAG, TiffLayout

# Beyond this a classic TIFF's 32-bit offsets may not do.
_CLASSIC_LIMIT = (1 << 32) - (1 << 25)


def write(
    path: Path,
    pixels: np.ndarray,
    metadata: Metadata,
    layout: TiffLayout | None,
    *,
    colour: bool,
    factor: tuple[float, float] = (1.0, 1.0),
) -> None:
    """Write a TIFF file.

    Parameters
    ----------
    path
        Overwritten if present; the caller sees to it that nothing half-written is left.
    pixels
        ..., H, W or, with `colour`, ..., H, W, C.
    layout
        Of the file that the pixels come from; None for another format.
    colour
        The last axis holds samples: gray+alpha, RGB or RGBA.
    factor
        How many pixels in x and y stand for one of the source: calibrations (ImageJ's pixels per
        unit, OME's physical pixel size) follow it, so that measured lengths stay right. A
        resolution in pixels per inch or centimetre is a wish of how to print, and stays.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    layout = layout or TiffLayout("", compressed=True)
    samples = pixels.shape[-1] if colour else 1
    fields, below = _directory(metadata)
    options: dict[str, Any] = {
        "photometric": "rgb" if samples in (3, 4) else "minisblack",
        "compression": "zlib" if layout.compressed and pixels.dtype != np.bool_ else None,
        "bigtiff": pixels.nbytes > _CLASSIC_LIMIT,
        "software": False,
    }
    options["predictor"] = bool(options["compression"]) and pixels.dtype.kind in "ui"
    if samples in (2, 4):
        options["extrasamples"] = ["assocalpha" if layout.associated_alpha else "unassalpha"]
    if colour:
        options["planarconfig"] = "contig"
    icc = fitting_profile(metadata.icc, gray=samples <= 2)
    if icc is not None:
        options["iccprofile"] = icc
    options |= _resolution_options(layout, metadata, factor)
    stack = pixels.ndim - (3 if colour else 2)

    imagej = layout.kind == "imagej" and pixels.dtype in (np.uint8, np.uint16, np.float32)
    if imagej and not options["bigtiff"] and samples in (1, 3):
        tifffile.imwrite(
            path, pixels, imagej=True, metadata={"axes": layout.axes, **layout.details},
            resolution=options.get("resolution"),
            # ImageJ reads its stacks as one run of uncompressed planes.
        )  # fmt: skip
        return
    if layout.kind == "ome":
        details = _scaled_ome(layout.details, factor)
        tifffile.imwrite(
            path, pixels, ome=True, metadata={"axes": layout.axes, **details}, **options
        )
        return
    if options["bigtiff"]:
        below = {}  # their pointers have 32 bits
    extratags = _extra_tags(metadata, layout, fields)
    shape = pixels.shape[stack:]
    with tifffile.TiffWriter(path, bigtiff=options.pop("bigtiff")) as writer:
        for page in pixels.reshape(-1, *shape):
            writer.write(page, metadata=None, extratags=extratags, contiguous=False, **options)
            extratags = []  # the first page speaks for the stack
    if below:
        _append_directories(path, below)


def _directory(
    metadata: Metadata,
) -> tuple[dict[int, exif.Field], dict[int, exif.Directory]]:
    if metadata.exif is None:
        return {}, {}
    found = exif.read_directory(metadata.exif)
    return {t: f for t, f in found.fields.items() if t in exif.DESCRIPTIVE}, found.below


def _resolution_options(
    layout: TiffLayout, metadata: Metadata, factor: tuple[float, float]
) -> dict[str, Any]:
    if layout.resolution is not None:
        x, y, unit = layout.resolution
        if layout.kind == "imagej" or unit not in UNIT_PER_INCH:
            x, y = x * factor[0], y * factor[1]
        return {"resolution": (x, y), "resolutionunit": unit}
    if metadata.dpi is not None:
        return {"resolution": metadata.dpi, "resolutionunit": 2}
    return {}


def _scaled_ome(details: dict[str, Any], factor: tuple[float, float]) -> dict[str, Any]:
    scaled = dict(details)
    for key, by in (("PhysicalSizeX", factor[0]), ("PhysicalSizeY", factor[1])):
        if key in scaled:
            scaled[key] = float(scaled[key]) / by
    return scaled


def _extra_tags(
    metadata: Metadata,
    layout: TiffLayout,
    fields: dict[int, exif.Field],
) -> list[tuple[Any, ...]]:
    tags: list[tuple[Any, ...]] = []
    for tag, item in fields.items():
        if item.type == 2:
            tags.append((tag, 2, 0, item.value.rstrip(b"\0"), True))
    if metadata.xmp is not None:
        tags.append((XMP_TAG, 1, len(metadata.xmp), metadata.xmp, True))
    if layout.iptc is not None:
        tags.append((IPTC_TAG, 7, len(layout.iptc), layout.iptc, True))
    return tags


def _append_directories(path: Path, below: dict[int, exif.Directory]) -> None:
    """Give the first page of a classic TIFF pointers to EXIF and GPS directories.

    tifffile does not write these tags. The page's own directory is written anew behind the
    pixels, with the pointers added, and the header points to it; all else stays where it is.
    """
    with open(path, "r+b") as file:
        header = file.read(8)
        order = "<" if header[:2] == b"II" else ">"
        file.seek(struct.unpack(order + "I", header[4:])[0])
        (number,) = struct.unpack(order + "H", file.read(2))
        entries = {}
        for _ in range(number):
            entry = file.read(12)
            entries[struct.unpack(order + "H", entry[:2])[0]] = entry
        following = file.read(4)
        for tag, directory in below.items():
            start = _aligned_end(file)
            file.write(exif.write_directory(directory, start, order))
            entries[tag] = struct.pack(order + "HHII", tag, 4, 1, start)
        start = _aligned_end(file)
        file.write(struct.pack(order + "H", len(entries)))
        file.write(b"".join(entries[tag] for tag in sorted(entries)) + following)
        file.seek(4)
        file.write(struct.pack(order + "I", start))


def _aligned_end(file: BinaryIO) -> int:
    """Seek to the end, made even as TIFF wants the beginnings of directories."""
    end = file.seek(0, 2)
    return end + file.write(b"\0" * (end % 2))
