"""What an image file says about itself before its pixels are decoded: format, size, alpha,
depth. A folder job is planned with it, and a header that claims 10^10 pixels is turned down with
it before any memory is asked for."""

from __future__ import annotations

import io
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import imagesize
import tifffile

from esrgan_ext.errors import ImageFileError
from esrgan_ext.inference.formats import avif, bmp, jpeg, png, webp

Format = Literal["png", "jpeg", "webp", "bmp", "tiff", "avif", "jp2", "gif", "pnm"]

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
    ".gif": "gif",
    ".pbm": "pnm",
    ".pgm": "pnm",
    ".ppm": "pnm",
    ".pnm": "pnm",
}

# PNG's text chunks and JPEG's EXIF and profiles come before what is looked for here; a camera's
# JPEG has up to some hundred KiB of them.
_HEAD_BYTES = 1 << 20


@dataclass(frozen=True)
class ImageHeader:
    """What the header says.

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
    """

    format: Format
    width: int
    height: int
    has_alpha: bool | None = None
    bits: int | None = None
    animated: bool = False


def sniff(head: bytes) -> Format | None:
    """The format that the first 16 bytes belong to, or None."""
    if head.startswith(png.SIGNATURE):
        return "png"
    if head.startswith(jpeg.SIGNATURE):
        return "jpeg"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "tiff"
    if head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis"):
        return "avif"
    if head.startswith((b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")):
        return "jp2"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "gif"
    if head[:2] == b"BM" and len(head) > 6 and head[6:10] == b"\0\0\0\0":
        return "bmp"
    if head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace():
        return "pnm"
    return None


def read_header(path: Path) -> ImageHeader:
    """Read the header of an image file.

    Raises
    ------
    ImageFileError
        The file is missing, empty, no image, or has no pixels; the message names it.
    """
    try:
        with open(path, "rb") as file:
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
    format = sniff(head[:16])
    if format is None:
        raise ImageFileError(
            "its content is no image format read here (PNG, JPEG, WebP, TIFF, BMP, AVIF, "
            "JPEG 2000, GIF, PNM)"
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
        return ImageHeader("bmp", bitmap.width, bitmap.height, bitmap.bits == 32, 8)
    if format == "gif":
        width, height = struct.unpack_from("<HH", head, 6)
        return ImageHeader("gif", width, height, False, 8)  # OpenCV drops its transparency
    if format == "avif":
        found = avif.inspect(head)
        return ImageHeader("avif", found.width, found.height, found.has_alpha, found.bits)
    file.seek(0)
    if format == "tiff":
        return _tiff(file)
    try:
        width, height = imagesize.get(file, exif_rotation=False)
    except Exception as error:  # it raises whatever its parsing meets
        raise ImageFileError(f"the {format.upper()} has a damaged header") from error
    if width < 0 or height < 0:
        raise ImageFileError(f"the {format.upper()} has a damaged header")
    alpha, bits = _jp2_samples(head) if format == "jp2" else (False, _pnm_bits(head))
    return ImageHeader(format, int(width), int(height), alpha, bits)


def _tiff(file: BinaryIO) -> ImageHeader:
    try:
        with tifffile.TiffFile(file) as tif:
            page = tif.pages.first
            return ImageHeader(
                "tiff",
                int(page.imagewidth),
                int(page.imagelength),
                bool(page.extrasamples),
                int(page.bitspersample),
            )
    except Exception as error:  # tifffile raises whatever its parsing of a damaged file meets
        raise ImageFileError("the TIFF is truncated or damaged: its header cannot be read") from (
            error
        )


def _jp2_samples(head: bytes) -> tuple[bool | None, int | None]:
    """Whether there is alpha, and bits a sample: JP2's image header box (ISO 15444-1, I.5.3.1)."""
    at = head.find(b"ihdr")
    if at < 0 or at + 15 > len(head):  # a bare codestream
        return None, None
    channels, depth = struct.unpack_from(">HB", head, at + 12)
    return channels in (2, 4), (depth & 0x7F) + 1


def _pnm_bits(head: bytes) -> int:
    """8, or 16 where the largest value needs it."""
    tokens = re.sub(rb"#[^\n]*", b"", head[:4096]).split(maxsplit=4)
    if tokens[0] in (b"P1", b"P4") or len(tokens) < 4 or not tokens[3].isdigit():
        return 8
    return 16 if int(tokens[3]) > 255 else 8


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
