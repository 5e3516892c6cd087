"""AVIF's size, its ICC profile (which OpenCV writes but does not read), and the rotation and
mirroring that its container asks for, which OpenCV does not apply. Reference: ISO/IEC 23008-12
(HEIF), 6.5."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from esrgan_ext.errors import ImageFileError

# EXIF's orientation for (quarter turns anticlockwise, mirror axis: None, 0 = top and bottom
# change places, 1 = left and right).
_ORIENTATION = {
    (0, None): 1, (0, 1): 2, (2, None): 3, (0, 0): 4, (1, 0): 5, (3, None): 6, (3, 0): 7,
    (1, None): 8, (1, 1): 7, (2, 0): 2, (2, 1): 4, (3, 1): 5,
}  # fmt: skip


@dataclass(frozen=True)
class AvifInfo:
    """Size as stored, the orientation in EXIF's numbers, bits a sample (8, 10, 12), the ICC
    profile."""

    width: int
    height: int
    orientation: int
    has_alpha: bool
    bits: int
    icc: bytes | None = None
    xmp: bytes | None = None


def inspect(data: bytes) -> AvifInfo:
    """Read the properties of a still AVIF.

    The boxes are found by their names: a still picture has one size, one rotation and one
    mirroring, which its alpha plane shares; a thumbnail is smaller than the picture.

    Raises
    ------
    ImageFileError
        The file states no size.
    """
    sizes = [
        struct.unpack_from(">II", data, found.end() + 4)
        for found in re.finditer(rb"\0\0\0\x14ispe", data)
        if found.end() + 12 <= len(data)
    ]
    if not sizes:
        raise ImageFileError("the AVIF has a damaged header: it states no size")
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    turns = re.search(rb"\0\0\0\x09irot(.)", data, re.DOTALL)
    mirror = re.search(rb"\0\0\0\x09imir(.)", data, re.DOTALL)
    key = (turns[1][0] & 3 if turns else 0, mirror[1][0] & 1 if mirror else None)
    alpha = b":auxiliary:alpha" in data or b":auxid:1\0" in data
    # OpenCV writes XMP and does not read it; the item is stored as it is.
    packet = re.search(rb"<x:xmpmeta\b.*?</x:xmpmeta>", data, re.DOTALL)
    return AvifInfo(
        width, height, _ORIENTATION[key], alpha, _bits(data), _profile(data),
        packet[0] if packet else None,
    )  # fmt: skip


def _bits(data: bytes) -> int:
    """Out of AV1's configuration box: byte 2 has the flags high_bitdepth and twelve_bit."""
    at = data.find(b"av1C")
    flags = data[at + 6] if 0 <= at < len(data) - 6 else 0
    return (12 if flags & 0x20 else 10) if flags & 0x40 else 8


def _profile(data: bytes) -> bytes | None:
    at = data.find(b"colrprof")
    if at < 4:
        return None
    (size,) = struct.unpack_from(">I", data, at - 4)
    return data[at + 8 : at - 4 + size] if 12 < size <= len(data) - at + 4 else None
