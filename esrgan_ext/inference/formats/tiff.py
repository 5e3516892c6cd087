"""Reads TIFF through tifffile: single images, stacks of pages, ImageJ and OME files, every image of
a file that holds several. What samples mean is `tiff_colour`'s, writing `tiff_write`'s."""

from __future__ import annotations

import logging
import math
import re
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tifffile

from esrgan_ext.errors import ImageFileError, first_line
from esrgan_ext.inference.formats import exif, tiff_chain, tiff_colour
from esrgan_ext.inference.formats.metadata import Metadata
from esrgan_ext.inference.formats.tiff_details import geo_tags, imagej_details, ome_details

ICC_TAG, XMP_TAG, IPTC_TAG = 34675, 700, 33723
_UNCOMPRESSED = 1
_SEPARATE = 2  # planes of samples, one after the other
# GeoTIFF's pixel scale and keys, GDAL's value for "no data".
_GEOGRAPHIC_TAGS = (33550, 34735, 42113)
_WHOLE = (8, 16, 32, 64)
UNIT_PER_INCH = {2: 1.0, 3: 2.54}
# Files that an OME-TIFF's planes lie in.
_PARTS = re.compile(r"""\bFileName\s*=\s*["']([^"']*)""")
_PAGE_TEXTS = {270: "descriptions", 285: "names"}
# A resolution is two 32-bit numbers.
_MAX_RESOLUTION = float(2**32 - 1)

# tifffile comments on damaged files by logging, which would go to stderr; what matters is a note.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class TiffLayout:
    """How a TIFF was laid out, so that the result can be laid out alike.

    Attributes
    ----------
    axes
        tifffile's letters, one an array axis ("YX", "YXS", "ZCYX", ...); "SYX": samples that are
        channels each by itself.
    kind
        "plain", "imagej" or "ome".
    compressed
        Whether the pages were compressed in any way.
    associated_alpha
        The extra sample is declared premultiplied.
    resolution
        (x, y, unit) as in the tags; unit 1 means none.
    details
        ImageJ's or OME's own metadata: spacing, unit, channel names, pixel size.
    geo
        GeoTIFF's tags as (tag, type, values), of the source's pixel grid.
    orientation
        How the stored pixels lie, in EXIF's numbers; never written.
    """

    axes: str
    kind: Literal["plain", "imagej", "ome"] = "plain"
    compressed: bool = False
    associated_alpha: bool = False
    resolution: tuple[float, float, int] | None = None
    details: dict[str, Any] = field(default_factory=dict)
    geo: tuple[tuple[int, int, Any], ...] = ()
    orientation: int = 1


@dataclass(frozen=True, eq=False)
class TiffImage:
    """One image, or stack of them, of a file.

    Attributes
    ----------
    pixels
        ..., H, W or ..., H, W, C where the layout's axes end in "S"; gray is black at 0, palettes
        are looked up, samples fill their type. The orientation is not applied yet.
    metadata
    layout
    notes
        Sentences for the user about the file.
    """

    pixels: np.ndarray
    metadata: Metadata
    layout: TiffLayout
    notes: tuple[str, ...] = ()


def read(path: Path, *, series: int | None = None, max_pixels: int) -> list[TiffImage]:
    """Read the images of a TIFF file; reduced copies (pyramids, thumbnails) are none of their own.

    Parameters
    ----------
    series
        The number of the only one to read, from 0; None: all of them.
    max_pixels
        A plane with more is refused before it is decoded.

    Raises
    ------
    ImageFileError
        The file is truncated, damaged, or of a kind that is not read, or has no such series.
    """
    try:
        with open(path, "rb") as file:
            chain = tiff_chain.survey(file)
        with opened(path) as tif:
            return _read(tif, path, chain, series, max_pixels)
    except (ImageFileError, MemoryError):
        raise
    except OSError as error:
        raise ImageFileError(f"cannot be read: {error.strerror or error}") from error
    except Exception as error:  # tifffile raises whatever its parsing of a damaged file meets
        raise ImageFileError(f"the TIFF is damaged: {first_line(error)}") from error


def opened(path: Path) -> tifffile.TiffFile:
    """The file, and those beside it that OME-XML names as parts of it; none of another folder."""
    tif = tifffile.TiffFile(path)
    if _names_other_folders(tif):
        tif.close()
        tif = tifffile.TiffFile(path, _multifile=False)
    return tif


def _names_other_folders(tif: tifffile.TiffFile) -> bool:
    names = _PARTS.findall(tif.ome_metadata or "") if tif.is_ome else []
    return any(re.search(r"[/\\:&]", name) for name in names)


