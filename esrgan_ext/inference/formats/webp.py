"""WebP's RIFF container: size, alpha, whether the pixels are lossless, whether the file is
complete or an animation. Reference: RFC 9649."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from esrgan_ext.errors import ImageFileError

MAX_SIDE = 16383  # 14 bits a side


@dataclass(frozen=True)
class WebpInfo:
    """Header of a WebP, from its container."""

    width: int
    height: int
    has_alpha: bool
    lossless: bool
    animated: bool


def inspect(data: bytes | memoryview, *, complete: bool = True) -> WebpInfo:
    """Read the chunks of a WebP file.

    Parameters
    ----------
    data
        The file, or its beginning.
    complete
        Demand as many bytes as the header promises.

    Raises
    ------
    ImageFileError
        The file is truncated, or holds no image.
    """
    view = memoryview(data)
    promised = struct.unpack_from("<I", view, 4)[0] + 8 if len(view) >= 8 else 8
    if complete and len(view) < promised:
        raise ImageFileError(
            f"the WebP is truncated: it has {len(view)} of the {promised} bytes its header promises"
        )
    width = height = 0
    alpha = lossless = animated = found = False
    position = 12
    while position + 8 <= min(len(view), promised):
        kind = bytes(view[position : position + 4])
        (length,) = struct.unpack_from("<I", view, position + 4)
        body = view[position + 8 : position + 8 + length]
        if kind == b"VP8X" and len(body) >= 10:
            alpha, animated = bool(body[0] & 0x10), bool(body[0] & 0x02)
            width = 1 + int.from_bytes(body[4:7], "little")
            height = 1 + int.from_bytes(body[7:10], "little")
            found = found or animated
        elif kind == b"VP8L" and len(body) >= 5:
            packed = int.from_bytes(body[1:5], "little")
            width, height = 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
            alpha, lossless, found = alpha or bool(packed >> 28 & 1), True, True
            break
        elif kind == b"VP8 " and len(body) >= 10:
            width = int.from_bytes(body[6:8], "little") & 0x3FFF
            height = int.from_bytes(body[8:10], "little") & 0x3FFF
            found = True
            break
        position += 8 + length + (length & 1)  # chunks are padded to even sizes
    if not found and (complete or not width):
        raise ImageFileError("the WebP is damaged: it has no image")
    return WebpInfo(width, height, alpha, lossless, animated)
