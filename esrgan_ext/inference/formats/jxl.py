"""JPEG XL through imagecodecs (libjxl): its header, and samples of any depth over their whole type.
Reference: ISO/IEC 18181-1, D.2 (SizeHeader) and D.3 (ImageMetadata)."""

from __future__ import annotations

from dataclasses import dataclass

import imagecodecs
import numpy as np

from esrgan_ext.errors import ImageFileError
from esrgan_ext.inference.formats import depth

CODESTREAM_SIGNATURE = b"\xff\x0a"
BOX_SIGNATURE = b"\0\0\0\x0cJXL \r\n\x87\n"
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
_METADATA_BOXES = {b"Exif": "EXIF", b"xml ": "XMP"}


@dataclass(frozen=True)
class JxlInfo:
    """Size as displayed but for the orientation, bits a sample (None: floats), animation, and the
    metadata that are there."""

    width: int
    height: int
    bits: int | None
    animated: bool
    present: tuple[str, ...] = ()


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


def inspect(data: bytes | memoryview) -> JxlInfo:
    """Read the header.

    Raises
    ------
    ImageFileError
        It is cut off or damaged.
    """
    head, present = bytes(data), []
    if head.startswith(BOX_SIGNATURE):
        codestream = b""
        position = 0
        while position + 8 <= len(head):
            length, kind = (
                int.from_bytes(head[position : position + 4], "big"),
                head[position + 4 : position + 8],
            )
            start = position + 8
            if length == 1:
                length, start = int.from_bytes(head[start : start + 8], "big"), start + 8
            end = len(head) if length == 0 else position + length
            if end < start:
                break
            if kind in (b"jxlc", b"jxlp") and not codestream:
                codestream = head[start + (4 if kind == b"jxlp" else 0) : end]
            elif kind in _METADATA_BOXES:
                present.append(_METADATA_BOXES[kind])
            position = end
        head = codestream
    if head[:2] != CODESTREAM_SIGNATURE:
        raise ImageFileError("the JPEG XL file is truncated or damaged: it has no codestream")
    bits = _Bits(head[2:])
    width, height = bits.size()
    animated, depth_bits = False, 8
    if not bits.take(1):  # not all fields have their default
        if bits.take(1):  # extra fields
            bits.take(3)  # the orientation, which the decoder applies
            if bits.take(1):
                bits.size()
            if bits.take(1):
                raise ImageFileError("a JPEG XL file with a preview is not read")
            animated = bool(bits.take(1))
        if not animated:
            if bits.take(1):
                return JxlInfo(width, height, None, False, tuple(present))
            selector = bits.take(2)
            depth_bits = (8, 10, 12)[selector] if selector < 3 else 1 + bits.take(6)
    return JxlInfo(width, height, depth_bits, animated, tuple(present))


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
    if info.present:
        notes.append(f"JPEG XL's {', '.join(info.present)} not kept")
    if pixels.dtype.kind == "u" and info.bits not in (None, 8, 16):
        pixels = depth.widened(pixels, (1 << info.bits) - 1)
        notes.append(depth.note(info.bits, pixels.dtype))
    if pixels.dtype == np.float16:
        pixels = pixels.astype(np.float32)
    if pixels.dtype.name not in ("uint8", "uint16", "float32"):
        raise ImageFileError(f"a JPEG XL file of {pixels.dtype} is not read")
    return (pixels[..., 0] if pixels.shape[2:] == (1,) else pixels), tuple(notes)


def encode(pixels: np.ndarray) -> bytes:
    """A lossless file of H, W or H, W, C with C = 2, 3, 4 of uint8, uint16 or float32."""
    return bytes(imagecodecs.jpegxl_encode(np.ascontiguousarray(pixels), lossless=True))