def images_of(tif: tifffile.TiffFile) -> list[tifffile.TiffPageSeries]:
    """The series that are images of their own, also pages of half the size that do not say that
    they are reduced copies."""
    found: list[tifffile.TiffPageSeries] = []
    for one in tif.series:
        found.append(one)
        found += [level for level in one.levels[1:] if not is_level(one, level)]
    if not found:
        raise ImageFileError("the TIFF is damaged: it has no image")
    return [one for one in found if not one.keyframe.is_reduced] or found[:1]


def is_level(series: tifffile.TiffPageSeries, level: tifffile.TiffPageSeries) -> bool:
    """Whether what tifffile takes for a level of a pyramid (by its size alone, for a file of no
    kind that it knows) is one."""
    page = level.keyframe
    return level is series or series.kind != "generic" or page.is_reduced or page.is_subifd


def chosen(
    found: list[tifffile.TiffPageSeries], number: int | None
) -> list[tifffile.TiffPageSeries]:
    """All of them, or the one asked for.

    Raises
    ------
    ImageFileError
        There is no such series.
    """
    if number is None:
        return found
    if not 0 <= number < len(found):
        raise ImageFileError(f"it has series 0 to {len(found) - 1}; there is no series {number}")
    return [found[number]]


def check_piecewise(
    path: Path, tif: tifffile.TiffFile, series: tifffile.TiffPageSeries
) -> TiffLayout:
    """Check that a series can be read piece by piece as it stands, and say how it is laid out.

    Raises
    ------
    ImageFileError
        The file is truncated, or its pixels would have to be converted as a whole.
    """
    page = series.keyframe
    for level in series.levels:
        for note in _check_complete(level, path):
            warnings.warn(f"{path}: {note}", stacklevel=2)
    promised = (tif.imagej_metadata or {}).get("images", 1) if tif.is_imagej else 1
    planes = math.prod(
        n for n, axis in zip(series.shape, series.axes, strict=True) if axis in "TZCIQ"
    )
    if isinstance(promised, int) and promised > planes:
        raise ImageFileError(
            f"the ImageJ stack is cut off: {planes} of its {promised} planes are there"
        )
    missing = _missing_planes(series)
    if missing:
        raise ImageFileError(missing[0])
    layout, _ = _layout(tif, page, series)
    photometric = tiff_colour.photometric_of(page)
    plain = photometric in (tiff_colour.MINISBLACK, tiff_colour.RGB)
    if not (plain or tiff_colour.is_jpeg_colour(page)):
        raise ImageFileError(
            f"only gray and RGB TIFFs are read by pieces, not {page.photometric!r}"
        )
    if page.dtype is not None and page.dtype.kind == "u" and page.bitspersample not in _WHOLE:
        raise ImageFileError(
            f"only TIFFs of 8, 16 or 32 bits are read by pieces, not of {page.bitspersample}"
        )
    if layout.orientation != 1:
        raise ImageFileError("a TIFF with an orientation is not read by pieces: turn it first")
    return layout


def _check_complete(series: tifffile.TiffPageSeries, path: Path) -> tuple[str, ...]:
    """Check that all strips or tiles are in the file: tifffile makes those that are not black.

    Tiled and geographic files leave out tiles on purpose, where there is nothing to see.

    Returns
    -------
    tuple of str
        A note about what was left out.

    Raises
    ------
    ImageFileError
        The file is truncated, or lacks some of its strips or tiles.
    """
    size = path.stat().st_size
    page = series.keyframe
    expected, name = _piece_count(page), "tiles" if page.is_tiled else "strips"
    may_be_sparse = page.is_tiled or any(tag in page.tags for tag in _GEOGRAPHIC_TAGS)
    left_out = 0
    for number, one in enumerate(series.pages):
        if one is None:
            continue
        pieces = list(zip(one.dataoffsets, one.databytecounts, strict=False))
        if not pieces or max(offset + length for offset, length in pieces) > size:
            raise ImageFileError(
                f"the TIFF is truncated: the pixels of page {number + 1} end beyond the file"
            )
        empty = sum(offset == 0 or length == 0 for offset, length in pieces)
        missing = empty + max(0, expected - len(pieces))
        if missing > empty and _is_contiguous(page, sum(length for _, length in pieces)):
            missing = empty
        if missing > empty or (empty and not may_be_sparse):
            raise ImageFileError(
                f"the TIFF is damaged: {missing} of the {expected} {name} of page {number + 1} are "
                "missing"
            )
        left_out += empty
    if not left_out:
        return ()
    return (f"{left_out} of its {name} were left out when it was written: read as {page.nodata:g}",)


def _piece_count(page: Any) -> int:
    """Strips or tiles that a page needs."""
    if page.is_tiled:
        pieces = math.ceil(page.imagewidth / page.tilewidth)
        pieces *= math.ceil(page.imagelength / page.tilelength)
        pieces *= math.ceil(page.imagedepth / max(page.tiledepth, 1))
    else:
        rows = min(page.rowsperstrip or page.imagelength, page.imagelength)
        pieces = math.ceil(page.imagelength / rows) * page.imagedepth
    return int(pieces * (page.samplesperpixel if page.planarconfig == _SEPARATE else 1))


