"""A TIFF's chain of directories, walked before any library trusts it: whether it is whole, and
whether its tags claim no more than the file can hold. Directories that lie over one another and
values without end are how a small file keeps a reader busy for minutes. Reference: TIFF 6.0,
section 2; BigTIFF."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

from esrgan_ext.errors import ImageFileError

_TYPE_BYTES = {
    1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8,
    18: 8,
}  # fmt: skip
# Values may be shared by directories (a palette, a description), a few times over.
_SHARED = 8
_SPARE_BYTES = 1 << 20
# The offsets and lengths of strips are as large as the image makes them; nothing else of a tag.
_SUB_DIRECTORIES = (330, 34665, 34853, 40965)
_MAX_SUB_DIRECTORIES = 64


@dataclass(frozen=True)
class Chain:
    """How many directories follow one another, and whether the next one lies beyond the file."""

    pages: int
    cut: bool


def survey(file: BinaryIO) -> Chain:
    """Walk the directories.

    Parameters
    ----------
    file
        Open for reading, at any place; the place is put back to the beginning.

    Raises
    ------
    ImageFileError
        The file is cut off in its first directory, its directories run in a circle or lie over
        one another, or its tags claim far more than the file holds.
    """
    size = file.seek(0, 2)
    file.seek(0)
    try:
        return _walk(file, size)
    finally:
        file.seek(0)


def _walk(file: BinaryIO, size: int) -> Chain:
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = len(head) > 3 and head[2 if order == "<" else 3] == 43
    count_code, entry_code, width = ("Q", "HHQ8s", 20) if big else ("H", "HHI4s", 12)
    offset_code, inline = ("Q", 8) if big else ("I", 4)
    offset_bytes = struct.calcsize(offset_code)
    if len(head) < (16 if big else 8):
        raise ImageFileError("the TIFF is truncated: its header is cut off")
    (at,) = struct.unpack_from(order + offset_code, head, 8 if big else 4)
    seen: set[int] = set()
    spent = claimed = 0
    while at:
        if at in seen:
            raise ImageFileError("the TIFF is damaged: its directories run in a circle")
        file.seek(at)
        number_bytes = file.read(struct.calcsize(count_code))
        if len(number_bytes) < struct.calcsize(count_code):
            return _cut(seen)
        (number,) = struct.unpack(order + count_code, number_bytes)
        length = number * width
        if at + len(number_bytes) + length > size:
            return _cut(seen)
        body = file.read(length + offset_bytes)
        seen.add(at)
        spent += length
        if spent > size:
            raise ImageFileError("the TIFF is damaged: its directories lie over one another")
        below = 0
        for tag, kind, count, value in struct.iter_unpack(order + entry_code, body[:length]):
            bytes_of = _TYPE_BYTES.get(kind, 0) * count
            if tag in _SUB_DIRECTORIES:
                below += count
            if bytes_of <= inline:
                continue
            (start,) = struct.unpack(order + offset_code, value)
            # What lies beyond the file costs nothing: it is not read.
            claimed += min(bytes_of, max(size - start, 0))
        if claimed > _SHARED * size + _SPARE_BYTES or below > _MAX_SUB_DIRECTORIES + size // 256:
            raise ImageFileError("the TIFF is damaged: its tags claim more than the file holds")
        if len(body) < length + offset_bytes:
            break  # a single page whose writer left the end of the chain out
        (at,) = struct.unpack_from(order + offset_code, body, length)
    return Chain(len(seen), cut=False)


def _cut(seen: set[int]) -> Chain:
    if not seen:
        raise ImageFileError("the TIFF is truncated: its first directory lies beyond the file")
    return Chain(len(seen), cut=True)
