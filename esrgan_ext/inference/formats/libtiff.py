"""TIFF pixels through the libtiff inside OpenCV, for compressions that tifffile leaves to another
package. OpenCV's own TIFF reader premultiplies RGBA and drops the alpha of gray+alpha, so LZW and
PackBits, which image editors write, are unpacked by showing it the same data as plain gray."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from esrgan_ext.errors import ImageFileError
from esrgan_ext.inference.formats.opencv import codec_messages

_LZW, _PACKBITS = 5, 32773
_HORIZONTAL = 2  # predictor: differences to the pixel on the left
_CMYK = 5
_KEPT_TAGS = {257, 259, 273, 278, 279, 323, 324, 325}  # height, compression, strips, tiles
_WIDTH, _BITS, _PHOTOMETRIC, _SAMPLES, _TILE_WIDTH, _SAMPLE_FORMAT = 256, 258, 262, 277, 322, 339


def can_unpack(page: Any) -> bool:
    """Whether `unpack` knows the pages that are like this one."""
    return (
        int(page.compression) in (_LZW, _PACKBITS)
        and int(page.planarconfig) == 1
        and page.dtype is not None
        and page.dtype.str[1:] in ("u1", "u2")
        and page.bitspersample in (8, 16)
        and int(page.predictor) in (1, _HORIZONTAL)
    )


def unpack(data: bytes, pages: Sequence[Any]) -> np.ndarray:
    """The samples of LZW or PackBits pages, exactly as stored.

    A copy of the file gets a chain of new directories, one a page, in which the samples of a
    pixel are neighbouring gray pixels; the predictor, which depends on the number of samples,
    is undone here.

    Parameters
    ----------
    data
        The whole file, a classic TIFF.
    pages
        tifffile's pages, alike and such that `can_unpack` says yes.

    Returns
    -------
    ndarray
        pages, H, W, samples.
    """
    key = pages[0].keyframe
    height, width, samples = key.imagelength, key.imagewidth, key.samplesperpixel
    order = "<" if data[:2] == b"II" else ">"
    data += b"\0" * (len(data) % 2)
    parts, position, first = [data], len(data), len(data)
    for number, page in enumerate(pages):
        directory = _gray_directory(data, page.offset, order, samples)
        position += len(directory) + 4
        following = position if number + 1 < len(pages) else 0
        parts += [directory, struct.pack(order + "I", following)]
    parts[0] = data[:4] + struct.pack(order + "I", first) + data[8:]
    with codec_messages() as messages:
        done, planes = cv2.imdecodemulti(
            np.frombuffer(b"".join(parts), np.uint8), cv2.IMREAD_UNCHANGED
        )
    if not done or len(planes) != len(pages):
        raise _damaged(messages)
    pixels = np.stack(planes).reshape(len(pages), height, width, samples)
    if int(key.predictor) == _HORIZONTAL and int(key.compression) == _LZW:  # PackBits has none
        step = key.tilewidth if key.is_tiled else width
        for start in range(0, width, step):
            run = pixels[:, :, start : start + step]
            np.cumsum(run, axis=2, dtype=run.dtype, out=run)
    return pixels


def decode(data: bytes, page: Any, axes: str, shape: tuple[int, ...]) -> tuple[np.ndarray, str]:
    """Decode pages of any other kind (JPEG, CCITT, CMYK, YCbCr) with OpenCV.

    Returns
    -------
    pixels
        Upright: OpenCV applies the orientation.
    axes
        One letter an axis.
    """
    cmyk = int(page.photometric) == _CMYK
    if page.extrasamples and not cmyk:
        raise ImageFileError(
            f"a TIFF with alpha and {page.compression.name} compression is not supported; save it "
            "with LZW or deflate"
        )
    with codec_messages() as messages:
        done, pages = cv2.imdecodemulti(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    stack = [(n, axis) for n, axis in zip(shape, axes, strict=True) if axis not in "YXS"]
    number = int(np.prod([n for n, _ in stack]))
    if not done or len(pages) < number:
        raise _damaged(messages)
    colour = pages[0].ndim == 3 and pages[0].shape[2] > 1
    if colour:
        # CMYK comes with an opaque alpha.
        code = cv2.COLOR_BGR2RGB if pages[0].shape[2] == 3 else cv2.COLOR_BGRA2RGB
        pages = [cv2.cvtColor(one, code) for one in pages[:number]]
    pixels = np.stack(pages[:number]).reshape(*(n for n, _ in stack), *pages[0].shape)
    return pixels, "".join(axis for _, axis in stack) + ("YXS" if colour else "YX")


def _gray_directory(data: bytes, start: int, order: str, samples: int) -> bytes:
    """The directory at `start`, without its link to the next, for gray pixels."""
    (number,) = struct.unpack_from(order + "H", data, start)
    entries: dict[int, bytes] = {}
    bits = 8
    for index in range(number):
        at = start + 2 + 12 * index
        tag, kind, count = struct.unpack_from(order + "HHI", data, at)
        value = _number(data, at, order, kind, count)
        if tag in _KEPT_TAGS:
            entries[tag] = data[at : at + 12]
        elif tag in (_WIDTH, _TILE_WIDTH):
            entries[tag] = struct.pack(order + "HHII", tag, 4, 1, value * samples)
        elif tag == _BITS:
            bits = value
    for tag, value in ((_BITS, bits), (_PHOTOMETRIC, 1), (_SAMPLES, 1), (_SAMPLE_FORMAT, 1)):
        entries[tag] = struct.pack(order + "HHIHH", tag, 3, 1, value, 0)
    return struct.pack(order + "H", len(entries)) + b"".join(entries[t] for t in sorted(entries))


def _number(data: bytes, at: int, order: str, kind: int, count: int) -> int:
    """The first value of an entry of shorts or longs."""
    code, size = {3: ("H", 2), 4: ("I", 4)}.get(kind, ("B", 1))
    place = at + 8 if count * size <= 4 else struct.unpack_from(order + "I", data, at + 8)[0]
    return struct.unpack_from(order + code, data, place)[0]


def _damaged(messages: list[str]) -> ImageFileError:
    reason = f": {messages[-1]}" if messages else ""
    return ImageFileError(f"the TIFF is damaged or of a kind not supported{reason}")
