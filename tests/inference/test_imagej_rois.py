"""ImageJ's regions lie on the same things in a result of four times the size. They are put together
and taken apart by hand here, after the table in ImageJ's RoiDecoder; coordinates of lines and
points are of pixel centres, those of areas of pixel corners (Roi.useLineSubpixelConvention)."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from esrgan_ext.inference.files import read_image, write_image
from esrgan_ext.inference.formats.imagej_rois import scaled

POLYGON, RECT, OVAL, LINE, FREELINE, POLYLINE, NONE, FREEHAND, TRACED, ANGLE, POINT = range(11)
TEXT, ARROW, ELLIPSE, IMAGE, ROTATED = 1, 2, 3, 4, 5
FLOATS = 128  # the option for coordinates in floats


def region(
    kind: int, bounds: tuple[int, int, int, int] = (0, 0, 0, 0), *, count: int = 0,
    four: tuple[float, ...] = (0, 0, 0, 0), stroke: float = 0, path: int = 0, subtype: int = 0,
    options: int = 0, tail: bytes = b"\0\0\0\0", position: int = 0, body: bytes = b"",
    name: str = "", stack: tuple[int, int, int] = (0, 0, 0), version: int = 228,
) -> bytes:  # fmt: skip
    """Bounds are left, top, right, bottom; `tail` stands at 52: an arrow's head, a float."""
    left, top, right, bottom = bounds
    head = b"Iout" + struct.pack(
        ">hBx4hH", version, kind, top, left, bottom, right, count
    ) + struct.pack(">4f", *four)  # fmt: skip
    head += struct.pack(">hi8shh", int(stroke), path, bytes(range(8)), subtype, options)
    second = 64 + len(body)
    head += tail + struct.pack(">ii", position, second)
    named = name.encode("utf-16be")
    more = struct.pack(">4x3i", *stack)
    more += struct.pack(">ii", second + 64 if name else 0, len(name))
    more += bytes(12) + struct.pack(">f", stroke)
    return head + body + more.ljust(64, b"\0") + named


def taken(data: bytes) -> dict[str, Any]:
    """The fields of a region, by name."""
    version, kind, top, left, bottom, right, count = struct.unpack_from(">hBx4hH", data, 4)
    stroke, path, colours, subtype, options = struct.unpack_from(">hi8shh", data, 34)
    position, second = struct.unpack_from(">ii", data, 56)
    at, length = struct.unpack_from(">ii", data, second + 16)
    found = {
        "kind": kind, "bounds": (left, top, right, bottom), "subtype": subtype, "options": options,
        "four": struct.unpack_from(">4f", data, 18), "stroke": stroke, "colours": colours,
        "tail": data[52:56], "position": position,
        "stack": struct.unpack_from(">3i", data, second + 4),
        "float_stroke": struct.unpack_from(">f", data, second + 36)[0],
        "name": data[at : at + 2 * length].decode("utf-16be"), "version": version,
    }  # fmt: skip
    if path:
        found["path"] = struct.unpack_from(f">{path}f", data, 64)
    elif count:
        x = np.frombuffer(data, ">i2", count, 64) + left
        y = np.frombuffer(data, ">i2", count, 64 + 2 * count) + top
        if options & FLOATS:
            x = np.frombuffer(data, ">f4", count, 64 + 4 * count)
            y = np.frombuffer(data, ">f4", count, 64 + 8 * count)
        found["points"] = list(zip(x.tolist(), y.tolist(), strict=True))
    return found


def vertices(kind: int, points: list[tuple[float, float]], **more: Any) -> bytes:
    x, y = (np.array(axis) for axis in zip(*points, strict=True))
    left, top = int(np.floor(x.min())), int(np.floor(y.min()))
    bounds = (left, top, int(np.ceil(x.max())), int(np.ceil(y.max())))
    body = (np.rint(x) - left).astype(">i2").tobytes() + (np.rint(y) - top).astype(">i2").tobytes()
    if more.get("options", 0) & FLOATS:
        body += x.astype(">f4").tobytes() + y.astype(">f4").tobytes()
    return region(kind, bounds, count=len(points), body=body, **more)


