"""Writes TIFF through tifffile, laid out as the source was: plain pages, ImageJ or OME, with
resolution or calibration, profile, XMP, IPTC and EXIF."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile

from esrgan_ext.errors import ImageFileError
from esrgan_ext.inference.formats import exif
from esrgan_ext.inference.formats.kept import lost
from esrgan_ext.inference.formats.metadata import Metadata, fitting_profile
from esrgan_ext.inference.formats.tiff import IPTC_TAG, UNIT_PER_INCH, XMP_TAG, TiffLayout
from esrgan_ext.inference.formats.tiff_details import lost as lost_details
from esrgan_ext.inference.formats.tiff_details import scaled_geo, scaled_imagej, scaled_ome

_OME_TYPES = (
    "int8", "int16", "int32", "uint8", "uint16", "uint32", "float32", "float64", "bool",
)  # fmt: skip

# Beyond this a classic TIFF's 32-bit offsets may not do.
_CLASSIC_LIMIT = (1 << 32) - (1 << 25)


@dataclass(frozen=True, eq=False)
class Page:
    """An image, or stack of them, to be written.

    Attributes
    ----------
    pixels
        ..., H, W or, with `colour`, ..., H, W, C.
    metadata
    layout
        Axes and pages of the file that the pixels come from; None for another format.
    colour
        The last axis holds samples: gray+alpha, RGB or RGBA.
    factor
        How many pixels in x and y stand for one of the source: calibrations (ImageJ's pixels per
        unit, OME's physical pixel size, GeoTIFF's scale) follow it, so that measured lengths stay
        right. A resolution in pixels per inch or centimetre is a wish of how to print, and stays.
    """

    pixels: np.ndarray
    metadata: Metadata
    layout: TiffLayout | None
    colour: bool
    factor: tuple[float, float] = (1.0, 1.0)


def write(path: Path, images: Sequence[Page]) -> tuple[str, ...]:
    """Write a TIFF file with one or several images; returns what the user should hear.

    Metadata that the writer refuses is left out, with a note.

    Parameters
    ----------
    path
        Overwritten if present; the caller sees to it that nothing half-written is left.

    Raises
    ------
    ImageFileError
        TIFF cannot hold these pixels.
    OSError
        The file cannot be written.
    """
    images = [_whole_samples(image) for image in images]
    first = images[0]
    gray = not first.colour or first.pixels.shape[-1] <= 2
    notes = tuple(lost("tiff", first.metadata, gray=gray))
    try:
        return notes + _write(path, images)
    except (OSError, MemoryError):
        raise
    except Exception:  # whatever absurd metadata make the writer do
        path.unlink(missing_ok=True)
    bare = [replace(one, metadata=Metadata(), layout=_bare(one.layout)) for one in images]
    try:
        _write(path, bare)
    except (OSError, MemoryError):
        raise
    except Exception as error:
        raise ImageFileError(f"TIFF cannot hold these pixels: {error}") from error
    return (
        *notes,
        "the source's metadata makes no sense to the TIFF writer: written without",
    )


def _whole_samples(image: Page) -> Page:
    """Colours of a bit each as bytes: no reader expects them, and tifffile mixes them up."""
    if not image.colour or image.pixels.dtype != np.bool_:
        return image
    return replace(image, pixels=image.pixels.astype(np.uint8) * 255)


def _bare(layout: TiffLayout | None) -> TiffLayout | None:
    if layout is None:
        return None
    return TiffLayout(layout.axes, "plain", layout.compressed, layout.associated_alpha)


def _write(path: Path, images: Sequence[Page]) -> tuple[str, ...]:
    total = sum(image.pixels.nbytes for image in images)
    bigtiff = total > _CLASSIC_LIMIT
    first = images[0]
    kind = first.layout.kind if first.layout is not None else "plain"
    if kind == "imagej" and len(images) == 1 and not bigtiff and _fits_imagej(first):
        return _write_imagej(path, first)
    if kind == "ome" and all(image.pixels.dtype.name in _OME_TYPES for image in images):
        with tifffile.TiffWriter(path, ome=True, bigtiff=bigtiff) as writer:
            for image in images:
                layout = image.layout or TiffLayout("")
                details = scaled_ome(layout.details, image.factor)
                options, _ = _options(image)
                writer.write(image.pixels, metadata={"axes": layout.axes, **details}, **options)
        return ()
    notes: list[str] = []
    for image in images:
        if kind != "plain" and image.layout is not None and image.layout.details:
            names = " and ".join(lost_details(image.layout.kind, image.layout.details, ()))
            notes.append(f"the result is a plain TIFF, which cannot keep {names}")
    below: dict[int, exif.Directory] = {}
    with tifffile.TiffWriter(path, bigtiff=bigtiff) as writer:
        for number, image in enumerate(images):
            options, directories = _options(image)
            if number == 0 and not bigtiff:  # their pointers have 32 bits
                below = directories
            tags = _extra_tags(image)
            rank = 3 if image.colour or _separate(image) else 2
            shape = image.pixels.shape[image.pixels.ndim - rank :]
            for page in image.pixels.reshape(-1, *shape):
                writer.write(page, metadata=None, extratags=tags, contiguous=False, **options)
                tags = []  # the first page speaks for the stack
    if below:
        _append_directories(path, below)
    return tuple(dict.fromkeys(notes))


def _separate(image: Page) -> bool:
    """Samples that are channels each by itself, in planes of their own."""
    return image.layout is not None and not image.colour and image.layout.axes.endswith("SYX")


def _options(image: Page) -> tuple[dict[str, Any], dict[int, exif.Directory]]:
    """tifffile's options for an image, and the directories that it does not write."""
    pixels, layout = image.pixels, image.layout or TiffLayout("", compressed=True)
    samples = pixels.shape[-1] if image.colour else 1
    options: dict[str, Any] = {
        "photometric": "rgb" if samples in (3, 4) else "minisblack",
        "compression": "zlib" if layout.compressed and pixels.dtype != np.bool_ else None,
        "software": False,
    }
    options["predictor"] = bool(options["compression"]) and pixels.dtype.kind in "ui"
    if samples in (2, 4):
        options["extrasamples"] = ["assocalpha" if layout.associated_alpha else "unassalpha"]
    if image.colour:
        options["planarconfig"] = "contig"
    elif _separate(image):
        options["planarconfig"] = "separate"
        options["extrasamples"] = ["unspecified"] * (pixels.shape[-3] - 1)
    icc = fitting_profile(image.metadata.icc, gray=samples <= 2)
    if icc is not None:
        options["iccprofile"] = icc
    options |= _resolution_options(layout, image.metadata, image.factor)
    return options, _directory(image.metadata)[1]


