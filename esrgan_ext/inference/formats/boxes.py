"""Boxes (a length, a type, content), the shell of JPEG 2000 and JPEG XL files: ISO/IEC 15444-1,
annex I.4, and ISO/IEC 18181-2."""

from __future__ import annotations

import struct
from collections.abc import Iterator


def boxes(view: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """(type, content) of the boxes side by side; a box that is cut off has what there is."""
    position = 0
    while position + 8 <= len(view):
        (length,) = struct.unpack_from(">I", view, position)
        kind = bytes(view[position + 4 : position + 8])
        start = position + 8
        if length == 1 and position + 16 <= len(view):
            (length,) = struct.unpack_from(">Q", view, start)
            start += 8
        end = len(view) if length == 0 else position + length
        if end < start:
            return
        yield kind, view[start : min(end, len(view))]
        position = end


def box(kind: bytes, content: bytes | memoryview) -> bytes:
    """One box; a length above 32 bits takes the long form."""
    short = 8 + len(content)
    if short < 1 << 32:
        return struct.pack(">I", short) + kind + bytes(content)
    return struct.pack(">I", 1) + kind + struct.pack(">Q", short + 8) + bytes(content)
