"""Netpbm's formats: PBM, PGM and PPM (plain and binary), PAM, and PFM's floats. OpenCV takes every
file's largest value for 255 or 65535, whatever its maxval says, so they are read here. Reference:
the netpbm manual, pages pbm to pam."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from esrgan_ext.errors import ImageFileError
from esrgan_ext.inference.formats import depth

_TOKEN = re.compile(rb"(?:[ \t\r\n\v\f]|#[^\r\n]*[\r\n])*([^ \t\r\n\v\f#]+)")
_COMMENT = re.compile(rb"#[^\r\n]*")
_CHANNELS = {b"P1": 1, b"P2": 1, b"P3": 3, b"P4": 1, b"P5": 1, b"P6": 3, b"Pf": 1, b"PF": 3}
_MAX_DIGITS = 10


@dataclass(frozen=True)
class PnmInfo:
    """Header of a PNM file.

    Attributes
    ----------
    magic
        "P1" to "P7", "Pf", "PF".
    channels
        1 gray, 2 gray+alpha, 3 RGB, 4 RGBA.
    largest
        The sample that means white; 0 for floats.
    start
        Where the raster begins.
    scale
        PFM's number whose sign is the byte order (negative: little-endian).
    """

    magic: bytes
    width: int
    height: int
    channels: int
    largest: int
    start: int
    scale: float = 1.0

    @property
    def bits(self) -> int:
        """Bits a sample of the type that holds it."""
        return 32 if self.largest == 0 else 8 * depth.holding(self.largest).itemsize


def is_pnm(head: bytes) -> bool:
    """Whether a file begins as one of these does."""
    return re.match(rb"P[1-7fF][\s#]", head) is not None


def inspect(data: bytes | memoryview) -> PnmInfo:
    """Read the header.

    Raises
    ------
    ImageFileError
        It is cut off or damaged.
    """
    head = bytes(data[: 1 << 16])
    magic = head[:2]
    if magic == b"P7":
        return _pam(head)
    width, position = _number(head, 2)
    height, position = _number(head, position)
    scale, largest = 1.0, 1
    if magic in (b"Pf", b"PF"):
        token, position = _token(head, position)
        try:
            scale, largest = float(token), 0
        except ValueError as error:
            raise _damaged("its scale is no number") from error
    elif magic not in (b"P1", b"P4"):
        largest, position = _number(head, position)
    _check_largest(largest, magic)
    return PnmInfo(magic, width, height, _CHANNELS[magic], largest, position + 1, scale)


def decode(data: bytes) -> np.ndarray:
    """The pixels: H, W or H, W, C of uint8 or uint16 over all of their range; PFM's of float32.

    Raises
    ------
    ImageFileError
        The file is truncated or damaged.
    """
    info = inspect(data)
    count = info.width * info.height * info.channels
    shape = (info.height, info.width, info.channels)
    if info.magic in (b"P1", b"P2", b"P3"):
        samples = _plain(data[info.start - 1 :], info, count)
    elif info.magic == b"P4":
        row = -(-info.width // 8)
        packed = _binary(data, info, np.dtype(np.uint8), row * info.height)
        samples = np.unpackbits(packed.reshape(info.height, row), axis=1)[:, : info.width]
    elif info.largest == 0:
        floats = _binary(data, info, np.dtype("<f4" if info.scale < 0 else ">f4"), count)
        pixels = floats.reshape(shape)[::-1].astype(np.float32)  # rows from the bottom
        return np.ascontiguousarray(pixels[..., 0] if info.channels == 1 else pixels)
    else:
        samples = _binary(data, info, np.dtype(">u2" if info.largest > 255 else "u1"), count)
    pixels = depth.widened(samples.astype(samples.dtype.newbyteorder("=")), info.largest)
    if info.magic in (b"P1", b"P4"):  # 1 is black
        pixels = 255 - pixels
    pixels = pixels.reshape(shape)
    return pixels[..., 0] if info.channels == 1 else pixels


def holds_more(data: bytes, info: PnmInfo) -> bool:
    """Whether another image follows the first, as netpbm's programs write them."""
    if info.magic in (b"P1", b"P2", b"P3"):
        return False  # these hold one (pnm, "Plain PNM")
    if info.magic == b"P4":
        size = -(-info.width // 8) * info.height
    else:
        sample = 4 if info.largest == 0 else depth.holding(info.largest).itemsize
        size = info.width * info.height * info.channels * sample
    return is_pnm(data[info.start + size :][:4])


def encode(pixels: np.ndarray) -> bytes:
    """A binary PGM or PPM of H, W or H, W, 3 of uint8 or uint16; a PFM of float32."""
    height, width = pixels.shape[:2]
    colour = pixels.ndim == 3
    if pixels.dtype == np.float32:
        head = f"{'PF' if colour else 'Pf'}\n{width} {height}\n-1.0\n".encode()
        return head + np.ascontiguousarray(pixels[::-1], dtype="<f4").tobytes()
    head = f"{'P6' if colour else 'P5'}\n{width} {height}\n{np.iinfo(pixels.dtype).max}\n".encode()
    return head + np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder(">")).tobytes()


