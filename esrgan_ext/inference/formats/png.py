"""PNG: whether a file is complete, the chunks that OpenCV drops (pHYs, iTXt with XMP, the gray
value that stands for transparent), and an encoder, in half the time of OpenCV's. Reference: PNG
specification, third edition (W3C, 2025)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import imagecodecs
import numpy as np

from esrgan_ext.errors import ImageFileError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_XMP_KEYWORD = b"XML:com.adobe.xmp"
# ImageMagick's EXIF, IPTC and XMP in hexadecimal: of the source's size and orientation.
_RAW_PROFILE = "Raw profile type "
_COLOUR_CHUNKS = (b"gAMA", b"cHRM", b"sRGB")
_INCH_IN_METRES = 0.0254
# An XMP packet beyond this is no photograph's metadata but a decompression bomb.
_MAX_TEXT_BYTES = 1 << 24

GRAY, RGB, PALETTE, GRAY_ALPHA, RGBA = 0, 2, 3, 4, 6
_TYPE_OF = {1: GRAY, 2: GRAY_ALPHA, 3: RGB, 4: RGBA}  # by the number of channels

# What a photo that was enlarged takes, against OpenCV's default: half the time, and 0.86 of the
# bytes; level 2 takes 1.4 times as long as 1 for 2 % less (python -m benchmarks.png_level).
DEFAULT_LEVEL = 1
MOST_EFFORT = 12
# Rows filtered at a time: they stay in the cache.
_STRIP = 16
# libdeflate compresses a whole image at once; a larger one goes through zlib in parts, which takes
# longer, but neither a second copy of the image nor a chunk beyond PNG's limit of 2 GiB.
_AT_ONCE = 1 << 29


@dataclass(frozen=True)
class PngInfo:
    """Header of a PNG, from its chunks.

    Attributes
    ----------
    bits
        Bits a sample (1, 2, 4, 8, 16).
    texts
        Keyword and text of the text chunks, but for XMP's.
    colour_type
        0 gray, 2 RGB, 3 palette, 4 gray+alpha, 6 RGBA.
    transparent_gray
        The stored gray value that means transparent (a gray PNG with tRNS), else None.
    has_alpha
        An alpha channel, or transparency of any other kind.
    """

    width: int
    height: int
    bits: int
    colour_type: int
    has_alpha: bool = False
    transparent_gray: int | None = None
    animated: bool = False
    dpi: tuple[float, float] | None = None
    xmp: bytes | None = None
    colour_chunks: tuple[tuple[bytes, bytes], ...] = ()
    texts: tuple[tuple[str, str], ...] = ()


def chunks(data: bytes | memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Yield (type, data) of every chunk up to and including IEND, checking lengths and CRCs.

    Raises
    ------
    ImageFileError
        A chunk is cut off or damaged, or the file ends without IEND. A damaged ancillary
        chunk is passed over, as the specification asks.
    """
    view = memoryview(data)
    position = len(SIGNATURE)
    while True:
        if position + 8 > len(view):
            raise ImageFileError("the PNG is truncated: it ends before its IEND chunk")
        (length,) = struct.unpack_from(">I", view, position)
        kind = bytes(view[position + 4 : position + 8])
        end = position + 8 + length
        if end + 4 > len(view):
            raise ImageFileError(
                f"the PNG is truncated: its {_printable(kind)} chunk needs "
                f"{end + 4 - len(view)} more bytes"
            )
        body = view[position + 8 : end]
        (crc,) = struct.unpack_from(">I", view, end)
        intact = zlib.crc32(view[position + 4 : end]) == crc
        if not intact and not kind[0] & 0x20:  # bit 5 of the first letter: ancillary
            raise ImageFileError(f"the PNG is damaged: its {_printable(kind)} chunk fails its CRC")
        if intact:
            yield kind, body
        if kind == b"IEND":
            return
        position = end + 4