def _fits_imagej(image: Page) -> bool:
    samples = image.pixels.shape[-1] if image.colour else 1
    known = image.pixels.dtype in (np.uint8, np.uint16, np.float32)
    return known and samples in (1, 3) and not _separate(image)


def _write_imagej(path: Path, image: Page) -> tuple[str, ...]:
    """ImageJ reads its stacks as one run of uncompressed planes."""
    assert image.layout is not None
    details, notes = scaled_imagej(image.layout.details, image.factor)
    tifffile.imwrite(
        path,
        image.pixels,
        imagej=True,
        metadata={"axes": image.layout.axes, **details},
        resolution=_options(image)[0].get("resolution"),
    )
    return notes


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


def _extra_tags(image: Page) -> list[tuple[Any, ...]]:
    tags: list[tuple[Any, ...]] = []
    metadata, layout = image.metadata, image.layout
    for tag, item in _directory(metadata)[0].items():
        if item.type == 2:
            tags.append((tag, 2, 0, item.value.rstrip(b"\0"), True))
    if metadata.xmp is not None:
        tags.append((XMP_TAG, 1, len(metadata.xmp), metadata.xmp, True))
    if metadata.iptc is not None:
        tags.append((IPTC_TAG, 7, len(metadata.iptc), metadata.iptc, True))
    if layout is not None:
        tags += scaled_geo(layout.geo, image.factor)
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