def four_times(data: bytes, factor: tuple[float, float] = (4, 4)) -> dict[str, Any]:
    done, left = scaled([data], factor)
    assert left == []
    return taken(done[0])


@pytest.mark.parametrize("kind", [RECT, OVAL])
def test_boxes(kind: int) -> None:
    found = four_times(region(kind, (2, 3, 12, 9), stroke=1.5, position=7, name="cell ä"))
    assert (found["kind"], found["bounds"]) == (kind, (8, 12, 48, 36))
    assert (found["stroke"], found["float_stroke"]) == (6, 6.0)
    assert (found["name"], found["position"], found["colours"]) == ("cell ä", 7, bytes(range(8)))
    assert not found["options"] & FLOATS

    by_floats = region(kind, (2, 3, 13, 10), four=(2.25, 3.5, 10.5, 6.0), options=FLOATS)
    found = four_times(by_floats)
    assert found["four"] == (9.0, 14.0, 42.0, 24.0)
    assert found["bounds"] == (9, 14, 51, 38)

    found = four_times(region(kind, (2, 3, 12, 9)), (2.5, 1.5))  # no whole numbers any more
    assert found["options"] & FLOATS
    assert found["four"] == (5.0, 4.5, 25.0, 9.0)


def test_a_box_without_room_in_16_bits_becomes_floats() -> None:
    found = four_times(region(RECT, (20000, 10, 20010, 20)))
    assert found["four"] == (80000.0, 40.0, 40.0, 40.0)


def test_a_rounded_rectangle() -> None:
    found = four_times(region(RECT, (0, 0, 20, 20), tail=b"\0\0" + struct.pack(">h", 5)))
    assert struct.unpack(">h", found["tail"][2:]) == (20,)


def test_lines_and_arrows_go_from_centre_to_centre() -> None:
    found = four_times(region(LINE, (1, 2, 8, 4), four=(1, 2, 7, 3), stroke=2))
    assert found["four"] == (5.5, 9.5, 29.5, 13.5)  # 4 (1 + 1/2) - 1/2 = 5.5
    assert found["stroke"] == 8

    arrow = region(LINE, (1, 2, 8, 4), four=(1, 2, 7, 3), subtype=ARROW, tail=b"\1\x05\0\0")
    found = four_times(arrow)
    assert (found["subtype"], found["tail"][:2]) == (ARROW, b"\1\x14")


@pytest.mark.parametrize("kind", [POLYGON, FREEHAND, TRACED, ANGLE])
def test_areas_go_by_corners(kind: int) -> None:
    found = four_times(vertices(kind, [(2, 3), (10, 3), (6, 9)], stack=(1, 2, 3)))
    assert (found["kind"], found["points"]) == (kind, [(8, 12), (40, 12), (24, 36)])
    assert (found["bounds"], found["stack"]) == ((8, 12, 40, 36), (1, 2, 3))
    assert not found["options"] & FLOATS

    found = four_times(vertices(kind, [(2.5, 3.25), (10, 3.5), (6, 9.75)], options=FLOATS))
    assert found["points"] == [(10, 13), (40, 14), (24, 39)]


@pytest.mark.parametrize("kind", [POLYLINE, FREELINE, POINT])
def test_lines_of_several_points_and_points_go_by_centres(kind: int) -> None:
    found = four_times(vertices(kind, [(2, 3), (10, 5)], stroke=3))
    assert found["options"] & FLOATS
    assert found["version"] >= 222
    assert found["points"] == [(9.5, 13.5), (41.5, 21.5)]
    # A point's "stroke" is the size of its mark, which does not lie in the image.
    assert found["stroke"] == (3 if kind == POINT else 12)


def test_text_and_its_letters() -> None:
    text, font = "5 µm", "SansSerif"
    body = struct.pack(">4i", 18, 1 | 256, len(font), len(text)) + (font + text).encode("utf-16be")
    body += struct.pack(">f", 30.0)
    data = region(RECT, (5, 6, 40, 26), subtype=TEXT, body=body)
    done, left = scaled([data], (4, 4))
    assert left == []
    assert taken(done[0])["bounds"] == (20, 24, 160, 104)
    assert done[0][64 : 64 + len(body)] == struct.pack(">i", 72) + body[4:]


