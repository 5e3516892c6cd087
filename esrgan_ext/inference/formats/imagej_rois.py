"""ImageJ's regions (a selection, an overlay) for a grid of more pixels, through roifile.
Where a region lies in a stack, its name, colours and groups stay. Reference: RoiDecoder and Roi
in ImageJ's source."""

from __future__ import annotations

import logging
import math
import struct
from collections.abc import Sequence

import numpy as np
from roifile import ROI_OPTIONS, ROI_SUBTYPE, ROI_TYPE, ImagejRoi

# Its remarks on damaged regions would go to stderr; what matters is a note.
logging.getLogger("roifile").addHandler(logging.NullHandler())

# Integers of a region are 16 bits; below -5000 ImageJ takes them for ones above 32767.
_LOWEST, _HIGHEST = -5000, 60535
# Versions of the format since which coordinates, and rectangles, may be floats.
_FLOATS_SINCE, _FLOAT_BOXES_SINCE = 222, 223
# Coordinates of these are of a pixel's centre (0 is the first pixel's); all others are of its
# corners (0 is the image's edge).
_OF_CENTRES = (ROI_TYPE.LINE, ROI_TYPE.POLYLINE, ROI_TYPE.FREELINE, ROI_TYPE.POINT)
_OF_VERTICES = (
    ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED, ROI_TYPE.POLYLINE, ROI_TYPE.FREELINE,
    ROI_TYPE.ANGLE, ROI_TYPE.POINT,
)  # fmt: skip
# Two numbers of their own: the ends of an axis, and a width across it in `_FLOAT_FIELD`.
_SLANTED = (ROI_SUBTYPE.ELLIPSE, ROI_SUBTYPE.ROTATED_RECT)
# Floats behind each command of a path: to, line, quadratic, cubic, close.
_PATH_FLOATS = {0: 2, 1: 2, 2: 4, 3: 6, 4: 0}
# Factors that differ by more are no rounding of one factor to whole pixels.
_SAME = 0.05


class _CannotScaleError(Exception):
    """Says what a region is that cannot be scaled."""


def scaled(regions: Sequence[bytes], factor: tuple[float, float]) -> tuple[list[bytes], list[str]]:
    """The regions for a grid of `factor` (x, y) times as many pixels.

    Parameters
    ----------
    regions
        Each as ImageJ writes it: "Iout" and what follows.
    factor

    Returns
    -------
    list of bytes
        Those that could be scaled.
    list of str
        The others, each by its number from 1, its name and its kind.
    """
    done, left = [], []
    for number, data in enumerate(regions, start=1):
        name = ""
        try:
            region = ImagejRoi.frombytes(data)
            name = f" {region.name[:40]!r}" if region.name else ""
            done.append(_scaled(region, factor))
        except _CannotScaleError as reason:
            left.append(f"{number}{name} ({reason})")
        except Exception:  # whatever roifile meets in damaged bytes
            left.append(f"{number}{name} (damaged)")
    return done, left


def _scaled(region: ImagejRoi, factor: tuple[float, float]) -> bytes:
    f = np.array(factor)
    kind, subtype = region.roitype, region.subtype
    if subtype == ROI_SUBTYPE.IMAGE:
        raise _CannotScaleError("an image")
    if region.composite and kind == ROI_TYPE.RECT:
        _scale_path(region, f)
    elif kind in (ROI_TYPE.RECT, ROI_TYPE.OVAL):
        _scale_box(region, f)
    elif kind == ROI_TYPE.LINE:
        _scale_line(region, f)
    elif kind in _OF_VERTICES:
        _scale_vertices(region, f)
    else:
        raise _CannotScaleError("of a kind that is not known")
    _scale_details(region, f)
    for field in ("name", "props", "text", "text_name"):
        # roifile counts such a character once, the format twice.
        text = getattr(region, field)
        setattr(region, field, "".join(c if ord(c) <= 0xFFFF else "\ufffd" for c in text))
    return region.tobytes()


def _scale_path(region: ImagejRoi, f: np.ndarray) -> None:
    """A composite shape: commands with their coordinates one after the other."""
    path = region.multi_coordinates
    assert path is not None
    path = path.astype(np.float64)
    at, points = 0, []
    while at < len(path):
        floats = _PATH_FLOATS.get(int(path[at]))
        if floats is None or at + 1 + floats > len(path):
            raise _CannotScaleError("damaged")
        part = path[at + 1 : at + 1 + floats].reshape(-1, 2)
        part *= f
        points.append(part)
        at += 1 + floats
    region.multi_coordinates = path.astype(np.float32)
    corners = np.concatenate([*points, np.empty((0, 2))])
    if len(corners):
        _set_bounds(region, np.floor(corners.min(0)), np.ceil(corners.max(0)))


def _scale_box(region: ImagejRoi, f: np.ndarray) -> None:
    """A rectangle, an oval, a text: whole numbers where they do, else floats."""
    if region.subpixelrect:
        low = np.array([region.xd, region.yd])
        high = low + np.array([region.widthd, region.heightd])
    else:
        low = np.array([region.left, region.top], np.float64)
        high = np.array([region.right, region.bottom], np.float64)
    low, high = low * f, high * f
    if region.subpixelrect or not _are_integers(low, high):
        _make_floats(region, _FLOAT_BOXES_SINCE)
        region.xd, region.yd = map(float, low)
        region.widthd, region.heightd = map(float, high - low)
    _set_bounds(region, np.floor(low), np.ceil(high))