def _pam(head: bytes) -> PnmInfo:
    end = re.search(rb"(?:^|\n)ENDHDR[ \t\r]*\n", head)
    if end is None:
        raise _damaged("its header has no end")
    fields: dict[bytes, bytes] = {}
    for line in head[2 : end.start()].splitlines():
        name, _, value = line.strip().partition(b" ")
        if name and not name.startswith(b"#"):
            fields[name] = value.strip()
    try:
        width, height, channels, largest = (
            int(fields[name]) for name in (b"WIDTH", b"HEIGHT", b"DEPTH", b"MAXVAL")
        )
    except (KeyError, ValueError) as error:
        raise _damaged("its header lacks a number") from error
    if channels not in (1, 2, 3, 4):
        raise ImageFileError(f"a PAM of {channels} channels is not read; 1 to 4 are")
    _check_largest(largest, b"P7")
    if b"CMYK" in fields.get(b"TUPLTYPE", b"").upper():
        raise ImageFileError("a PAM in CMYK is not read: save it as PNG")
    return PnmInfo(b"P7", width, height, channels, largest, end.end())


def _token(head: bytes, position: int) -> tuple[bytes, int]:
    found = _TOKEN.match(head, position)
    if found is None:
        raise ImageFileError("the PNM is truncated: its header is cut off")
    return found[1], found.end()


def _number(head: bytes, position: int) -> tuple[int, int]:
    token, position = _token(head, position)
    if not token.isdigit() or len(token) > _MAX_DIGITS:
        raise _damaged(f"{token[:20]!r} stands where a number must be")
    return int(token), position


def _check_largest(largest: int, magic: bytes) -> None:
    floating = magic in (b"Pf", b"PF")
    if not floating and not 1 <= largest <= 0xFFFF:
        raise _damaged(f"its largest value must be 1 to 65535, and is {largest}")


def _plain(raster: bytes, info: PnmInfo, count: int) -> np.ndarray:
    text = _COMMENT.sub(b"", raster)
    if info.magic == b"P1":  # its digits may stand side by side
        digits = np.frombuffer(text, np.uint8)
        samples = digits[(digits == ord("0")) | (digits == ord("1"))][:count] - ord("0")
    else:
        words = text.split(maxsplit=count)[:count]
        if not all(word.isdigit() and len(word) <= _MAX_DIGITS for word in words):
            raise _damaged("something that is no number stands among its samples")
        values = np.array(words, dtype=f"S{_MAX_DIGITS}").astype(np.uint64)
        samples = np.minimum(values, info.largest).astype(np.uint16)
    if len(samples) < count:
        raise ImageFileError(f"the PNM is truncated: it has {len(samples)} of its {count} samples")
    return samples


def _binary(data: bytes, info: PnmInfo, kind: np.dtype, count: int) -> np.ndarray:
    present = (len(data) - info.start) // kind.itemsize
    if present < count:
        raise ImageFileError(
            f"the PNM is truncated: it has {max(present, 0)} of its {count} samples"
        )
    return np.frombuffer(data, kind, count, info.start)


def _damaged(reason: str) -> ImageFileError:
    return ImageFileError(f"the PNM is damaged: {reason}")