def _is_contiguous(page: Any, length: int) -> bool:
    """Whether fewer strips than the rows a strip ask for hold the whole of a plain image."""
    row = math.ceil(page.imagewidth * page.samplesperpixel * page.bitspersample / 8)
    whole = row * page.imagelength * page.imagedepth
    return int(page.compression) == _UNCOMPRESSED and not page.is_tiled and length >= whole


def _read(
    tif: tifffile.TiffFile,
    path: Path,
    chain: tiff_chain.Chain,
    number: int | None,
    max_pixels: int,
) -> list[TiffImage]:
    found = images_of(tif)
    cut_stack = _cut_imagej_stack(tif, path)
    if cut_stack is not None:
        return [cut_stack]
    cut: tuple[str, ...] = ()
    if _names_other_folders(tif):
        cut = ("its OME-XML names files in other folders: those are left out",)
    if chain.cut and not tif.is_ndpi:
        cut += (f"the file is cut off behind page {chain.pages}: the pages after it are lost",)
    images: list[TiffImage] = []
    for one in chosen(found, number):
        image = _read_series(tif, path, one, len(images), max_pixels)
        images.append(replace(image, notes=cut + image.notes))
        cut = ()
    return images


def _read_series(
    tif: tifffile.TiffFile,
    path: Path,
    series: tifffile.TiffPageSeries,
    number: int,
    max_pixels: int,
) -> TiffImage:
    page = series.keyframe
    if page.imagewidth * page.imagelength > max_pixels:
        raise ImageFileError(
            f"a page has {page.imagewidth} x {page.imagelength} pixels, more than the limit of "
            f"{max_pixels}; if that is right, raise the limit (--max-pixels, max_pixels=)"
        )
    notes = [*_check_complete(series, path), *_missing_planes(series), *_later_texts(tif, series)]
    by_opencv = tiff_colour.photometric_of(page) == tiff_colour.YCBCR
    by_opencv &= not tiff_colour.is_jpeg_colour(page)
    # OpenCV counts pages from the first of the file.
    data = path.read_bytes() if by_opencv and page.index == 0 else None
    converted = tiff_colour.convert(page, series, data)
    layout, more = _layout(tif, page, series)
    layout = replace(
        layout,
        axes=converted.axes,
        associated_alpha=converted.associated,
        orientation=1 if converted.upright else layout.orientation,
    )
    notes += [*converted.notes, *more]
    return TiffImage(converted.pixels, _metadata(tif, page, path, layout), layout, tuple(notes))


