"""JPEG 2000, as a JP2 file or a bare codestream, through imagecodecs (OpenJPEG): OpenCV leaves
depths between 8 and 16 bits at the low end, and knows neither gray+alpha nor small images.
Reference: ISO/IEC 15444-1, annexes A (codestream) and I (JP2)."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import imagecodecs
import numpy as np

from esrgan_ext.errors import ImageFileError
from esrgan_ext.inference.formats import depth
from esrgan_ext.inference.formats.boxes import box, boxes
from esrgan_ext.inference.formats.metadata import Metadata

BOX_SIGNATURE = b"\0\0\0\x0cjP  \r\n\x87\n"
CODESTREAM_SIGNATURE = b"\xff\x4f\xff\x51"
_PREMULTIPLIED = 2  # the type of a channel (I.5.3.6)
_CMYK, _LAB = 12, 14  # enumerated colour spaces (I.5.3.3 and 15444-2)
# The identities of the two UUID boxes that programs agree on: Adobe's XMP specification, part 3,
# and the one that JPEG's EXIF segment moved into.
_XMP_BOX = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_EXIF_BOX = b"JpgTiffExif->JP2"
_METRES_IN_INCH = 0.0254


@dataclass(frozen=True)
class Jp2Info:
    """Header of a JPEG 2000 file, from its boxes and codestream.

    Attributes
    ----------
    bits
        Bits a sample of each component as coded.
    signed
        Whether any component is.
    alpha
        The number of the channel that is opacity, or None. Without a channel definition the last
        of two or four is taken for it, as every reader does.
    palette
        Bits of each column of a palette that samples are numbers of (the decoder looks them up);
        empty without one.
    premultiplied
        The colours are those of the picture times its opacity.
    icc
        A profile, whole.
    colour_space
        The enumerated colour space (16 sRGB, 17 gray, 18 YCC), or None.
    exif, xmp
        Contents of its UUID boxes.
    dpi
        Horizontal and vertical resolution of the capture, else of the display, in pixels per inch.
    """

    width: int
    height: int
    bits: tuple[int, ...]
    signed: bool
    alpha: int | None
    palette: tuple[int, ...] = ()
    icc: bytes | None = None
    colour_space: int | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    premultiplied: bool = False

    @property
    def metadata(self) -> Metadata:
        """Metadata to carry over."""
        return Metadata(exif=self.exif, icc=self.icc, xmp=self.xmp, dpi=self.dpi)


def inspect(data: bytes | memoryview) -> Jp2Info:
    """Read the boxes and the codestream's SIZ segment.

    Raises
    ------
    ImageFileError
        There is no codestream, or its header is cut off.
    """
    view = memoryview(data)
    definition: dict[int, int] | None = None
    palette: tuple[int, ...] = ()
    icc, colour_space = None, None
    identified: dict[bytes, bytes] = {}
    resolutions: dict[bytes, tuple[float, float]] = {}
    codestream: memoryview | None = view
    if view[:12] == BOX_SIGNATURE:
        codestream = None
        for kind, body in boxes(view):
            if kind == b"jp2h":
                for inner, content in boxes(body):
                    if inner == b"cdef":
                        definition = _definition(content)
                    elif inner == b"pclr":
                        columns = bytes(content[3 : 3 + content[2]]) if len(content) > 2 else b""
                        palette = tuple((depth & 0x7F) + 1 for depth in columns) or (8,)
                    elif inner == b"colr" and len(content) > 3:
                        if content[0] == 1 and len(content) >= 7:
                            (colour_space,) = struct.unpack_from(">I", content, 3)
                        elif content[0] in (2, 3):  # a restricted profile, any profile (JPX)
                            icc = bytes(content[3:])
                    elif inner == b"res ":
                        resolutions |= _resolutions(content)
            elif kind == b"uuid":
                identified.setdefault(bytes(body[:16]), bytes(body[16:]))
            elif kind == b"jp2c" and codestream is None:
                codestream = body
    if codestream is None or codestream[:4] != CODESTREAM_SIGNATURE:
        raise ImageFileError("the JPEG 2000 file is truncated or damaged: it has no codestream")
    try:
        x1, y1, x0, y0 = struct.unpack_from(">4I", codestream, 8)
        (count,) = struct.unpack_from(">H", codestream, 40)
        depths = [codestream[42 + 3 * k] for k in range(count)]
    except (struct.error, IndexError) as error:
        raise ImageFileError("the JPEG 2000 file is truncated: its header is cut off") from error
    if definition is not None:
        alpha = next((channel for channel, kind in definition.items() if kind in (1, 2)), None)
    else:
        alpha = count - 1 if count in (2, 4) and colour_space not in (_CMYK, _LAB) else None
    return Jp2Info(
        max(x1 - x0, 0), max(y1 - y0, 0), tuple((d & 0x7F) + 1 for d in depths),
        any(d & 0x80 for d in depths), alpha, palette, icc, colour_space,
        exif=identified.get(_EXIF_BOX, b"").removeprefix(b"Exif\0\0") or None,
        xmp=identified.get(_XMP_BOX) or None,
        dpi=resolutions.get(b"resc") or resolutions.get(b"resd"),
        premultiplied=alpha is not None and (definition or {}).get(alpha) == _PREMULTIPLIED,
    )  # fmt: skip


def decode(data: bytes) -> tuple[np.ndarray, tuple[str, ...]]:
    """The pixels (H, W or H, W, C of uint8 or uint16 over all of their range) and notes.

    Raises
    ------
    ImageFileError
        The file is damaged or of a kind that is not read.
    """
    info = inspect(data)
    if info.colour_space in (_CMYK, _LAB):
        name = "CMYK" if info.colour_space == _CMYK else "CIELAB"
        raise ImageFileError(f"a JPEG 2000 file in {name} is not read: save it as RGB")
    bits = max(info.bits, default=0)
    if not info.bits or len(set(info.bits)) > 1 or bits > 16:
        raise ImageFileError(
            f"a JPEG 2000 file with components of {', '.join(map(str, info.bits))} bits is not "
            "read; all must have the same, up to 16"
        )
    try:
        pixels = np.asarray(imagecodecs.jpeg2k_decode(data))
    except Exception as error:  # whatever OpenJPEG says of damaged bytes
        raise ImageFileError(f"the JPEG 2000 file is truncated or damaged: {error}") from error
    if info.signed:
        pixels = (pixels.astype(np.int32) + (1 << bits - 1)).astype(np.uint32)
    if info.palette and (len(set(info.palette)) > 1 or info.palette[0] > 16):
        raise ImageFileError("a JPEG 2000 palette of columns of several depths is not read")
    largest = (1 << (info.palette[0] if info.palette else bits)) - 1
    pixels = depth.widened(pixels, largest)
    kept, notes = pixels, []
    if not info.palette and bits not in (8, 16):
        notes.append(depth.note(bits, pixels.dtype))
    if pixels.ndim == 3:
        channels = pixels.shape[2]
        colours = 3 if channels - (info.alpha is not None) >= 3 else 1
        wanted = list(range(colours))
        if info.alpha is not None and info.alpha < channels:
            wanted.append(info.alpha)
        if len(wanted) < channels:
            notes.append(
                f"{channels - len(wanted)} of its {channels} components are neither colour nor "
                "opacity: left out"
            )
        kept = pixels[..., 0] if wanted == [0] else pixels[..., wanted]
        if info.premultiplied:
            kept = depth.unpremultiplied(kept)
            notes.append("its colours were premultiplied by its opacity: they are not any more")
    return np.ascontiguousarray(kept), tuple(notes)


def encode(pixels: np.ndarray, metadata: Metadata, *, bare: bool = False) -> bytes:
    """A lossless JP2 with its metadata, or a bare codestream, which has no place for any.

    Parameters
    ----------
    pixels
        H, W or H, W, C with C = 2, 3, 4, uint8 or uint16.
    metadata
        EXIF, profile (which must fit the pixels), XMP and resolution are written.
    bare
        Write the codestream alone.
    """
    data = bytes(
        imagecodecs.jpeg2k_encode(
            np.ascontiguousarray(pixels), reversible=True, codecformat="j2k" if bare else "jp2"
        )
    )
    return data if bare else _with_metadata(data, metadata)


def _with_metadata(data: bytes, metadata: Metadata) -> bytes:
    """The JP2 with a profile and a resolution in its header, and UUID boxes before its pixels."""
    out = []
    for kind, body in boxes(memoryview(data)):
        if kind == b"jp2h":
            inside = []
            for inner, content in boxes(body):
                if inner == b"colr" and metadata.icc is not None:
                    content = memoryview(b"\2\0\0" + metadata.icc)
                inside.append(box(inner, content))
            if metadata.dpi is not None:
                inside.append(box(b"res ", box(b"resc", _resolution(metadata.dpi))))
            body = memoryview(b"".join(inside))
        elif kind == b"jp2c":
            if metadata.exif is not None:
                out.append(box(b"uuid", _EXIF_BOX + metadata.exif))
            if metadata.xmp is not None:
                out.append(box(b"uuid", _XMP_BOX + metadata.xmp))
        out.append(box(kind, body))
    return b"".join(out)


def _resolutions(content: memoryview) -> dict[bytes, tuple[float, float]]:
    """Pixels per inch, horizontal and vertical, by the type of the box ("resc", "resd"): samples
    a metre as fractions times powers of ten (I.5.3.7), vertical first."""
    found = {}
    for kind, body in boxes(content):
        if kind in (b"resc", b"resd") and len(body) >= 10:
            vn, vd, hn, hd, ve, he = struct.unpack_from(">4H2b", body)
            if vn and vd and hn and hd:
                vertical, horizontal = vn / vd * 10.0**ve, hn / hd * 10.0**he
                found[kind] = (horizontal * _METRES_IN_INCH, vertical * _METRES_IN_INCH)
    return found


def _resolution(dpi: tuple[float, float]) -> bytes:
    """A resolution box's content, to four digits or better."""
    exponents, fractions = [], []
    for value in (dpi[1], dpi[0]):
        a_metre = value / _METRES_IN_INCH
        exponent = max(-128, min(127, math.floor(math.log10(a_metre)) - 3))
        exponents.append(exponent)
        fractions += [max(1, round(a_metre / 10.0**exponent)), 1]
    return struct.pack(">4H2b", *fractions, *exponents)


def _definition(content: memoryview) -> dict[int, int]:
    """Channel number to type (0 colour, 1 opacity, 2 premultiplied opacity)."""
    if len(content) < 2:
        return {}
    (count,) = struct.unpack_from(">H", content, 0)
    found = {}
    for number in range(min(count, (len(content) - 2) // 6)):
        channel, kind, _ = struct.unpack_from(">3H", content, 2 + 6 * number)
        found[channel] = kind
    return found