def inspect(data: bytes | memoryview, *, complete: bool = True) -> PngInfo:
    """Read the chunks of a PNG.

    Parameters
    ----------
    data
        The file, or its beginning.
    complete
        Demand the chunks up to IEND; otherwise stop at the first pixels, or where `data` ends.

    Raises
    ------
    ImageFileError
        The file is truncated or damaged.
    """
    width = height = bits = colour_type = 0
    has_alpha = animated = pixels_seen = False
    transparent_gray: int | None = None
    dpi: tuple[float, float] | None = None
    xmp: bytes | None = None
    colour: list[tuple[bytes, bytes]] = []
    texts: list[tuple[str, str]] = []
    for number, (kind, body) in enumerate(chunks(data)):
        if number == 0:
            if kind != b"IHDR" or len(body) != 13:
                raise ImageFileError("the PNG is damaged: it does not begin with an IHDR chunk")
            width, height, bits, colour_type = struct.unpack_from(">IIBB", body)
            has_alpha = colour_type in (GRAY_ALPHA, RGBA)
        elif kind == b"tRNS":
            has_alpha = True
            if colour_type == GRAY and len(body) == 2:
                (transparent_gray,) = struct.unpack(">H", body)
        elif kind == b"acTL":
            animated = True
        elif kind == b"pHYs" and len(body) == 9:
            dpi = _density(body) or dpi
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            text = _text(kind, bytes(body))
            if text is not None and text[0] == _XMP_KEYWORD.decode():
                xmp = text[1].encode() or xmp
            elif text is not None and not text[0].startswith(_RAW_PROFILE):
                texts.append(text)
        elif kind in _COLOUR_CHUNKS and len(body) <= 32:
            colour.append((kind, bytes(body)))
        elif kind == b"IDAT":
            pixels_seen = True
            if not complete:
                break
    if complete and not pixels_seen:
        raise ImageFileError("the PNG is damaged: it has no pixels (no IDAT chunk)")
    return PngInfo(
        width, height, bits, colour_type, has_alpha, transparent_gray, animated, dpi, xmp,
        tuple(colour), tuple(texts),
    )  # fmt: skip


def pixel_chunks(data: bytes) -> bytes:
    """The PNG with the chunks alone that decide about pixels and about the metadata OpenCV
    carries. libpng complains on stderr about the others, which nobody reads here."""
    kept = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf", b"iCCP", b"cICP")
    return SIGNATURE + b"".join(_chunk(kind, body) for kind, body in chunks(data) if kind in kept)


def insert(
    data: bytes,
    *,
    dpi: tuple[float, float] | None = None,
    xmp: bytes | None = None,
    colour_chunks: tuple[tuple[bytes, bytes], ...] = (),
    texts: tuple[tuple[str, str], ...] = (),
) -> bytes:
    """The PNG with a resolution, an XMP packet, texts and colour chunks added after its IHDR.

    XMP goes into an iTXt chunk, as Adobe's specification (part 3, 1.1.5) demands; OpenCV writes
    it into a tEXt chunk, where other programs do not look. A chunk that the file has already is
    left alone.
    """
    present = {kind for kind, _ in chunks(data)}
    added = [_chunk(kind, body) for kind, body in colour_chunks if kind not in present]
    if dpi is not None and b"pHYs" not in present:
        per_metre = [min(max(round(value / _INCH_IN_METRES), 0), 2**31 - 1) for value in dpi]
        added.append(_chunk(b"pHYs", struct.pack(">IIB", *per_metre, 1)))
    if xmp is not None:
        added.append(_chunk(b"iTXt", _XMP_KEYWORD + b"\0\0\0\0\0" + xmp))
    after_ihdr = len(SIGNATURE) + 8 + 13 + 4
    return data[:after_ihdr] + b"".join(added) + text_chunks(texts) + data[after_ihdr:]


def metadata_chunks(
    *, exif: bytes | None, icc: bytes | None, cicp: bytes | None
) -> list[tuple[bytes, bytes]]:
    """Chunks for metadata that OpenCV writes into the images it encodes, for those it cannot."""
    made = []
    if cicp:
        made.append((b"cICP", cicp))
    if icc:
        made.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc)))
    if exif:
        made.append((b"eXIf", exif))
    return made


def encode(pixels: np.ndarray, *, level: int = DEFAULT_LEVEL) -> bytes:
    """Encode pixels, without any metadata.

    Parameters
    ----------
    pixels
        H, W (gray) or H, W, C with C = 2 (gray+alpha), 3 (RGB) or 4 (RGBA), of uint8 or uint16.
    level
        Effort of compression: 0 (none) to 12, as libdeflate counts.
    """
    height, width = pixels.shape[:2]
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    big_endian = pixels.astype(pixels.dtype.newbyteorder(">"), copy=False)
    rows = np.ascontiguousarray(big_endian).view(np.uint8).reshape(height, -1)
    step = channels * pixels.dtype.itemsize  # bytes a pixel: a filter looks one pixel back
    header = struct.pack(
        ">IIBBBBB", width, height, 8 * pixels.dtype.itemsize, _TYPE_OF[channels], 0, 0, 0
    )
    return b"".join(
        (
            SIGNATURE,
            _chunk(b"IHDR", header),
            *(_chunk(b"IDAT", part) for part in _compressed(rows, step, level)),
            _chunk(b"IEND", b""),
        )
    )


