"""Reads TIFF through tifffile: single images, stacks of pages, ImageJ and OME files. OpenCV drops
a TIFF's metadata, so it only decodes the colour spaces that tifffile does not convert; writing is
`tiff_write`'s."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import tifffile

from esrgan_ext.errors import ImageFileError
from esrgan_ext.inference.formats import exif
from esrgan_ext.inference.formats.metadata import Metadata
from esrgan_ext.inference.formats.opencv import codec_messages

ICC_TAG, XMP_TAG, IPTC_TAG = 34675, 700, 33723
_UNCOMPRESSED = 1
_MINISWHITE, _MINISBLACK, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_JPEG = 7
UNIT_PER_INCH = {2: 1.0, 3: 2.54}


@dataclass(frozen=True)
class TiffLayout:
    """How a TIFF was laid out, so that the result can be laid out alike.

    Attributes
    ----------
    axes
        tifffile's letters, one an array axis ("YX", "YXS", "ZCYX", ...).
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
    iptc
        An IPTC record.
    orientation
        How the stored pixels lie, in EXIF's numbers; never written.
    """

    axes: str
    kind: Literal["plain", "imagej", "ome"] = "plain"
    compressed: bool = False
    associated_alpha: bool = False
    resolution: tuple[float, float, int] | None = None
    details: dict[str, Any] = field(default_factory=dict)
    iptc: bytes | None = None
    orientation: int = 1


def read(path: Path) -> tuple[np.ndarray, Metadata, TiffLayout]:
    """Read the (first) image or stack of a TIFF file.

    Returns
    -------
    pixels
        ..., H, W or ..., H, W, C where the layout's axes end in "S"; gray is black at 0,
        palettes are looked up. The orientation is not applied yet.
    metadata
    layout

    Raises
    ------
    ImageFileError
        The file is truncated, damaged, or of a kind that is not read.
    """
    try:
        with tifffile.TiffFile(path) as tif:
            return _read(tif, path)
    except (ImageFileError, MemoryError):
        raise
    except OSError as error:
        raise ImageFileError(f"cannot be read: {error.strerror or error}") from error
    except Exception as error:  # tifffile raises whatever its parsing of a damaged file meets
        raise ImageFileError(f"the TIFF is damaged: {_first_line(error)}") from error


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
    _check_complete(series, path)
    layout = _layout(tif, page)
    photometric = int(page.photometric)
    jpeg_colour = photometric == _YCBCR and int(page.compression) == _JPEG  # comes as RGB
    if not jpeg_colour and photometric not in (_MINISBLACK, _RGB):
        raise ImageFileError(
            f"only gray and RGB TIFFs are read by pieces, not {page.photometric!r}"
        )
    if layout.orientation != 1:
        raise ImageFileError("a TIFF with an orientation is not read by pieces: turn it first")
    return layout


def _check_complete(series: tifffile.TiffPageSeries, path: Path) -> None:
    size = path.stat().st_size
    for number, one in enumerate(series.pages):
        if one is None:
            continue
        ends = [o + n for o, n in zip(one.dataoffsets, one.databytecounts, strict=False)]
        if not ends or max(ends) > size:
            raise ImageFileError(
                f"the TIFF is truncated: the pixels of page {number + 1} end beyond the file"
            )


def _read(tif: tifffile.TiffFile, path: Path) -> tuple[np.ndarray, Metadata, TiffLayout]:
    if not tif.series:
        raise ImageFileError("the TIFF is damaged: it has no image")
    series = tif.series[0]
    # Reduced copies of the first image (pyramids, thumbnails) are not images of their own.
    others = [other for other in tif.series[1:] if not other.keyframe.is_reduced]
    if others:
        raise ImageFileError(
            f"the TIFF holds {len(others) + 1} images of different shapes; split it first"
        )
    page = series.keyframe
    _check_complete(series, path)
    axes = series.axes
    photometric = int(page.photometric)
    layout = _layout(tif, page)
    jpeg_colour = photometric == _YCBCR and int(page.compression) == _JPEG  # comes as RGB
    if jpeg_colour or photometric in (_MINISWHITE, _MINISBLACK, _RGB, _PALETTE):
        pixels = series.asarray()
    else:
        pixels, axes = _decode_with_opencv(path.read_bytes(), page, axes, series.shape)
        photometric, layout = _MINISBLACK, replace(layout, orientation=1)
    if photometric == _MINISWHITE:
        pixels = _inverted(pixels)
    elif photometric == _PALETTE and page.colormap is not None:
        # The map has 16 bits a colour; 8 are what palettes are made of.
        pixels = np.moveaxis((page.colormap >> 8).astype(np.uint8)[:, pixels], 0, -1)
        axes += "S"
    if "S" in axes and not axes.endswith("S"):  # planar configuration: one plane a sample
        pixels = np.moveaxis(pixels, axes.index("S"), -1)
        axes = axes.replace("S", "") + "S"
    if not axes.rstrip("S").endswith("YX"):
        raise ImageFileError(f"the TIFF's axes {axes!r} do not end in rows and columns")
    if pixels.size == 0:
        raise ImageFileError(f"the image has no pixels (shape {pixels.shape})")
    return pixels, _metadata(tif, page, path), replace(layout, axes=axes)


def _decode_with_opencv(
    data: bytes, page: Any, axes: str, shape: tuple[int, ...]
) -> tuple[np.ndarray, str]:
    """Decode pages of another colour space (CMYK, YCbCr, Lab).

    Returns
    -------
    pixels
        Upright: OpenCV applies the orientation.
    axes
        One letter an axis.
    """
    cmyk = int(page.photometric) == _CMYK
    if page.extrasamples and not cmyk:
        raise ImageFileError(
            f"a TIFF with alpha in {page.photometric.name} colours is not supported; save it as RGB"
        )
    with codec_messages() as messages:
        done, pages = cv2.imdecodemulti(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    stack = [(n, axis) for n, axis in zip(shape, axes, strict=True) if axis not in "YXS"]
    number = int(np.prod([n for n, _ in stack]))
    if not done or len(pages) < number:
        raise _damaged(messages)
    colour = pages[0].ndim == 3 and pages[0].shape[2] > 1
    if colour:
        # CMYK comes with an opaque alpha.
        code = cv2.COLOR_BGR2RGB if pages[0].shape[2] == 3 else cv2.COLOR_BGRA2RGB
        pages = [cv2.cvtColor(one, code) for one in pages[:number]]
    pixels = np.stack(pages[:number]).reshape(*(n for n, _ in stack), *pages[0].shape)
    return pixels, "".join(axis for _, axis in stack) + ("YXS" if colour else "YX")


def _damaged(messages: list[str]) -> ImageFileError:
    reason = f": {messages[-1]}" if messages else ""
    return ImageFileError(f"the TIFF is damaged or of a kind not supported{reason}")


def _inverted(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype == np.bool_:
        return ~pixels
    if pixels.dtype.kind == "u":
        return np.iinfo(pixels.dtype).max - pixels
    return pixels


def _metadata(tif: tifffile.TiffFile, page: Any, path: Path) -> Metadata:
    resolution = _resolution(page)
    dpi = None
    if resolution is not None and resolution[2] in UNIT_PER_INCH:
        per_inch = UNIT_PER_INCH[resolution[2]]
        dpi = resolution[0] * per_inch, resolution[1] * per_inch
    return Metadata(
        exif=_exif_block(tif, path),
        icc=_bytes(page, ICC_TAG),
        xmp=_bytes(page, XMP_TAG),
        dpi=dpi,
    )


def _exif_block(tif: tifffile.TiffFile, path: Path) -> bytes | None:
    """The descriptive fields and the EXIF and GPS directories as a block of their own.

    ImageJ and OME keep their own metadata in the description, which is none of EXIF's.
    """
    if tif.is_bigtiff or tif.is_imagej or tif.is_ome or tif.is_shaped:
        return None
    with open(path, "rb") as file:
        whole = exif.read_directory(file.read())
    fields = {tag: item for tag, item in whole.fields.items() if tag in exif.DESCRIPTIVE}
    if not fields and not whole.below:
        return None
    return exif.block_from(exif.Directory(fields, whole.below))


def _layout(tif: tifffile.TiffFile, page: Any) -> TiffLayout:
    kind: Literal["plain", "imagej", "ome"] = "plain"
    details: dict[str, Any] = {}
    if tif.is_imagej:
        kind = "imagej"
        kept = ("spacing", "unit", "finterval", "fps", "loop", "mode", "Info", "Labels", "LUTs")
        details = {k: v for k, v in (tif.imagej_metadata or {}).items() if k in kept}
    elif tif.is_ome:
        kind = "ome"
        details = _ome_details(tif)
    extra = tuple(int(sample) for sample in page.extrasamples)
    return TiffLayout(
        axes="",
        kind=kind,
        compressed=int(page.compression) != _UNCOMPRESSED,
        associated_alpha=extra[:1] == (1,),
        resolution=_resolution(page),
        details=details,
        iptc=_bytes(page, IPTC_TAG),
        orientation=_orientation(page),
    )


def _orientation(page: Any) -> int:
    tag = page.tags.get(exif.ORIENTATION)
    value = tag.value if tag is not None else 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _ome_details(tif: tifffile.TiffFile) -> dict[str, Any]:
    """Pixel size and channel names out of OME-XML."""
    image = tifffile.xml2dict(tif.ome_metadata or "<OME/>").get("OME", {}).get("Image", {})
    image = image[0] if isinstance(image, list) else image
    found = image.get("Pixels", {}) if isinstance(image, dict) else {}
    details = {k: v for k, v in found.items() if k.startswith(("PhysicalSize", "TimeIncrement"))}
    channels = found.get("Channel", [])
    channels = channels if isinstance(channels, list) else [channels]
    names = [channel.get("Name") for channel in channels]
    if names and all(names):
        details["Channel"] = {"Name": names}
    return details


def _resolution(page: Any) -> tuple[float, float, int] | None:
    try:
        (xa, xb), (ya, yb) = page.tags[exif.X_RESOLUTION].value, page.tags[exif.Y_RESOLUTION].value
        unit = (
            int(page.tags[exif.RESOLUTION_UNIT].value) if exif.RESOLUTION_UNIT in page.tags else 2
        )
        return (xa / xb, ya / yb, unit) if xa and ya else None
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None


def _bytes(page: Any, tag: int) -> bytes | None:
    found = page.tags.get(tag)
    value = found.value if found is not None else None
    return bytes(value) if isinstance(value, (bytes, bytearray)) and value else None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
