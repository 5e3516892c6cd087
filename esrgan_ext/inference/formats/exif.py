"""EXIF: a TIFF structure of tagged fields. Reads what matters here (orientation, resolution),
changes fields in place so that maker notes with absolute offsets stay valid, and moves the
fields between a stand-alone block and a TIFF file. Whatever is malformed is treated as absent:
metadata never makes a picture unreadable. Reference: Exif 3.0 (CIPA DC-008), TIFF 6.0."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field

ORIENTATION, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 0x0112, 0x011A, 0x011B, 0x0128
EXIF_IFD, GPS_IFD = 0x8769, 0x8825
_PIXEL_X, _PIXEL_Y = 0xA002, 0xA003
_POINTERS = (EXIF_IFD, GPS_IFD)
_SHORT, _LONG, _RATIONAL = 3, 4, 5
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 129: 1}
# How far a directory may nest and how many fields it may have before it is taken for damaged.
_MAX_FIELDS = 4096

# Fields of the first directory that describe the picture's origin, not its storage.
DESCRIPTIVE = (
    0x010D,  # DocumentName
    0x010E,  # ImageDescription
    0x010F,  # Make
    0x0110,  # Model
    0x011D,  # PageName
    0x0131,  # Software
    0x0132,  # DateTime
    0x013B,  # Artist
    0x013C,  # HostComputer
    0x8298,  # Copyright
)


@dataclass(frozen=True)
class Field:
    """One field: its type code, number of values, raw value, and byte order ("<" or ">")."""

    type: int
    count: int
    value: bytes
    order: str


@dataclass(frozen=True)
class Directory:
    """The fields of one directory and the directories below it, both by tag."""

    fields: dict[int, Field] = field(default_factory=dict)
    below: dict[int, Directory] = field(default_factory=dict)


def _order(block: bytes) -> str | None:
    return {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(block[:4]))


def _entries(block: bytes, start: int, order: str) -> list[tuple[int, int, int, int]]:
    """(tag, type, count, position of the value) of the directory at `start`; its sound entries."""
    if start + 2 > len(block):
        return []
    (number,) = struct.unpack_from(order + "H", block, start)
    found = []
    for index in range(min(number, _MAX_FIELDS)):
        at = start + 2 + 12 * index
        if at + 12 > len(block):
            break
        tag, kind, count = struct.unpack_from(order + "HHI", block, at)
        size = _TYPE_BYTES.get(kind, 0) * count
        if size == 0:
            continue
        position = at + 8 if size <= 4 else struct.unpack_from(order + "I", block, at + 8)[0]
        if position + size <= len(block):
            found.append((tag, kind, count, position))
    return found


def _first_directory(block: bytes, order: str) -> int:
    return struct.unpack_from(order + "I", block, 4)[0] if len(block) >= 8 else len(block)


def _integer(block: bytes, order: str, kind: int, position: int) -> int | None:
    code = {_SHORT: "H", _LONG: "I"}.get(kind)
    return struct.unpack_from(order + code, block, position)[0] if code else None


def orientation(block: bytes | None) -> int:
    """The orientation, 1 to 8; 1 (as stored) where there is none."""
    order = _order(block) if block else None
    if block is None or order is None:
        return 1
    for tag, kind, _, position in _entries(block, _first_directory(block, order), order):
        if tag == ORIENTATION:
            value = _integer(block, order, kind, position)
            return value if value is not None and 1 <= value <= 8 else 1
    return 1


def resolution(block: bytes | None) -> tuple[float, float] | None:
    """Resolution in pixels per inch, or None."""
    order = _order(block) if block else None
    if block is None or order is None:
        return None
    values: dict[int, float] = {}
    unit = 2  # inches, where the field is absent
    for tag, kind, _, position in _entries(block, _first_directory(block, order), order):
        if tag in (X_RESOLUTION, Y_RESOLUTION) and kind == _RATIONAL:
            above, below = struct.unpack_from(order + "II", block, position)
            if above and below:
                values[tag] = above / below
        elif tag == RESOLUTION_UNIT:
            unit = _integer(block, order, kind, position) or 0
    per_inch = {2: 1.0, 3: 2.54}.get(unit)
    if per_inch is None or len(values) != 2:
        return None
    return values[X_RESOLUTION] * per_inch, values[Y_RESOLUTION] * per_inch


def updated(block: bytes, width: int, height: int) -> bytes:
    """The block for upright pixels of a new size: orientation 1 and the size fields set.

    All is changed in place; a size that its field cannot hold leaves the field as it was.
    """
    order = _order(block)
    if order is None:
        return block
    changed = bytearray(block)

    def put(kind: int, position: int, value: int) -> None:
        if kind == _SHORT and value <= 0xFFFF:
            struct.pack_into(order + "H", changed, position, value)
        elif kind == _LONG:
            struct.pack_into(order + "I", changed, position, value)

    for tag, kind, _, position in _entries(block, _first_directory(block, order), order):
        if tag == ORIENTATION:
            put(kind, position, 1)
        elif tag == EXIF_IFD:
            start = _integer(block, order, kind, position)
            for below, below_kind, _, below_position in _entries(block, start or 0, order):
                if below in (_PIXEL_X, _PIXEL_Y):
                    put(below_kind, below_position, width if below == _PIXEL_X else height)
    return bytes(changed)


def upright(block: bytes) -> bytes:
    """The block with orientation 1, for a decoder that has turned the pixels itself."""
    order = _order(block)
    if order is None:
        return block
    changed = bytearray(block)
    for tag, kind, _, position in _entries(block, _first_directory(block, order), order):
        if tag == ORIENTATION and kind in (_SHORT, _LONG):
            struct.pack_into(order + ("H" if kind == _SHORT else "I"), changed, position, 1)
    return bytes(changed)


def read_directory(block: bytes, start: int | None = None) -> Directory:
    """The first directory (or the one at `start`) with the EXIF and GPS directories below it.

    `block` may be an EXIF block or the bytes of a whole TIFF file (not a BigTIFF).
    """
    order = _order(block)
    if order is None:
        return Directory()
    at = _first_directory(block, order) if start is None else start
    fields: dict[int, Field] = {}
    below: dict[int, Directory] = {}
    for tag, kind, count, position in _entries(block, at, order):
        if tag in _POINTERS:
            pointer = _integer(block, order, kind, position)
            # A directory below another has none below it: a loop of pointers ends here.
            if pointer and start is None:
                below[tag] = read_directory(block, pointer)
        else:
            size = _TYPE_BYTES[kind] * count
            fields[tag] = Field(kind, count, bytes(block[position : position + size]), order)
    return Directory(fields, below)


def write_directory(directory: Directory, base: int, order: str) -> bytes:
    """Serialise a directory that will lie `base` bytes behind the start of its TIFF structure.

    Fields are turned to the byte order asked for; what is opaque (bytes, text, undefined) is
    copied.
    """
    tags = sorted({*directory.fields, *directory.below})
    body_at = base + 2 + 12 * len(tags) + 4
    entries, body = bytearray(struct.pack(order + "H", len(tags))), bytearray()
    for tag in tags:
        if tag in directory.below:
            pointer = body_at + len(body)
            body += write_directory(directory.below[tag], pointer, order)
            entries += struct.pack(order + "HHII", tag, _LONG, 1, pointer)
        else:
            item = directory.fields[tag]
            value = _reordered(item, order)
            entries += struct.pack(order + "HHI", tag, item.type, item.count)
            if len(value) <= 4:
                entries += value.ljust(4, b"\0")
            else:
                entries += struct.pack(order + "I", body_at + len(body))
                body += value
        body += b"\0" * (len(body) % 2)  # values begin on word boundaries
    return bytes(entries) + b"\0\0\0\0" + bytes(body)


def block_from(directory: Directory) -> bytes:
    """A stand-alone EXIF block, little-endian."""
    return b"II*\0" + struct.pack("<I", 8) + write_directory(directory, 8, "<")


def density_fields(dpi: tuple[float, float]) -> dict[int, Field]:
    """The three fields that state a resolution in pixels per inch."""

    def rational(value: float) -> Field:
        below = 1 if value == math.floor(value) else 10000
        return Field(_RATIONAL, 1, struct.pack("<II", round(value * below), below), "<")

    return {
        X_RESOLUTION: rational(dpi[0]),
        Y_RESOLUTION: rational(dpi[1]),
        RESOLUTION_UNIT: Field(_SHORT, 1, struct.pack("<H", 2), "<"),
    }


def with_resolution(block: bytes | None, dpi: tuple[float, float]) -> bytes:
    """The block with a resolution added where it has none.

    The first directory is written anew behind the block and the header points to it: nothing
    that is there moves, so maker notes keep their absolute offsets.
    """
    fields = density_fields(dpi)
    order = _order(block) if block else None
    if block is None or order is None:
        return block_from(Directory(fields))
    start = _first_directory(block, order)
    if start + 2 > len(block):
        return block_from(Directory(fields))
    (number,) = struct.unpack_from(order + "H", block, start)
    end = start + 2 + 12 * number
    if resolution(block) is not None or end + 4 > len(block):
        return block
    entries = {
        struct.unpack_from(order + "H", block, at)[0]: block[at : at + 12]
        for at in range(start + 2, end, 12)
    }
    block += b"\0" * (len(block) % 2)
    values = b""
    values_at = len(block) + 2 + 12 * len(entries.keys() | fields.keys()) + 4
    for tag, item in fields.items():
        value = _reordered(item, order)
        if len(value) > 4:
            values += value
            value = struct.pack(order + "I", values_at + len(values) - len(value))
        entries[tag] = struct.pack(order + "HHI", tag, item.type, 1) + value.ljust(4, b"\0")
    directory = struct.pack(order + "H", len(entries)) + b"".join(
        entries[tag] for tag in sorted(entries)
    )
    following = block[end : end + 4]  # the thumbnail's directory
    header = block[:4] + struct.pack(order + "I", len(block))
    return header + block[8:] + directory + following + values


def _reordered(item: Field, order: str) -> bytes:
    width = {_RATIONAL: 4, 10: 4}.get(item.type, _TYPE_BYTES[item.type])
    if item.order == order or width == 1:
        return item.value
    code = {2: "H", 4: "I", 8: "Q"}[width]
    number = len(item.value) // width
    values = struct.unpack(f"{item.order}{number}{code}", item.value)
    return struct.pack(f"{order}{number}{code}", *values)
