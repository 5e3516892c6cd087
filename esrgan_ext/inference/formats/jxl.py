"""JPEG XL through imagecodecs (libjxl): its header, and samples of any depth over their whole type.
Reference: ISO/IEC 18181-1, D.2 (SizeHeader) and D.3 (ImageMetadata)."""

from __future__ import annotations

from dataclasses import dataclass

import imagecodecs
import numpy as np

from esrgan_ext.errors import ImageFileError
from esrgan_ext.inference.formats import depth, exif
from esrgan_ext.inference.formats.boxes import box, boxes
from esrgan_ext.inference.formats.metadata import Metadata

CODESTREAM_SIGNATURE = b"\xff\x0a"
BOX_SIGNATURE = b"\0\0\0\x0cJXL \r\n\x87\n"
_LARGEST_METADATA = 1 << 24
_HEADER_BYTES = 66  # what _Bits reads, behind the signature
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}


@dataclass(frozen=True)
class JxlInfo:
    """Size as displayed but for the orientation, bits a sample (None: floats), animation, and
    whether its colours are sRGB's (None: not read so far)."""

    width: int
    height: int
    bits: int | None
    animated: bool
    srgb: bool | None = None


class _Bits:
    """Bits of a codestream, the lowest of each byte first."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data[:64], "little"), 8 * min(len(data), 64)

    def take(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise ImageFileError("the JPEG XL file is truncated: its header is cut off")
        found = self._value & ((1 << count) - 1)
        self._value >>= count
        return found

    def choice(self, widths: tuple[int, int, int, int]) -> int:
        return self.take(widths[self.take(2)])

    def size(self) -> tuple[int, int]:
        small = self.take(1)

        def side() -> int:
            return 8 * (self.take(5) + 1) if small else self.choice((9, 13, 18, 30)) + 1

        height = side()
        ratio = self.take(3)
        if ratio:
            above, below = _RATIOS[ratio]
            return height * above // below, height
        return side(), height

    def sample_bits(self) -> int | None:
        """BitDepth: bits of an integer sample, None for floats."""
        floats, selector = self.take(1), self.take(2)
        bits = ((32, 16, 24) if floats else (8, 10, 12))[selector] if selector < 3 else 0
        bits = bits or 1 + self.take(6)
        if floats:
            self.take(4)  # bits of the exponent, less one
        return None if floats else bits

    def is_srgb(self) -> bool | None:
        """Fields after BitDepth, as far as ColourEncoding; None where extra channels that are no
        plain alpha lie between."""
        try:
            self.take(1)  # whether 16-bit buffers suffice
            extra = self.enumerated((0, 1, 2, 1), (0, 0, 4, 12))
            if any(not self.take(1) for _ in range(extra)):
                return None
            self.take(1)  # whether pixels are in XYB, which the decoder turns back
            if self.take(1):
                return True
            if self.take(1):  # an ICC profile
                return False
            space = self.enumerated()
            white, primaries = self.enumerated(), 1
            if space != 1:  # gray has no primaries
                primaries = self.enumerated()
            transfer = None if self.take(1) else self.enumerated()  # a gamma, or a name
            return (white, primaries, transfer) == (1, 1, 13)
        except ImageFileError:  # longer than the bytes that are looked at
            return None

    def enumerated(
        self, start: tuple[int, ...] = (0, 1, 2, 18), widths: tuple[int, ...] = (0, 0, 4, 6)
    ) -> int:
        """U32, by default with an enumeration's distributions."""
        selector = self.take(2)
        return start[selector] + self.take(widths[selector])


def inspect(data: bytes | memoryview) -> JxlInfo:
    """Read the header.

    Raises
    ------
    ImageFileError
        It is cut off or damaged.
    """
    head = bytes(data[:12])
    if head == BOX_SIGNATURE:
        head = b""
        for kind, body in boxes(memoryview(data)):
            if kind in (b"jxlc", b"jxlp"):
                head = bytes(body[4 if kind == b"jxlp" else 0 :][:_HEADER_BYTES])
                break
    else:
        head = bytes(data[:_HEADER_BYTES])
    if head[:2] != CODESTREAM_SIGNATURE:
        raise ImageFileError("the JPEG XL file is truncated or damaged: it has no codestream")
    bits = _Bits(head[2:])
    width, height = bits.size()
    if bits.take(1):  # all fields have their default: 8 bits of sRGB
        return JxlInfo(width, height, 8, False, True)
    animated = False
    if bits.take(1):  # extra fields
        bits.take(3)  # the orientation, which the decoder applies
        if bits.take(1):
            bits.size()
        if bits.take(1):
            raise ImageFileError("a JPEG XL file with a preview is not read")
        animated = bool(bits.take(1))
        if animated:
            return JxlInfo(width, height, 8, True)
    return JxlInfo(width, height, bits.sample_bits(), False, bits.is_srgb())


