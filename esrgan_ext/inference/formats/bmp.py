"""BMP: its header, resolution, and pixels of every kind but JPEG and PNG in it. OpenCV takes files
of OS/2 for gray, 5 bits' white for 248 and fields for bytes. Reference: BITMAPCOREHEADER,
BITMAPINFOHEADER and BITMAPV4HEADER in the Windows SDK."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from esrgan_ext.errors import ImageFileError
from esrgan_ext.inference.formats import depth

_INCH_IN_METRES = 0.0254
_RGB, _RLE8, _RLE4, _FIELDS, _ALPHA_FIELDS = 0, 1, 2, 3, 6  # compressions
_CORE = 12  # the size of OS/2's header
_DENSITY_AT = 38
# Of 16 bits without stated fields, of 24 and of 32: red, green, blue, alpha (0: none).
_FIVE = (0x7C00, 0x3E0, 0x1F, 0)
_EIGHT = (0xFF0000, 0xFF00, 0xFF, 0)


@dataclass(frozen=True)
class BmpInfo:
    """Header of a BMP.

    Attributes
    ----------
    width, height
    bits
        Bits a pixel.
    dpi
        Resolution in pixels per inch.
    upwards
        Rows run from the bottom.
    compression
        As the header numbers it.
    masks
        Bits of red, green, blue and alpha (0: none) in a pixel of 16 or 32 bits.
    """

    width: int
    height: int
    bits: int
    dpi: tuple[float, float] | None = None
    upwards: bool = True
    compression: int = _RGB
    masks: tuple[int, ...] = _EIGHT

    @property
    def sample_bits(self) -> int:
        """Bits of the type that holds its samples."""
        fields = self.bits in (16, 32) and any(
            mask >> _shift(mask) > 255 for mask in self.masks if mask
        )
        return 16 if fields else 8

    @property
    def has_alpha(self) -> bool:
        """Whether its header names a field for alpha."""
        return self.bits in (16, 32) and self.masks[3] != 0


def inspect(data: bytes | memoryview) -> BmpInfo:
    """Read a BMP's header.

    Raises
    ------
    ImageFileError
        The header is cut off.
    """
    if len(data) < 26:
        raise _cut_off("header")
    (header_size,) = struct.unpack_from("<I", data, 14)
    if header_size == _CORE:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        return BmpInfo(width, height, bits, masks=_FIVE if bits == 16 else _EIGHT)
    if len(data) < 54:
        raise _cut_off("header")
    if header_size < 40:  # OS/2's second one, cut short
        width, height, _, bits = struct.unpack_from("<iiHH", data, 18)
        return BmpInfo(abs(width), abs(height), bits, upwards=height > 0)
    width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    x, y = struct.unpack_from("<ii", data, _DENSITY_AT)
    dpi = (x * _INCH_IN_METRES, y * _INCH_IN_METRES) if x > 0 and y > 0 else None
    masks = _FIVE if bits == 16 else _EIGHT
    if bits in (16, 32) and compression in (_FIELDS, _ALPHA_FIELDS):
        # Behind a header of 40 bytes stand three (6: four) masks; longer headers hold them.
        four = compression == _ALPHA_FIELDS or header_size >= 56
        if len(data) < 54 + (16 if four else 12):
            raise _cut_off("fields")
        found = struct.unpack_from("<4I", data, 54) if four else struct.unpack_from("<3I", data, 54)
        masks = (*found, 0)[:4]
    # A negative height: rows from the top.
    return BmpInfo(abs(width), abs(height), bits, dpi, height > 0, compression, masks)


def with_density(data: bytes, dpi: tuple[float, float]) -> bytes:
    """The BMP with its resolution set."""
    x, y = (min(max(round(value / _INCH_IN_METRES), 0), 2**31 - 1) for value in dpi)
    return data[:_DENSITY_AT] + struct.pack("<ii", x, y) + data[_DENSITY_AT + 8 :]


def decode(data: bytes) -> np.ndarray:
    """The pixels of a BMP.

    Returns
    -------
    ndarray
        H, W where a palette has grays alone; H, W, 4 where the file names a field for alpha, else
        H, W, 3. uint8, or uint16 where a field has more than 8 bits.

    Raises
    ------
    ImageFileError
        The file is cut off, damaged, or holds a JPEG or a PNG.
    """
    info = inspect(data)
    run_lengths = {(8, _RLE8): 8, (4, _RLE4): 4}.get((info.bits, info.compression))
    fields = info.bits in (16, 32) and info.compression in (_FIELDS, _ALPHA_FIELDS)
    plain = info.compression == _RGB and info.bits in (1, 2, 4, 8, 16, 24, 32)
    if not (run_lengths or fields or plain):
        raise ImageFileError(
            f"a BMP of {info.bits} bits a pixel with compression {info.compression} is not read: "
            "save it as PNG"
        )
    (offset,) = struct.unpack_from("<I", data, 10)
    if run_lengths:
        numbers = _run_lengths(data[offset:], info)
        pixels = _looked_up(numbers, data, info)
    else:
        rows = _rows(data, offset, info)
        if info.bits <= 8:
            pixels = _looked_up(_unpacked(rows, info), data, info)
        elif info.bits == 24:
            pixels = rows.reshape(info.height, info.width, 3)[..., ::-1]
        else:
            pixels = _fields(rows.view(f"<u{info.bits // 8}"), info)
    return np.ascontiguousarray(pixels[::-1] if info.upwards else pixels)


def _rows(data: bytes, offset: int, info: BmpInfo) -> np.ndarray:
    """Rows of bytes as stored, without what fills each up to four."""
    used, step = -(-info.width * info.bits // 8), (info.width * info.bits + 31) // 32 * 4
    if info.width <= 0 or len(data) < offset + info.height * step - (step - used):
        raise _cut_off("pixels")
    padded = data[offset : offset + info.height * step].ljust(info.height * step, b"\0")
    rows = np.frombuffer(padded, np.uint8).reshape(info.height, step)[:, :used]
    return np.ascontiguousarray(rows)


def _unpacked(rows: np.ndarray, info: BmpInfo) -> np.ndarray:
    """Numbers of palette entries, the first in the highest bits."""
    shifts = np.arange(8 - info.bits, -1, -info.bits)
    numbers = rows[..., None] >> shifts.astype(np.uint8) & ((1 << info.bits) - 1)
    return numbers.reshape(info.height, -1)[:, : info.width]


def _looked_up(numbers: np.ndarray, data: bytes, info: BmpInfo) -> np.ndarray:
    """Colours of a palette, of three bytes an entry behind OS/2's header, else of four."""
    offset, header_size = struct.unpack_from("<II", data, 10)
    width = 3 if header_size == _CORE else 4
    start = 14 + header_size
    count = min(max(offset - start, 0) // width, 1 << info.bits)
    entries = data[start : start + count * width]
    entries = entries[: len(entries) // width * width]
    palette = np.frombuffer(entries, np.uint8).reshape(-1, width)[:, 2::-1]
    if numbers.size and int(numbers.max()) >= len(palette):
        raise ImageFileError("the BMP is damaged: a pixel names an entry beyond its palette")
    if np.all(palette == palette[:, :1]):
        palette = palette[:, 0]
    return palette[numbers]


def _run_lengths(codes: bytes, info: BmpInfo) -> np.ndarray:
    """Numbers of palette entries out of runs; what is skipped has entry 0.

    Pairs of bytes: a count and a value (4 bits: two values in turn); behind a count of 0: the end
    of the row (0), of the picture (1), two bytes to skip right and up (2), or so many values as
    they are, padded to two bytes.
    """
    wide = info.bits == 8
    numbers = np.zeros((info.height, info.width), np.uint8)
    flat = numbers.reshape(-1)
    x = y = at = 0
    while y < info.height:
        pair = codes[at : at + 2]
        if len(pair) < 2:
            raise _cut_off("pixels")
        count, value = pair
        at += 2
        if count == 0 and value == 0:
            x, y = 0, y + 1
            continue
        if count == 0 and value == 1:
            break
        if count == 0 and value == 2:
            skip = codes[at : at + 2]
            if len(skip) < 2:
                raise _cut_off("pixels")
            x, y, at = x + skip[0], y + skip[1], at + 2
            continue
        if count:
            values = bytes((value,)) if wide else bytes((value >> 4, value & 15))
            values = (values * count)[:count]
        else:
            length = value if wide else (value + 1) // 2
            packed = codes[at : at + length]
            at += length + length % 2
            values = packed if wide else bytes(n for b in packed for n in (b >> 4, b & 15))[:value]
        room = max(info.width - x, 0)
        start = y * info.width + x
        part = values[:room]
        flat[start : start + len(part)] = np.frombuffer(part, np.uint8)
        x += len(values)
    return numbers


def _shift(mask: int) -> int:
    return (mask & -mask).bit_length() - 1


def _fields(stored: np.ndarray, info: BmpInfo) -> np.ndarray:
    """Samples in fields of any width."""
    fields = [mask for mask in info.masks if mask]
    if not all(info.masks[:3]) or max(fields) >> info.bits:
        raise ImageFileError("the BMP is damaged: it lacks a field for a colour")
    largest = [mask >> _shift(mask) for mask in fields]
    if any(top & (top + 1) or top > 0xFFFF for top in largest):
        raise ImageFileError("the BMP is damaged: its fields have gaps")
    common = max(depth.holding(top) for top in largest)
    whole = int(np.iinfo(common).max)
    planes = []
    for mask, top in zip(fields, largest, strict=True):
        plane = depth.widened((stored & stored.dtype.type(mask)) >> _shift(mask), top)
        # A narrower field in company of a wide one: 255 times 257 is 65535.
        factor = whole // int(np.iinfo(plane.dtype).max)
        planes.append(plane.astype(common) * common.type(factor))
    return np.stack(planes, axis=-1)


def _cut_off(part: str) -> ImageFileError:
    verb = "is" if part == "header" else "are"
    return ImageFileError(f"the BMP is truncated: its {part} {verb} cut off")
