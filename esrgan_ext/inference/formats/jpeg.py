"""JPEG segments: whether the file is complete (libjpeg paints what is missing gray and says
nothing that OpenCV passes on), its density, metadata that OpenCV's encoder refuses, and pixels
that its decoder gets wrong: CMYK and more than 8 bits. References: ITU-T T.81 annex B, T.871
(JFIF), ICC.1:2022 B.4, XMP part 3, Adobe's technical note 5116."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import imagecodecs
import numpy as np

from esrgan_ext.errors import ImageFileError
from esrgan_ext.inference.formats import depth

SIGNATURE = b"\xff\xd8\xff"
XMP_HEADER = b"http://ns.adobe.com/xap/1.0/\0"
_ICC_HEADER = b"ICC_PROFILE\0"
# A segment's length is 16 bits and counts itself.
MAX_SEGMENT = 65533
MAX_SIDE = 65500  # libjpeg's JPEG_MAX_DIMENSION
_SOI, _EOI, _SOS, _APP0, _APP1, _APP2 = 0xD8, 0xD9, 0xDA, 0xE0, 0xE1, 0xE2
_APP13, _APP14, _COM = 0xED, 0xEE, 0xFE
_EXIF_HEADER = b"Exif\0\0"
_PHOTOSHOP = b"Photoshop 3.0\0"
_ADOBE = b"Adobe"
_IPTC = 0x0404
_STANDALONE = {0x01, *range(0xD0, 0xD8)}  # TEM and the restart markers have no length
_FRAME_HEADERS = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# In entropy-coded data 0xFF is followed by a stuffed 0, a restart marker, or ends the scan.
_SCAN_END = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")


@dataclass(frozen=True)
class JpegInfo:
    """Header of a JPEG: size in pixels, bits a sample (8, 12, 16), components (1, 3, 4), whether
    Adobe's marker says that CMYK is inverted; metadata."""

    width: int
    height: int
    bits: int
    components: int
    dpi: tuple[float, float] | None = None
    comments: tuple[str, ...] = ()
    iptc: bytes | None = None
    adobe: bool = False
    exif: bytes | None = None
    xmp: bytes | None = None
    icc: bytes | None = None

    @property
    def is_special(self) -> bool:
        """Whether `decode` reads it, and not OpenCV."""
        return self.bits != 8 or self.components == 4


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
    comments: list[str] = []
    resources = b""
    adobe = False
    exif = xmp = None
    profile: dict[int, bytes] = {}
    for marker, body in segments(data):
        if marker in _FRAME_HEADERS and frame is None:
            if len(body) < 6:
                raise ImageFileError("the JPEG is damaged: its frame header is too short")
            bits, height, width, components = struct.unpack_from(">BHHB", body)
            frame = width, height, bits, components
        elif marker == _APP0 and body[:5] == b"JFIF\0" and len(body) >= 12:
            dpi = _density(body)
        elif marker == _COM and body:
            comments.append(_decoded(bytes(body)))
        elif marker == _APP14 and bytes(body[: len(_ADOBE)]) == _ADOBE:
            adobe = True
        elif marker == _APP1 and bytes(body[:6]) == _EXIF_HEADER:
            exif = exif or bytes(body[6:])
        elif marker == _APP1 and bytes(body[: len(XMP_HEADER)]) == XMP_HEADER:
            xmp = xmp or bytes(body[len(XMP_HEADER) :])
        elif marker == _APP2 and bytes(body[: len(_ICC_HEADER)]) == _ICC_HEADER and len(body) > 14:
            profile[body[12]] = bytes(body[14:])
        elif marker == _APP13 and bytes(body[: len(_PHOTOSHOP)]) == _PHOTOSHOP:
            resources += bytes(body[len(_PHOTOSHOP) :])
        elif marker == _SOS and not complete:
            break
    if frame is None:
        raise ImageFileError("the JPEG is damaged: it has no frame header")
    icc = b"".join(profile[number] for number in sorted(profile)) or None
    iptc = _resource(resources, _IPTC)
    return JpegInfo(*frame, dpi, tuple(comments), iptc, adobe, exif, xmp, icc)


def decode(data: bytes, info: JpegInfo) -> tuple[np.ndarray, tuple[str, ...]]:
    """The pixels of a special JPEG: H, W or H, W, 3 of uint8 or uint16; and notes.

    Raises
    ------
    ImageFileError
        It is damaged or of a kind that is not read.
    """
    try:
        pixels = np.asarray(imagecodecs.jpeg8_decode(data))
    except Exception as error:  # whatever libjpeg says of damaged bytes
        raise ImageFileError(f"the JPEG is damaged or of a kind not supported: {error}") from error
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (3, 4)):
        raise ImageFileError(f"a JPEG of {info.components} components is not read")
    notes = []
    if info.bits != 8:
        pixels = depth.widened(pixels, (1 << info.bits) - 1)
        if info.bits != 16:
            notes.append(depth.note(info.bits, pixels.dtype))
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        # With Adobe's marker the samples are of light (255: no ink), without it of ink.
        light = (pixels if info.adobe else ~pixels).astype(np.uint32)
        top = int(np.iinfo(pixels.dtype).max)
        pixels = ((light[..., :3] * light[..., 3:] + top // 2) // top).astype(pixels.dtype)
        notes.append("CMYK is converted to RGB without its profile")
    return pixels, tuple(notes)


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


def with_comments(data: bytes, comments: tuple[str, ...], iptc: bytes | None) -> bytes:
    """The JPEG with comments and an IPTC record, behind its application segments.

    A comment that is longer than a segment is cut at 65,533 bytes; an IPTC record of that size is
    left out.
    """
    added = b"".join(_segment(_COM, text.encode()[:MAX_SEGMENT]) for text in comments)
    if iptc is not None and len(iptc) <= MAX_SEGMENT - len(_PHOTOSHOP) - 13:
        block = b"8BIM" + struct.pack(">HHI", _IPTC, 0, len(iptc)) + iptc + b"\0" * (len(iptc) % 2)
        added += _segment(_APP13, _PHOTOSHOP + block)
    start = 2
    while data[start] == 0xFF and 0xE0 <= data[start + 1] <= 0xEF:
        start += 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    return data[:start] + added + data[start:]


def _decoded(comment: bytes) -> str:
    comment = comment.rstrip(b"\0")
    try:
        return comment.decode()
    except UnicodeDecodeError:
        return comment.decode("latin-1")


def _resource(blocks: bytes, wanted: int) -> bytes | None:
    """One of Photoshop's image resources: "8BIM", number, name, length, data."""
    position = 0
    while position + 12 <= len(blocks) and blocks[position : position + 4] == b"8BIM":
        (number,) = struct.unpack_from(">H", blocks, position + 4)
        name = blocks[position + 6] + 1
        position += 6 + name + name % 2
        if position + 4 > len(blocks):
            return None
        (length,) = struct.unpack_from(">I", blocks, position)
        body = blocks[position + 4 : position + 4 + length]
        if number == wanted:
            return body if len(body) == length and body else None
        position += 4 + length + length % 2
    return None


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def _density(body: memoryview) -> tuple[float, float] | None:
    unit, x, y = struct.unpack_from(">BHH", body, 7)
    per_inch = {1: 1.0, 2: 2.54}.get(unit)  # unit 0 gives the pixel's aspect ratio only
    if per_inch is None or not x or not y:
        return None
    return x * per_inch, y * per_inch
