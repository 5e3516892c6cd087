"""BMP's resolution fields, which OpenCV reads over and writes as zero. Reference:
BITMAPINFOHEADER and BITMAPV4HEADER in the Windows SDK."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from esrgan_ext.errors import ImageFileError

_INCH_IN_METRES = 0.0254
_DENSITY_AT = 38


@dataclass(frozen=True)
class BmpInfo:
    """Size, bits a pixel, and resolution in pixels per inch."""

    width: int
    height: int
    bits: int
    dpi: tuple[float, float] | None


def inspect(data: bytes | memoryview) -> BmpInfo:
    """Read a BMP's header.

    Raises
    ------
    ImageFileError
        The header is cut off.
    """
    if len(data) < 26:
        raise ImageFileError("the BMP is truncated: its header is cut off")
    (header_size,) = struct.unpack_from("<I", data, 14)
    if header_size == 12:  # OS/2's BITMAPCOREHEADER
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        return BmpInfo(width, height, bits, None)
    if len(data) < 54:
        raise ImageFileError("the BMP is truncated: its header is cut off")
    width, height, _, bits = struct.unpack_from("<iiHH", data, 18)
    x, y = struct.unpack_from("<ii", data, _DENSITY_AT)
    dpi = (x * _INCH_IN_METRES, y * _INCH_IN_METRES) if x > 0 and y > 0 else None
    return BmpInfo(abs(width), abs(height), bits, dpi)  # a negative height: rows from the top


def with_density(data: bytes, dpi: tuple[float, float]) -> bytes:
    """The BMP with its resolution set."""
    x, y = (min(max(round(value / _INCH_IN_METRES), 0), 2**31 - 1) for value in dpi)
    return data[:_DENSITY_AT] + struct.pack("<ii", x, y) + data[_DENSITY_AT + 8 :]
