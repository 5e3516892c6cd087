"""docs/formats.md has the table that results are written by."""

from __future__ import annotations

from esrgan_ext.inference.capacity import holds_types
from esrgan_ext.inference.formats.kept import KEPT, NAMES
from esrgan_ext.inference.headers import SUFFIXES
from tests.conftest import ROOT

TITLES = {
    "png": "PNG", "jpeg": "JPEG", "tiff": "TIFF", "webp": "WebP", "avif": "AVIF", "bmp": "BMP",
    "jp2": "JPEG 2000", "jxl": "JPEG XL", "exr": "OpenEXR", "hdr": "Radiance HDR", "pnm": "Netpbm",
    "heif": "HEIC, HEIF", "gif": "GIF",
}  # fmt: skip


def table() -> str:
    """The page's table, made from what the code goes by."""
    rows = ["| format | suffixes | results hold | kept in a result |", "|---|---|---|---|"]
    for format, title in TITLES.items():
        suffixes = " ".join(suffix for suffix, one in SUFFIXES.items() if one == format)
        kept = ", ".join(NAMES[key] for key in KEPT.get(format, ()))
        held = holds_types(format)
        rows.append(f"| {title} | {suffixes} | {held} | {kept or ('' if not held else 'none')} |")
    return "\n".join(rows)


def test_the_page_has_the_table() -> None:
    assert table() in (ROOT / "docs" / "formats.md").read_text()


def test_every_format_is_in_it() -> None:
    assert set(TITLES) == set(SUFFIXES.values())
