"""Headers of image files, read before any pixel is decoded: format, size, alpha,
depth. A folder job is planned with it, and a header that claims 10^10 pixels is turned down with
it before any memory is asked for."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import tifffile

from esrgan_ext.errors import ImageFileError
from esrgan_ext.inference.formats import (
    avif,
    bmp,
    floats,
    heif,
    jp2,
    jpeg,
    jxl,
    png,
    pnm,
    refused,
    tiff_chain,
    tiff_colour,
    webp,
)  # fmt: skip

Format = Literal[
    "png", "jpeg", "webp", "bmp", "tiff", "avif", "jp2", "gif", "pnm", "jxl", "heif", "hdr", "exr"
]

#: Pixels a plane may have: 16384 x 16384, more than any camera takes (150 million); its x4 RGB
#: result is 13 GB.
MAX_PIXELS = 1 << 28

# Suffixes that a folder is searched for. A file's content decides how it is read.
SUFFIXES: dict[str, Format] = {
    ".png": "png",
    ".apng": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".jpe": "jpeg",
    ".jfif": "jpeg",
    ".webp": "webp",
    ".bmp": "bmp",
    ".dib": "bmp",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".avif": "avif",
    ".jp2": "jp2",
    ".j2k": "jp2",
    ".j2c": "jp2",
    ".jpc": "jp2",
    ".jpf": "jp2",
    ".jpx": "jp2",
    ".gif": "gif",
    ".pbm": "pnm",
    ".pgm": "pnm",
    ".ppm": "pnm",
    ".pnm": "pnm",
    ".pam": "pnm",
    ".pfm": "pnm",
    ".jxl": "jxl",
    ".heic": "heif",
    ".heif": "heif",
    ".hif": "heif",
    ".hdr": "hdr",
    ".exr": "exr",
}

# PNG's text chunks and JPEG's EXIF and profiles come before what is looked for here; a camera's
# JPEG has up to some hundred KiB of them.
_HEAD_BYTES = 1 << 20


@dataclass(frozen=True)
class ImageHeader:
    """Header of an image file.

    Attributes
    ----------
    format
    width, height
        Pixels as stored, before the orientation is applied.
    has_alpha
        None where the header alone does not tell.
    bits
        Bits a sample; None where the header alone does not tell.
    animated
        More than one frame in time.
    sample
        "u" for unsigned integers, "i" for signed ones, "f" for floats.
    stack
        More than one plane, or image.
    """

    format: Format
    width: int
    height: int
    has_alpha: bool | None = None
    bits: int | None = None
    animated: bool = False
    sample: str = "u"
    stack: bool = False

    @property
    def dtype(self) -> np.dtype:
        """The type that its samples are read as."""
        bits = self.bits or (8 if self.sample == "u" else 32)
        least = 16 if self.sample == "f" else 8
        whole = next((w for w in (8, 16, 32, 64) if w >= max(bits, least)), 64)
        return np.dtype(f"{self.sample}{whole // 8}")


_SNIFFED = 32


def sniff(head: bytes) -> Format | None:
    """The format that the first 32 bytes belong to, or None."""
    if head.startswith(png.SIGNATURE):
        return "png"
    if head.startswith(jpeg.SIGNATURE):
        return "jpeg"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "tiff"
    if head[4:8] == b"ftyp":
        brands = [head[8:12], *(head[k : k + 4] for k in range(16, len(head) - 3, 4))]
        if any(brand in (b"avif", b"avis") for brand in brands):
            return "avif"
        if brands[0] in heif.BRANDS:
            return "heif"
    if head.startswith((jxl.CODESTREAM_SIGNATURE, jxl.BOX_SIGNATURE)):
        return "jxl"
    if head.startswith(floats.HDR_SIGNATURES):
        return "hdr"
    if head.startswith(floats.EXR_SIGNATURE):
        return "exr"
    if head.startswith((jp2.BOX_SIGNATURE, jp2.CODESTREAM_SIGNATURE)):
        return "jp2"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "gif"
    if head[:2] == b"BM" and len(head) > 6 and head[6:10] == b"\0\0\0\0":
        return "bmp"
    if pnm.is_pnm(head):
        return "pnm"
    return None


def read_header(path: Path) -> ImageHeader:
    """Read the header of an image file.

    Raises
    ------
    ImageFileError
        The file is missing, empty, no image, or has no pixels; the message names it.
    """
    # Opening a pipe would wait for its writer.
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ImageFileError(f"{path}: is no regular file")
    try:
        with open(path, "rb") as file:
            why = refused.reason(file.read(_SNIFFED), path.suffix)
            if why is not None:
                raise ImageFileError(why)
            file.seek(0)
            return header_of(file)
    except OSError as error:
        raise ImageFileError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ImageFileError as error:
        raise ImageFileError(f"{path}: {error}") from error


def header_of(file: BinaryIO) -> ImageHeader:
    """The header of an open file (see `read_header`; messages do not name the file)."""
    head = file.read(_HEAD_BYTES)
    if not head:
        raise ImageFileError("the file is empty")
    format = sniff(head[:_SNIFFED])
    if format is None:
        raise ImageFileError(
            "its content is no image format read here (PNG, JPEG, WebP, TIFF, BMP, AVIF, HEIC, "
            "JPEG 2000, JPEG XL, OpenEXR, HDR, GIF, PNM)"
        )
    try:
        header = _of_format(head, format, file)
    except struct.error as error:
        raise ImageFileError(f"the {format.upper()} is truncated: its header is cut off") from error
    if header.width <= 0 or header.height <= 0:
        raise ImageFileError(f"the image has no pixels ({header.width} x {header.height})")
    return header


def check_pixels(header: ImageHeader, max_pixels: int) -> None:
    """Raise ImageFileError if the header claims more than `max_pixels` pixels."""
    if header.width * header.height > max_pixels:
        raise ImageFileError(
            f"its header claims {header.width} x {header.height} pixels, more than the limit of "
            f"{max_pixels}; if that is right, raise the limit (--max-pixels, max_pixels=)"
        )


def _of_format(head: bytes, format: Format, file: BinaryIO) -> ImageHeader:
    if format == "png":
        return _png(head)
    if format == "jpeg":
        # A frame header may hide behind more metadata than the head holds.
        file.seek(0)
        info = jpeg.inspect(head if len(head) < _HEAD_BYTES else file.read(), complete=False)
        return ImageHeader("jpeg", info.width, info.height, False, info.bits)
    if format == "webp":
        riff = webp.inspect(head, complete=False)
        return ImageHeader(
            "webp", riff.width, riff.height, riff.has_alpha, 8, animated=riff.animated
        )
    if format == "bmp":
        bitmap = bmp.inspect(head)
        return ImageHeader("bmp", bitmap.width, bitmap.height, bitmap.has_alpha, bitmap.sample_bits)
    if format == "gif":
        width, height = struct.unpack_from("<HH", head, 6)
        return ImageHeader("gif", width, height, False, 8)  # OpenCV drops its transparency
    if format == "avif":
        found = avif.inspect(head)
        return ImageHeader("avif", found.width, found.height, found.has_alpha, found.bits)
    if format == "jp2":
        coded = jp2.inspect(head)
        bits = max(coded.palette or coded.bits, default=8)
        return ImageHeader("jp2", coded.width, coded.height, coded.alpha is not None, bits)
    if format == "pnm":
        net = pnm.inspect(head)
        sample = "u" if net.largest else "f"
        alpha = net.channels in (2, 4)
        return ImageHeader("pnm", net.width, net.height, alpha, net.bits, sample=sample)
    if format == "jxl":
        xl = jxl.inspect(head)
        sample = "u" if xl.bits else "f"
        return ImageHeader(
            "jxl", xl.width, xl.height, None, xl.bits or 32, xl.animated, sample=sample
        )
    if format == "heif":
        found = avif.inspect(head)
        return ImageHeader("heif", found.width, found.height, found.has_alpha)
    if format in ("hdr", "exr"):
        width, height = floats.hdr_size(head) if format == "hdr" else floats.exr_size(head)
        return ImageHeader(format, width, height, format == "exr", 32, sample="f")
    file.seek(0)
    return _tiff(file)


def _tiff(file: BinaryIO) -> ImageHeader:
    chain = tiff_chain.survey(file)
    try:
        with tifffile.TiffFile(file) as tif:
            page = tif.pages.first
            bits, kind = page.bitspersample, page.dtype.kind if page.dtype is not None else "u"
            colours = tiff_colour.colours_of(page)
            extra = [int(code) for code in page.extrasamples]
            details = tif.imagej_metadata or {} if tif.is_imagej else {}
            return ImageHeader(
                "tiff",
                int(page.imagewidth),
                int(page.imagelength),
                any(code in (1, 2) for code in extra),
                int(bits) if isinstance(bits, int) else 8,
                sample=kind if kind in "if" else "u",
                stack=(colours == 1 and len(extra) > 1)
                or int(details.get("images", 1)) > 1
                or (chain.pages > 1 and not getattr(tif.pages[1], "is_reduced", False)),
            )
    except Exception as error:  # tifffile raises whatever its parsing of a damaged file meets
        raise ImageFileError("the TIFF is truncated or damaged: its header cannot be read") from (
            error
        )


def _png(head: bytes) -> ImageHeader:
    try:
        info = png.inspect(head, complete=False)
    except ImageFileError:
        # Cut off in the head or damaged: the size stands in the first chunk whatever follows.
        if len(head) < 26 or head[12:16] != b"IHDR":
            raise
        width, height, bits, colour = struct.unpack_from(">IIBB", head, 16)
        return ImageHeader("png", width, height, colour in (png.GRAY_ALPHA, png.RGBA), bits)
    return ImageHeader(
        "png", info.width, info.height, info.has_alpha, info.bits, animated=info.animated
    )


def header_of_bytes(data: bytes) -> ImageHeader:
    """The header of a file already in memory."""
    return header_of(io.BytesIO(data))