def _later_texts(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> tuple[str, ...]:
    """A note where pages behind the first have descriptions of their own: a stack has one."""
    if tif.is_ome or tif.is_imagej or tif.is_shaped or len(series.pages) < 2:
        return ()
    tags = getattr(series.pages[1], "tags", {})
    own = [name for code, name in _PAGE_TEXTS.items() if code in tags]
    return (f"the pages' own {' and '.join(own)} are not kept, but for the first",) if own else ()


def _missing_planes(series: tifffile.TiffPageSeries) -> tuple[str, ...]:
    """OME-XML may promise planes that no page of this file holds: tifffile makes them black."""
    missing = [number for number, page in enumerate(series.pages) if page is None]
    if not missing:
        return ()
    return (
        f"{len(missing)} of its {len(series.pages)} planes are not in this file, the first of them "
        f"plane {missing[0] + 1}: black in the result",
    )


def _cut_imagej_stack(tif: tifffile.TiffFile, path: Path) -> TiffImage | None:
    """The whole planes of an ImageJ stack whose file ends too early, or None.

    ImageJ's planes follow one another behind the first directory; the others' directories stand
    at the end, and may be lost or were never written.
    """
    details = tif.imagej_metadata if tif.is_imagej else None
    page = tif.pages.first
    promised = (details or {}).get("images", 1)
    if not isinstance(promised, int) or int(page.compression) != _UNCOMPRESSED or not page.nbytes:
        return None
    if not page.dataoffsets or page.dtype is None:
        return None
    there = (path.stat().st_size - page.dataoffsets[0]) // page.nbytes
    if promised <= 1 or there >= promised:
        return None
    if there < 1:
        raise ImageFileError("the TIFF is truncated: the pixels of page 1 end beyond the file")
    order = page.dtype.newbyteorder(tif.byteorder)
    planes = np.fromfile(
        path, order, there * page.nbytes // order.itemsize, offset=page.dataoffsets[0]
    )
    planes = planes.astype(page.dtype).reshape(there, *page.shape)
    layout, notes = _layout(tif, page, tif.series[0])
    long = [
        axis for axis, name in (("T", "frames"), ("Z", "slices"), ("C", "channels"))
        if (details or {}).get(name, 1) > 1
    ]  # fmt: skip
    if len(long) == 1:
        layout = replace(layout, axes=long[0] + page.axes)
    else:  # which plane is which is no longer a grid
        layout = replace(layout, kind="plain", axes="Q" + page.axes, details={})
    cut = (
        f"the stack is cut off behind page {there} of {promised}: the pages after it are lost, "
        f"page {there + 1} the first"
    )
    return TiffImage(planes, _metadata(tif, page, path, layout), layout, (cut, *notes))


def _metadata(tif: tifffile.TiffFile, page: Any, path: Path, layout: TiffLayout) -> Metadata:
    resolution = layout.resolution
    dpi = None
    if resolution is not None and resolution[2] in UNIT_PER_INCH:
        per_inch = UNIT_PER_INCH[resolution[2]]
        dpi = resolution[0] * per_inch, resolution[1] * per_inch
    return Metadata(
        exif=_exif_block(tif, path),
        icc=_bytes(page, ICC_TAG),
        xmp=_bytes(page, XMP_TAG),
        iptc=_bytes(page, IPTC_TAG),
        dpi=dpi,
    )


def _exif_block(tif: tifffile.TiffFile, path: Path) -> bytes | None:
    """The descriptive fields and the EXIF and GPS directories as a block of their own.

    ImageJ and OME keep their own metadata in the description, which is none of EXIF's.
    """
    if tif.is_imagej or tif.is_ome or tif.is_shaped:
        return None
    if tif.is_bigtiff:
        return _texts_of_bigtiff(tif.pages.first)
    with open(path, "rb") as file:
        whole = exif.read_directory(file.read())
    fields = {tag: item for tag, item in whole.fields.items() if tag in exif.DESCRIPTIVE}
    if not fields and not whole.below:
        return None
    return exif.block_from(exif.Directory(fields, whole.below))


def _texts_of_bigtiff(page: Any) -> bytes | None:
    """The descriptive texts of a BigTIFF, whose directories are laid out otherwise."""
    fields = {}
    for tag in exif.DESCRIPTIVE:
        value = page.tags.valueof(tag)
        if isinstance(value, str) and value:
            text = value.encode() + b"\0"
            fields[tag] = exif.Field(2, len(text), text, "<")
    return exif.block_from(exif.Directory(fields)) if fields else None


def _layout(
    tif: tifffile.TiffFile, page: Any, series: tifffile.TiffPageSeries
) -> tuple[TiffLayout, list[str]]:
    """How a series is laid out, and what of its metadata cannot be kept."""
    kind: Literal["plain", "imagej", "ome"] = "plain"
    details: dict[str, Any] = {}
    resolution, notes = _resolution(page)
    if tif.is_imagej:
        kind = "imagej"
        details, told = imagej_details(tif)
        notes += told
    elif tif.is_ome:
        kind = "ome"
        details, told = ome_details(tif, series)
        notes += told
    layout = TiffLayout(
        axes=series.axes,
        kind=kind,
        compressed=int(page.compression) != _UNCOMPRESSED,
        resolution=resolution,
        details=details,
        geo=geo_tags(page),
        orientation=_orientation(page),
    )
    return layout, notes


def _orientation(page: Any) -> int:
    tag = page.tags.get(exif.ORIENTATION)
    value = tag.value if tag is not None else 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _resolution(page: Any) -> tuple[tuple[float, float, int] | None, list[str]]:
    """(x, y, unit) as in the tags where they make sense, and a note where they do not."""
    if exif.X_RESOLUTION not in page.tags or exif.Y_RESOLUTION not in page.tags:
        return None, []
    unit_tag = page.tags.get(exif.RESOLUTION_UNIT)
    try:
        (xa, xb), (ya, yb) = page.tags[exif.X_RESOLUTION].value, page.tags[exif.Y_RESOLUTION].value
        unit = int(unit_tag.value) if unit_tag is not None else 2
        x, y = xa / xb, ya / yb
    except (TypeError, ValueError, ZeroDivisionError):
        return None, ["its resolution makes no sense (a division by zero, or no number): left out"]
    if unit not in (1, 2, 3):
        return None, [f"its resolution has an unknown unit ({unit}): left out"]
    if x == 0 and y == 0:
        return None, []  # what writers put that know none
    if not all(math.isfinite(v) and 0 < v <= _MAX_RESOLUTION for v in (x, y)):
        return None, [f"its resolution of {x:g} x {y:g} makes no sense: left out"]
    return (x, y, unit), []


def _bytes(page: Any, tag: int) -> bytes | None:
    found = page.tags.get(tag)
    value = found.value if found is not None else None
    return bytes(value) if isinstance(value, (bytes, bytearray)) and value else None
