"""Scales from pixel sizes, against numbers worked out by hand."""

from __future__ import annotations

import pytest

from esrgan_ext.errors import OptionError
from napari_esrgan._work.pixel_size import PixelSize, parse_pixel_size, scale_for

UM = ("micrometer", "micrometer")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.1 um", PixelSize(0.1, "micrometer")),
        ("100nm", PixelSize(100, "nanometer")),
        (" 0,25 µm ", PixelSize(0.25, "micrometer")),
        ("1e-3 mm", PixelSize(1e-3, "millimeter")),
        (".5", PixelSize(0.5, "inch")),
        ("2 px", PixelSize(2, "pixel")),
    ],
)
def test_what_people_write(text, expected):
    assert parse_pixel_size(text, "inch") == expected


@pytest.mark.parametrize(
    "text", ["um", "0 um", "-1 um", "0.1 kg", "0.1 wug", "1 2 um", "inf um", "0.1 (um"]
)
def test_what_is_no_pixel_size(text):
    with pytest.raises(OptionError, match=r"pixel size|unit of length"):
        parse_pixel_size(text, "pixel")


@pytest.mark.parametrize(
    ("wanted", "sides", "units", "scale"),
    [
        (PixelSize(0.1, "micrometer"), (0.4, 0.4), UM, 4.0),
        (PixelSize(0.1, "micrometer"), (0.3, 0.3), UM, 3.0),
        (PixelSize(100, "nanometer"), (0.325, 0.325), UM, 3.25),
        (PixelSize(0.1, "micrometer"), (0.2, 200), ("micrometer", "nanometer"), 2.0),
        (PixelSize(0.25, "pixel"), (1, 1), ("pixel", "pixel"), 4.0),
    ],
)
def test_the_scale(wanted, sides, units, scale):
    assert scale_for(wanted, sides, units) == scale


@pytest.mark.parametrize(
    ("wanted", "sides", "units", "words"),
    [
        (PixelSize(0.1, "micrometer"), (1, 1), ("pixel", "pixel"), "no pixel size"),
        (PixelSize(0.1, "micrometer"), (0.4, 0.2), UM, r"not square \(0.4 µm by 0.2 µm\)"),
        (PixelSize(1, "nanometer"), (0.4, 0.4), UM, "1 nm would be x 400"),
    ],
)
def test_no_scale(wanted, sides, units, words):
    with pytest.raises(OptionError, match=words):
        scale_for(wanted, sides, units)
