"""TIFFs that lack strips or tiles: tifffile would make the missing part of the image black."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile

from esrgan_ext.errors import ImageFileError
from esrgan_ext.inference.files import read_image

PIXELS = np.random.default_rng(0).integers(0, 256, (64, 48), dtype=np.uint8)
LAYOUTS = {
    "one strip": {"rowsperstrip": 64},
    "strips": {"rowsperstrip": 16},
    "tiles": {"tile": (32, 32)},
}
OFFSETS, LENGTHS = ("StripOffsets", "TileOffsets"), ("StripByteCounts", "TileByteCounts")


def written(path: Path, compression: str | None, layout: str, **more: object) -> Path:
    tifffile.imwrite(path, PIXELS, compression=compression, **LAYOUTS[layout], **more)  # type: ignore[arg-type]
    return path


def tag_of(path: Path, *names: str) -> tifffile.TiffTag:
    with tifffile.TiffFile(path) as tif:
        return next(tag for name in names if (tag := tif.pages.first.tags.get(name)) is not None)


def patch(path: Path, at: int, format: str, value: int) -> None:
    data = bytearray(path.read_bytes())
    struct.pack_into("<" + format, data, at, value)
    path.write_bytes(data)


def set_value(path: Path, value: int, *names: str, last: bool = False) -> None:
    tag = tag_of(path, *names)
    code = {3: "H", 4: "I"}[int(tag.dtype)]
    step = struct.calcsize(code) * (tag.count - 1) if last else 0
    patch(path, tag.valueoffset + step, code, value)


def drop_last(path: Path) -> None:
    """One entry fewer in the lists of pieces."""
    for names in (OFFSETS, LENGTHS):
        tag = tag_of(path, *names)
        values = tag.value if tag.count == 2 else None
        patch(path, tag.offset + 4, "I", tag.count - 1)
        if values is not None:
            patch(path, tag.offset + 8, "I", values[0])


@pytest.fixture(params=[None, "zlib", "lzw", "packbits"], ids=str)
def compression(request: pytest.FixtureRequest) -> str | None:
    return request.param


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rows", [128, 2_359_336])
def test_a_header_that_claims_more_rows_than_there_are_strips(
    tmp_path, compression, layout, rows
) -> None:
    path = written(tmp_path / "x.tif", compression, layout)
    np.testing.assert_array_equal(read_image(path).pixels, PIXELS)
    set_value(path, rows, "ImageLength")
    name = "tiles" if layout == "tiles" else "strips"
    with pytest.raises(ImageFileError, match=rf"x\.tif: the TIFF is damaged: .* {name} of page 1"):
        read_image(path)


@pytest.mark.parametrize("rows", [128, 2_359_336])
def test_a_header_that_claims_more_rows_than_its_only_strip_holds(
    tmp_path, compression, rows
) -> None:
    path = written(tmp_path / "x.tif", compression, "one strip")
    set_value(path, rows, "ImageLength")
    set_value(path, rows, "RowsPerStrip")
    with pytest.raises(ImageFileError, match=r"x\.tif: the TIFF is (damaged|truncated)"):
        read_image(path)


@pytest.mark.parametrize("layout", ["strips", "tiles"])
def test_a_list_of_pieces_that_is_too_short(tmp_path, compression, layout) -> None:
    path = written(tmp_path / "x.tif", compression, layout)
    drop_last(path)
    with pytest.raises(ImageFileError, match=r"1 of the 4 (strips|tiles) of page 1 are missing"):
        read_image(path)


@pytest.mark.parametrize("what", [OFFSETS, LENGTHS], ids=["offset", "length"])
def test_a_strip_that_was_never_written(tmp_path, compression, what) -> None:
    path = written(tmp_path / "x.tif", compression, "strips")
    set_value(path, 0, *what, last=True)
    with pytest.raises(ImageFileError, match="1 of the 4 strips of page 1 are missing"):
        read_image(path)


def test_a_page_in_the_middle_of_a_stack(tmp_path) -> None:
    with tifffile.TiffWriter(tmp_path / "x.tif") as writer:
        for _ in range(3):
            writer.write(PIXELS, compression="zlib", rowsperstrip=16, metadata=None)
    with tifffile.TiffFile(tmp_path / "x.tif") as tif:
        tag = tif.pages[1].tags["StripByteCounts"]
    code = {3: "H", 4: "I"}[int(tag.dtype)]
    patch(tmp_path / "x.tif", tag.valueoffset, code, 0)
    with pytest.raises(ImageFileError, match="1 of the 4 strips of page 2 are missing"):
        read_image(tmp_path / "x.tif")


@pytest.mark.parametrize("kind", ["tiled", "geographic"])
def test_what_is_left_out_on_purpose_is_told(tmp_path, compression, kind) -> None:
    """GDAL's sparse files and slides have nothing where there is nothing to see."""
    layout, more = ("tiles", {}) if kind == "tiled" else ("strips", {"extratags": NO_DATA})
    path = written(tmp_path / "x.tif", compression, layout, **more)
    for names in (OFFSETS, LENGTHS):
        set_value(path, 0, *names, last=True)
    with pytest.warns(UserWarning, match=r"x\.tif: 1 of its (tiles|strips) were left out"):
        pixels = read_image(path).pixels
    assert (pixels[-16:, -16:] == 0).all()
    np.testing.assert_array_equal(pixels[:32, :32], PIXELS[:32, :32])


NO_DATA = [(42113, "s", 0, "0", True)]


def test_by_tiles_too(tmp_path) -> None:
    from esrgan_ext.inference.large.images.tiff import read_scene

    for layout, error in (("strips", True), ("tiles", False)):
        path = written(tmp_path / f"{layout}.tif", "zlib", layout)
        read_scene(path)
        set_value(path, 0, *LENGTHS, last=True)
        if error:
            with pytest.raises(ImageFileError, match="strips of page 1 are missing"):
                read_scene(path)
        else:
            with pytest.warns(UserWarning, match="1 of its tiles were left out"):
                read_scene(path)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_whole_files_of_all_kinds_have_nothing_missing(tmp_path, planar) -> None:
    color = np.random.default_rng(1).integers(0, 256, (30, 21, 3), dtype=np.uint8)
    stored = color if planar == "contig" else np.moveaxis(color, -1, 0)
    for number, layout in enumerate(
        ({"rowsperstrip": 7}, {"rowsperstrip": 100}, {"tile": (16, 16)})
    ):
        path = tmp_path / f"{number}.tif"
        tifffile.imwrite(path, stored, photometric="rgb", planarconfig=planar, **layout)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            pixels = read_image(path).pixels
        np.testing.assert_array_equal(np.asarray(pixels).reshape(30, 21, 3), color)


def test_one_strip_with_all_rows_whatever_the_rows_a_strip(tmp_path) -> None:
    """Some writers state too few rows a strip and write a plain image in one: it is all there."""
    path = written(tmp_path / "x.tif", None, "one strip")
    set_value(path, 16, "RowsPerStrip")
    np.testing.assert_array_equal(read_image(path).pixels, PIXELS)
