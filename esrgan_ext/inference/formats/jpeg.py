"""JPEG segments: whether the file is complete (libjpeg paints what is missing gray and says
nothing that OpenCV passes on), its density, and metadata that OpenCV's encoder refuses.
References: ITU-T T.81 annex B, T.871 (JFIF), ICC.1:2022 B.4, XMP part 3."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from esrgan_ext.errors import ImageFileError

SIGNATURE = b"\xff\xd8\xff"
XMP_HEADER = b"http://ns.adobe.com/xap/1.0/\0"
_ICC_HEADER = b"ICC_PROFILE\0"
# A segment's length is 16 bits and counts itself.
MAX_SEGMENT = 65533
MAX_SIDE = 65500  # libjpeg's JPEG_MAX_DIMENSION
_SOI, _EOI, _SOS, _APP0, _APP1, _APP2 = 0xD8, 0xD9, 0xDA, 0xE0, 0xE1, 0xE2
_STANDALONE = {0x01, *range(0xD0, 0xD8)}  # TEM and the restart markers have no length
_FRAME_HEADERS = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# In entropy-coded data 0xFF is followed by a stuffed 0, a restart marker, or ends the scan.
_SCAN_END = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")


@dataclass(frozen=True)
class JpegInfo:
    """What the segments say: size in pixels, bits a sample (8 or 12), components (1, 3, 4)."""

    width: int
    height: int
    bits: int
    components: int
    dpi: tuple[float, float] | None = None


def segments(data: bytes | memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield (marker, body) of every segment up to and including EOI; scans are skipped.

    Raises
    ------
    ImageFileError
        The file is cut off, has no end-of-image marker, or is damaged.
    """
    view = memoryview(data)
    position = 2
    while True:
        if position + 2 > len(view):
            raise ImageFileError("the JPEG is truncated: it has no end-of-image marker")
        if view[position] != 0xFF:
            raise ImageFileError("the JPEG is damaged: there is no marker where one must be")
        marker = view[position + 1]
        position += 2
        if marker == 0xFF:  # fill byte
            position -= 1
            continue
        if marker == _EOI:
            yield marker, view[position:position]
            return
        if marker in _STANDALONE:
            continue
        if position + 2 > len(view):
            raise ImageFileError("the JPEG is truncated: it has no end-of-image marker")
        (length,) = struct.unpack_from(">H", view, position)
        if length < 2:
            raise ImageFileError("the JPEG is damaged: a segment has no length")
        if position + length > len(view):
            raise ImageFileError("the JPEG is truncated: it has no end-of-image marker")
        yield marker, view[position + 2 : position + length]
        position += length
        if marker == _SOS:
            end = _SCAN_END.search(view, position)
            if end is None:
                raise ImageFileError("the JPEG is truncated: it has no end-of-image marker")
            position = end.end() - 2


def inspect(data: bytes | memoryview, *, complete: bool = True) -> JpegInfo:
    """Read the segments of a JPEG.

    Parameters
    ----------
    data
        The file, or its beginning.
    complete
        Walk to the end-of-image marker; otherwise stop at the first scan.

    Raises
    ------
    ImageFileError
        The file is truncated or damaged, or has no frame.
    """
    frame: tuple[int, int, int, int] | None = None
    dpi: tuple[float, float] | None = None
    for marker, body in segments(data):
        if marker in _FRAME_HEADERS and frame is None:
            if len(body) < 6:
                raise ImageFileError("the JPEG is damaged: its frame header is too short")
            bits, height, width, components = struct.unpack_from(">BHHB", body)
            frame = width, height, bits, components
        elif marker == _APP0 and body[:5] == b"JFIF\0" and len(body) >= 12:
            dpi = _density(body)
        elif marker == _SOS and not complete:
            break
    if frame is None:
        raise ImageFileError("the JPEG is damaged: it has no frame header")
    return JpegInfo(*frame, dpi=dpi)


def with_density(data: bytes, dpi: tuple[float, float]) -> bytes:
    """The JPEG with its JFIF density set, in whole pixels per inch (all that JFIF can say)."""
    if data[2:4] != b"\xff\xe0" or data[6:11] != b"JFIF\0":
        raise ValueError("not a JFIF file")
    x, y = (min(max(round(value), 1), 0xFFFF) for value in dpi)
    return data[:13] + struct.pack(">BHH", 1, x, y) + data[18:]


def with_profile(data: bytes, icc: bytes) -> bytes:
    """The JPEG with an ICC profile of any size, cut into APP2 segments (ICC.1:2022, B.4).

    OpenCV writes a profile as one segment and fails the whole image where it does not fit.
    """
    room = MAX_SEGMENT - len(_ICC_HEADER) - 2
    pieces = [icc[start : start + room] for start in range(0, len(icc), room)]
    if len(pieces) > 255:
        raise ValueError("the profile needs more than 255 segments")
    added = b"".join(
        _segment(_APP2, _ICC_HEADER + bytes((number, len(pieces))) + piece)
        for number, piece in enumerate(pieces, start=1)
    )
    # Behind JFIF's APP0, which must come first.
    start = 2
    if data[2:4] == b"\xff\xe0":
        start = 4 + int.from_bytes(data[4:6], "big")
    return data[:start] + added + data[start:]


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def _density(body: memoryview) -> tuple[float, float] | None:
    unit, x, y = struct.unpack_from(">BHH", body, 7)
    per_inch = {1: 1.0, 2: 2.54}.get(unit)  # unit 0 gives the pixel's aspect ratio only
    if per_inch is None or not x or not y:
        return None
    return x * per_inch, y * per_inch