def _scale_line(region: ImagejRoi, f: np.ndarray) -> None:
    ends = _moved(np.array([[region.x1, region.y1], [region.x2, region.y2]]), f, centres=True)
    (region.x1, region.y1), (region.x2, region.y2) = ends.tolist()
    _set_bounds(region, np.floor(ends.min(0) + 0.5), np.floor(ends.max(0) + 1.5))


def _scale_vertices(region: ImagejRoi, f: np.ndarray) -> None:
    if region.subpixel_coordinates is not None:
        before = region.subpixel_coordinates.astype(np.float64)
    elif region.integer_coordinates is not None:
        before = region.integer_coordinates.astype(np.float64)
        before += np.array([region.left, region.top])
    else:
        raise _CannotScaleError("damaged")
    centres = region.roitype in _OF_CENTRES
    after = _moved(before, f, centres=centres)
    if not len(after) or not np.isfinite(after).all():
        raise _CannotScaleError("damaged")
    if region.subpixel_coordinates is not None or not _are_integers(after):
        _make_floats(region, _FLOATS_SINCE)
        region.subpixel_coordinates = after.astype(np.float32)
    around = 0.5 if centres else 0.0
    low = np.floor(after.min(0) + around)
    high = np.floor(after.max(0) + 1.5) if centres else np.ceil(after.max(0))
    _set_bounds(region, low, high)
    region.integer_coordinates = np.clip(np.rint(after) - low, 0, 0xFFFF).astype(np.int32)
    if region.subtype in _SLANTED:
        _scale_slanted(region, f)


def _scale_slanted(region: ImagejRoi, f: np.ndarray) -> None:
    """An ellipse or a rectangle at any angle: the ends of its axis, and its aspect or its width."""
    if abs(f[0] / f[1] - 1) > _SAME:
        raise _CannotScaleError(f"a slanted {region.subtype.name.lower()}, by two factors")
    region.x1, region.x2 = region.x1 * f[0], region.x2 * f[0]
    region.y1, region.y2 = region.y1 * f[1], region.y2 * f[1]
    if region.subtype == ROI_SUBTYPE.ROTATED_RECT:
        # A float where other kinds have the style and head of an arrow and the arc of a corner.
        order = region.byteorder
        fields = (
            region.arrow_style_or_aspect_ratio, region.arrow_head_size,
            region.rounded_rect_arc_size,
        )  # fmt: skip
        (width,) = struct.unpack(f"{order}f", struct.pack(f"{order}BBh", *fields))
        fields = struct.unpack(f"{order}BBh", struct.pack(f"{order}f", width * _mean(f)))
        (
            region.arrow_style_or_aspect_ratio, region.arrow_head_size,
            region.rounded_rect_arc_size,
        ) = fields  # fmt: skip


def _scale_details(region: ImagejRoi, f: np.ndarray) -> None:
    """Widths, corners, heads and letters are of the image; a point's size is the screen's."""
    mean = _mean(f)
    if region.roitype != ROI_TYPE.POINT:
        region.float_stroke_width *= mean
        wide = region.float_stroke_width or region.stroke_width * mean
        region.stroke_width = min(int(wide), 0x7FFF)
    if region.roitype == ROI_TYPE.RECT:
        arc = round(region.rounded_rect_arc_size * mean)
        region.rounded_rect_arc_size = max(0, min(arc, 0x7FFF))
    if region.subtype == ROI_SUBTYPE.ARROW:
        region.arrow_head_size = min(round(region.arrow_head_size * mean), 0xFF)
    if region.subtype == ROI_SUBTYPE.TEXT:
        region.text_size = max(1, round(region.text_size * f[1]))


def _moved(points: np.ndarray, f: np.ndarray, *, centres: bool) -> np.ndarray:
    """Coordinates of pixel centres at i lie at (i + 1/2) f - 1/2 of the result."""
    shift = 0.5 if centres else 0.0
    return (points + shift) * f - shift


def _mean(f: np.ndarray) -> float:
    return math.sqrt(f[0] * f[1])


def _are_integers(*places: np.ndarray) -> bool:
    every = np.concatenate([place.ravel() for place in places])
    return bool(np.all(every == np.rint(every)) and _fit(every))


def _fit(every: np.ndarray) -> bool:
    return bool(every.min() >= _LOWEST and every.max() <= _HIGHEST)


def _make_floats(region: ImagejRoi, since: int) -> None:
    region.options |= ROI_OPTIONS.SUB_PIXEL_RESOLUTION
    region.version = max(region.version, since)


def _set_bounds(region: ImagejRoi, low: np.ndarray, high: np.ndarray) -> None:
    """The rectangle of whole pixels around it; where it does not fit, the floats count."""
    low, high = np.clip(low, _LOWEST, _HIGHEST), np.clip(high, _LOWEST, _HIGHEST)
    region.left, region.top = map(int, low)
    region.right, region.bottom = map(int, high)