def decode(data: bytes) -> tuple[np.ndarray, tuple[str, ...]]:
    """The pixels: H, W or H, W, C of uint8, uint16 or float32; and notes.

    Raises
    ------
    ImageFileError
        The file is damaged or of a kind that is not read.
    """
    info = inspect(data)
    try:
        pixels = np.asarray(imagecodecs.jpegxl_decode(data))
    except Exception as error:  # whatever libjxl says of damaged bytes
        raise ImageFileError(f"the JPEG XL file is truncated or damaged: {error}") from error
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 2, 3, 4)):
        raise ImageFileError(f"a JPEG XL file of shape {pixels.shape} is not read")
    notes = []
    if info.srgb is False:
        notes.append("JPEG XL's colour profile is not kept: its colours are not sRGB's")
    if pixels.dtype.kind == "u" and info.bits not in (None, 8, 16):
        pixels = depth.widened(pixels, (1 << info.bits) - 1)
        notes.append(depth.note(info.bits, pixels.dtype))
    if pixels.dtype == np.float16:
        pixels = pixels.astype(np.float32)
    if pixels.dtype.name not in ("uint8", "uint16", "float32"):
        raise ImageFileError(f"a JPEG XL file of {pixels.dtype} is not read")
    return (pixels[..., 0] if pixels.shape[2:] == (1,) else pixels), tuple(notes)


def metadata(data: bytes) -> tuple[Metadata, tuple[str, ...]]:
    """EXIF and XMP out of a container's boxes, packed with Brotli or not; notes.

    The decoder turns the picture upright by the codestream's own orientation, so EXIF's is set
    to 1 (18181-2: the codestream's prevails).
    """
    found: dict[bytes, bytes] = {}
    notes = []
    if data.startswith(BOX_SIGNATURE):
        for kind, body in boxes(memoryview(data)):
            content = bytes(body) if kind in (b"Exif", b"xml ") else b""
            if kind == b"brob" and bytes(body[:4]) in (b"Exif", b"xml "):
                kind = bytes(body[:4])
                unpacked = _unpacked(body[4:])
                if unpacked is None:
                    notes.append("a damaged or very large box of metadata is left out")
                content = unpacked or b""
            if content:
                found.setdefault(kind, content)
    exif_block = _exif_block(found.get(b"Exif", b""))
    return Metadata(exif=exif_block, xmp=found.get(b"xml ")), tuple(notes)


def encode(pixels: np.ndarray, metadata: Metadata) -> bytes:
    """A lossless file of H, W or H, W, C with C = 2, 3, 4 of uint8, uint16 or float32, with its
    EXIF and XMP."""
    data = bytes(
        imagecodecs.jpegxl_encode(np.ascontiguousarray(pixels), lossless=True, usecontainer=True)
    )
    added = b""
    if metadata.exif is not None:
        added += box(b"Exif", bytes(4) + metadata.exif)  # the TIFF structure follows at once
    if metadata.xmp is not None:
        added += box(b"xml ", metadata.xmp)
    return data + added


def _unpacked(content: memoryview) -> bytes | None:
    """A box's content unpacked; None where it is damaged or larger than metadata ever are."""
    try:
        return bytes(imagecodecs.brotli_decode(bytes(content), out=_LARGEST_METADATA)) or None
    except Exception:  # whatever Brotli says of damaged bytes
        return None


def _exif_block(content: bytes) -> bytes | None:
    """The TIFF structure of an Exif box, which states how far behind its own head it begins."""
    if len(content) < 4:
        return None
    block = content[4 + int.from_bytes(content[:4], "big") :].removeprefix(b"Exif\0\0")
    return exif.upright(block) if block[:4] in (b"II*\0", b"MM\0*") else None
