"""BMP's resolution fields, which OpenCV reads over and writes as zero, and pixels of 16 bits or in
stated fields, which it reads wrongly. Reference: BITMAPINFOHEADER and BITMAPV4HEADER in the
Windows SDK."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from esrgan_ext.errors import ImageFileError
from esrgan_ext.inference.formats import depth

_INCH_IN_METRES = 0.0254
_RGB, _FIELDS, _ALPHA_FIELDS = 0, 3, 6  # compressions without any
_MASKED = (_RGB, _FIELDS, _ALPHA_FIELDS)
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


def has_masks(data: bytes | memoryview) -> bool:
    """Whether its pixels are to be read by `decode_masks`: 16 bits, or 32 in stated fields."""
    if len(data) < 54 or struct.unpack_from("<I", data, 14)[0] == 12:
        return False
    bits, compression = struct.unpack_from("<HI", data, 28)
    return (bits == 16 and compression in _MASKED) or (bits == 32 and compression in _MASKED[1:])


def _masks(data: bytes | memoryview) -> tuple[int, ...]:
    """The bits of red, green, blue and alpha (0: none) in a pixel."""
    (header_size,) = struct.unpack_from("<I", data, 14)
    (compression,) = struct.unpack_from("<I", data, 30)
    if compression == _RGB:
        return 0x7C00, 0x3E0, 0x1F, 0
    # Behind a header of 40 bytes stand three (6: four) masks; longer headers hold them.
    four = compression == _ALPHA_FIELDS or header_size >= 56
    if len(data) < 54 + (16 if four else 12):
        raise ImageFileError("the BMP is truncated: its fields are cut off")
    return (
        struct.unpack_from("<4I", data, 54) if four else (*struct.unpack_from("<3I", data, 54), 0)
    )


def has_alpha(data: bytes | memoryview) -> bool:
    """Whether its header names a field for alpha."""
    return has_masks(data) and _masks(data)[3] != 0


def decode_masks(data: bytes) -> np.ndarray:
    """The pixels of a BMP of 16 bits (555, 565, ...), or of 32 in fields of any width.

    OpenCV takes 5 bits' white for 248 and fields for bytes.

    Returns
    -------
    ndarray
        H, W, 3 or, where the file names a field for alpha, H, W, 4; uint8, or uint16 where a
        field has more than 8 bits.

    Raises
    ------
    ImageFileError
        The file is cut off, or its fields are damaged.
    """
    (offset,) = struct.unpack_from("<I", data, 10)
    width, height, _, bits = struct.unpack_from("<iiHH", data, 18)
    rows = abs(height)
    masks = _masks(data)
    kind = np.dtype(f"<u{bits // 8}")
    step = (width * bits + 31) // 32 * 4 // kind.itemsize
    if width <= 0 or len(data) < offset + rows * step * kind.itemsize:
        raise ImageFileError("the BMP is truncated: its pixels are cut off")
    stored = np.frombuffer(data, kind, rows * step, offset).reshape(rows, step)[:, :width]
    if height > 0:
        stored = stored[::-1]  # rows from the bottom
    fields = [mask for mask in masks if mask]
    if len(fields) < 3 or not all(masks[:3]):
        raise ImageFileError("the BMP is damaged: it lacks a field for a colour")
    shifts = [(mask & -mask).bit_length() - 1 for mask in fields]
    largest = [mask >> shift for mask, shift in zip(fields, shifts, strict=True)]
    if any(top & (top + 1) or top > 0xFFFF for top in largest):
        raise ImageFileError("the BMP is damaged: its fields have gaps")
    common = max(depth.holding(top) for top in largest)
    whole = int(np.iinfo(common).max)
    planes = []
    for mask, shift, top in zip(fields, shifts, largest, strict=True):
        plane = depth.widened((stored & mask) >> shift, top)
        # A narrower field in company of a wide one: 255 times 257 is 65535.
        factor = whole // int(np.iinfo(plane.dtype).max)
        planes.append(plane.astype(common) * common.type(factor))
    return np.stack(planes, axis=-1)