def test_ellipses_and_turned_rectangles() -> None:
    points = [(2.0, 3.0), (10.0, 3.0), (6.0, 9.0)]
    for subtype, before, after in ((ELLIPSE, 0.5, 0.5), (ROTATED, 6.0, 24.0)):
        data = vertices(
            FREEHAND, points, options=FLOATS, subtype=subtype, four=(1, 2, 9, 5),
            tail=struct.pack(">f", before),
        )  # fmt: skip
        found = four_times(data)
        assert found["four"] == (4.0, 8.0, 36.0, 20.0)
        assert struct.unpack(">f", found["tail"]) == (after,)
        assert found["points"] == [(8, 12), (40, 12), (24, 36)]
        done, left = scaled([data], (4, 2))
        assert (done, len(left)) == ([], 1)


def test_a_composite_shape() -> None:
    path = (0, 2, 3, 1, 10, 3, 2, 12, 4, 11, 8, 3, 1, 1, 2, 2, 5, 9, 4)
    body = struct.pack(f">{len(path)}f", *path)
    found = four_times(region(RECT, (1, 1, 12, 9), path=len(path), body=body))
    assert found["path"] == (0, 8, 12, 1, 40, 12, 2, 48, 16, 44, 32, 3, 4, 4, 8, 8, 20, 36, 4)
    assert found["bounds"] == (4, 4, 48, 36)


def test_what_cannot_be_scaled_is_named() -> None:
    sound = region(RECT, (2, 3, 12, 9))
    image = region(RECT, (0, 0, 4, 4), subtype=IMAGE, body=bytes(30), name="logo\x1b[31m")
    cut = vertices(POLYGON, [(2, 3), (10, 3), (6, 9)])[:66]
    broken = region(RECT, path=3, body=struct.pack(">3f", 9, 1, 1))
    done, left = scaled([image, sound, b"Iout", cut, broken, region(NONE)], (4, 4))
    assert len(done) == 1
    assert left == [
        "1 'logo\\x1b[31m' (an image)", "3 (damaged)", "4 (damaged)", "5 (damaged)",
        "6 (of a kind that is not known)",
    ]  # fmt: skip


def test_random_damage_is_no_error() -> None:
    rng = np.random.default_rng(0)
    sound = [
        region(RECT, (2, 3, 12, 9), name="a"), vertices(POLYLINE, [(2, 3), (10, 5)], name="b"),
        region(RECT, path=4, body=struct.pack(">4f", 0, 1, 1, 4)),
    ]  # fmt: skip
    for _ in range(500):
        data = bytearray(sound[rng.integers(len(sound))])
        for _ in range(rng.integers(1, 6)):
            data[rng.integers(4, len(data))] = rng.integers(256)
        scaled([bytes(data[: rng.integers(10, len(data) + 1)])], (4, 4))


def test_from_file_to_file(tmp_path: Path) -> None:
    """A selection and two overlays, one of which holds an image."""
    metadata = {
        "ROI": region(OVAL, (2, 3, 12, 9)),
        "Overlays": [vertices(POLYGON, [(2, 3), (10, 3), (6, 9)], position=2),
                     region(RECT, (0, 0, 4, 4), subtype=IMAGE, body=bytes(30))],
    }  # fmt: skip
    planes = np.zeros((2, 24, 32), np.uint8)
    tifffile.imwrite(tmp_path / "in.tif", planes, imagej=True, metadata=metadata)

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        image = read_image(tmp_path / "in.tif")
        write_image(tmp_path / "out.tif", planes.repeat(4, 1).repeat(4, 2), like=image)

    with tifffile.TiffFile(tmp_path / "out.tif") as tif:
        found = tif.imagej_metadata or {}
    assert taken(found["ROI"])["bounds"] == (8, 12, 48, 36)
    assert taken(found["Overlays"])["points"] == [(8, 12), (40, 12), (24, 36)]
    assert taken(found["Overlays"])["position"] == 2
    (note,) = [str(warning.message) for warning in told]
    assert "ImageJ's overlay 2 (an image) cannot be scaled: left out" in note