def _compressed(rows: np.ndarray, step: int, level: int) -> Iterator[bytes]:
    """The zlib stream of the filtered rows, in parts."""
    height, length = rows.shape
    if height * (length + 1) <= _AT_ONCE:
        filtered = np.empty((height, length + 1), np.uint8)
        for top in range(0, height, _STRIP):
            filtered[top : top + _STRIP] = _filtered(rows, top, step)
        data: Any = filtered.reshape(-1)
        yield bytes(imagecodecs.deflate_encode(data, level=level, raw=False))
        return
    stream = zlib.compressobj(min(level, 9))
    strip = max(_STRIP, _AT_ONCE // 16 // (length + 1))
    for top in range(0, height, strip):
        yield stream.compress(_filtered(rows[: top + strip], top, step, strip).data)
    yield stream.flush()


def _filtered(rows: np.ndarray, top: int, step: int, strip: int = _STRIP) -> np.ndarray:
    """A strip of rows, each with the filter in front that suits it.

    Filters 1 (difference to the left), 2 (to the row above) and 3 (to the mean of both); a row
    takes the one with the smallest sum of absolute differences, the specification's own advice
    (12.7). The fourth, Paeth's, takes longer than compressing and saves 1 % at most.
    """
    current = rows[top : top + strip]
    left, above = np.zeros_like(current), np.zeros_like(current)
    left[:, step:] = current[:, :-step]
    above[1:] = current[:-1]
    if top:
        above[0] = rows[top - 1]
    # The mean rounded down, without the ninth bit of a sum: a + b = 2 (a & b) + (a ^ b).
    mean = (left ^ above) >> 1
    mean += left & above
    differences = [np.subtract(current, guess, out=guess) for guess in (left, above, mean)]
    costs = [
        cv2.reduce(np.abs(each.view(np.int8)).view(np.uint8), 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S)
        for each in differences
    ]
    best = np.argmin(np.concatenate(costs, axis=1), axis=1)
    result = np.empty((len(current), current.shape[1] + 1), np.uint8)
    result[:, 0] = best + 1
    for number, difference in enumerate(differences):
        chosen = best == number
        result[chosen, 1:] = difference[chosen]
    return result


def _chunk(kind: bytes, body: bytes | memoryview) -> bytes:
    crc = zlib.crc32(body, zlib.crc32(kind))
    return b"".join((struct.pack(">I", len(body)), kind, body, struct.pack(">I", crc)))


def _printable(kind: bytes) -> str:
    return kind.decode("ascii") if kind.isalpha() else repr(kind)


def _density(body: memoryview) -> tuple[float, float] | None:
    x, y, unit = struct.unpack(">IIB", body)
    if unit != 1 or not x or not y:  # unit 0 gives the pixel's aspect ratio only
        return None
    return x * _INCH_IN_METRES, y * _INCH_IN_METRES


def _text(kind: bytes, body: bytes) -> tuple[str, str] | None:
    """Keyword and text of a tEXt, zTXt or iTXt chunk; None where it is damaged or a bomb.

    iTXt: keyword, 0, compressed?, method, language, 0, translated keyword, 0, text in UTF-8.
    """
    keyword, separator, rest = body.partition(b"\0")
    if not separator or not 1 <= len(keyword) <= 79:
        return None
    compressed = kind == b"zTXt"
    encoding = "latin-1"
    if compressed:
        rest = rest[1:]  # the method
    elif kind == b"iTXt":
        parts = rest[2:].split(b"\0", 2)
        if len(rest) < 2 or len(parts) < 3:
            return None
        compressed, rest, encoding = bool(rest[0]), parts[2], "utf-8"
    if compressed:
        try:
            rest = zlib.decompressobj().decompress(rest, _MAX_TEXT_BYTES)
        except zlib.error:
            return None
    return keyword.decode("latin-1"), rest.decode(encoding, errors="replace")


def text_chunks(texts: tuple[tuple[str, str], ...]) -> bytes:
    """Chunks for keywords and texts: tEXt for ASCII, else iTXt, which says that it is UTF-8."""
    made = []
    for keyword, text in texts:
        name = keyword.encode("latin-1", errors="replace")[:79]
        if text.isascii() and "\0" not in text:
            made.append(_chunk(b"tEXt", name + b"\0" + text.encode()))
        else:
            body = text.replace("\0", "").encode()
            made.append(_chunk(b"iTXt", name + b"\0\0\0\0\0" + body))
    return b"".join(made)
