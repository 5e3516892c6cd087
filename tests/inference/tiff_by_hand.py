"""TIFF files put together from the specification alone, for kinds that no writer here makes."""

from __future__ import annotations

import struct
import zlib

import imagecodecs
import numpy as np

_SHORT, _LONG, _RATIONAL = 3, 4, 5
_ENCODE = {
    1: bytes,
    5: imagecodecs.lzw_encode,
    8: zlib.compress,
    32773: lambda data: imagecodecs.packbits_encode(data),
}


def packed(rows: np.ndarray, bits: int, order: str) -> bytes:
    """Rows of samples, `bits` each, every row beginning on a byte; whole bytes in `order`."""
    if bits in (8, 16, 32):
        return rows.astype(f"{order}u{bits // 8}").tobytes()
    digits = (rows[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(digits.reshape(len(rows), -1).astype(np.uint8), axis=1).tobytes()


def tiff(
    samples: np.ndarray,
    bits: int,
    photometric: int,
    *,
    compression: int = 1,
    planar: int = 1,
    order: str = "<",
    extra: tuple[int, ...] = (),
    palette: np.ndarray | None = None,
    tags: tuple[tuple[int, int, list[int]], ...] = (),
) -> bytes:
    """A TIFF of one strip a plane; samples are H, W, C of what is to be stored."""
    height, width, channels = samples.shape
    planes = [samples[..., c] for c in range(channels)] if planar == 2 else [samples]
    strips = [
        _ENCODE[compression](packed(plane.reshape(height, -1), bits, order)) for plane in planes
    ]
    entries = {
        256: (_LONG, [width]),
        257: (_LONG, [height]),
        258: (_SHORT, [bits] * channels),
        259: (_SHORT, [compression]),
        262: (_SHORT, [photometric]),
        273: (_LONG, [0] * len(strips)),
        277: (_SHORT, [channels]),
        278: (_LONG, [height]),
        279: (_LONG, [len(strip) for strip in strips]),
        284: (_SHORT, [planar]),
    }
    if extra:
        entries[338] = (_SHORT, list(extra))
    if palette is not None:
        entries[320] = (_SHORT, palette.ravel().tolist())
    entries |= {tag: (kind, values) for tag, kind, values in tags}
    at = 8 + 2 + 12 * len(entries) + 4
    sizes = {
        tag: len(v) * {_SHORT: 2, _LONG: 4, _RATIONAL: 4}[k] for tag, (k, v) in entries.items()
    }
    body_size = sum(size + size % 2 for size in sizes.values() if size > 4)
    offset, offsets = at + body_size, []
    for strip in strips:
        offsets.append(offset)
        offset += len(strip)
    entries[273] = (_LONG, offsets)
    directory, body = struct.pack(order + "H", len(entries)), b""
    for tag in sorted(entries):
        kind, values = entries[tag]
        code = "H" if kind == _SHORT else "I"
        value = struct.pack(f"{order}{len(values)}{code}", *values)
        count = len(values) // 2 if kind == _RATIONAL else len(values)
        directory += struct.pack(order + "HHI", tag, kind, count)
        if len(value) <= 4:
            directory += value.ljust(4, b"\0")
        else:
            directory += struct.pack(order + "I", at + len(body))
            body += value + b"\0" * (len(value) % 2)
    magic = b"II" if order == "<" else b"MM"
    head = magic + struct.pack(order + "HI", 42, 8)
    return head + directory + b"\0\0\0\0" + body + b"".join(strips)
