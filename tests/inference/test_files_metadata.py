"""What a file says beside its pixels, and what of it is there again in a result; Pillow and
tifffile are the witnesses. What a format cannot keep is named in a note."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, IptcImagePlugin, PngImagePlugin

from esrgan_ext.inference.files import ImageFile, read_image, write_image
from esrgan_ext.inference.formats.kept import KEPT, NAMES
from esrgan_ext.inference.formats.metadata import Metadata

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><note/></x:xmpmeta>'
HEADLINE = b"\x1c\x02\x69\x00\x05ramps"  # record 2, data set 105
SUFFIX = {"jpeg": ".jpg", "pnm": ".ppm", "tiff": ".tif"}


def enlarged(image: ImageFile, path: Path) -> list[str]:
    """Written as four times as large; the notes come back."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        write_image(path, image.pixels.repeat(4, 0).repeat(4, 1), like=image)
    return [str(warning.message) for warning in told]


def everything() -> Metadata:
    exif = Image.Exif()
    exif[0x10F] = "maker"
    return Metadata(
        exif=exif.tobytes().removeprefix(b"Exif\0\0"), icc=SRGB, xmp=XMP, cicp=bytes((1, 13, 0, 1)),
        dpi=(300.0, 300.0), png_colour=((b"gAMA", struct.pack(">I", 100000)),), iptc=HEADLINE,
        texts=(("Title", "a ramp"), ("Comment", "Größe")),
    )  # fmt: skip


WRITTEN = [
    name
    for name in KEPT
    if name in ("png", "jpeg", "tiff", "webp", "avif", "bmp", "jp2", "jxl", "pnm")
]


@pytest.mark.parametrize("format", WRITTEN)
def test_the_table_of_what_is_kept(tmp_path, format) -> None:
    given = everything()
    path = tmp_path / f"out{SUFFIX.get(format, '.' + format)}"
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        write_image(path, PIXELS, metadata=given)
    notes = " ".join(str(warning.message) for warning in told)
    found = read_image(path).metadata

    assert (found.dpi == pytest.approx(given.dpi, rel=1e-3)) if "dpi" in KEPT[format] else True
    for key in ("exif", "icc", "xmp", "iptc", "cicp"):
        assert (getattr(found, key) is not None) == (key in KEPT[format])
        assert (NAMES[key] in notes) == (key not in KEPT[format])
    texts = dict(found.texts)
    assert texts.get("Title") == ("a ramp" if "texts" in KEPT[format] else None)
    assert texts.get("Comment") == ("Größe" if "comments" in KEPT[format] else None)


@pytest.mark.parametrize("kind", ["tEXt", "zTXt", "iTXt", "iTXt compressed"])
def test_png_texts(tmp_path, kind) -> None:
    info = PngImagePlugin.PngInfo()
    packed = kind in ("zTXt", "iTXt compressed")
    for keyword, text in (("Title", "a ramp"), ("Beschreibung", "Größe"), ("Long", "x" * 3000)):
        if kind.startswith("iTXt"):
            info.add_itxt(keyword, text, zip=packed)
        else:
            info.add_text(keyword, text, zip=packed)
    Image.fromarray(PIXELS).save(tmp_path / "in.png", pnginfo=info)

    enlarged(read_image(tmp_path / "in.png"), tmp_path / "out.png")

    with Image.open(tmp_path / "in.png") as before, Image.open(tmp_path / "out.png") as after:
        before.load()
        after.load()
        assert dict(after.text) == dict(before.text)


def test_a_text_that_is_a_bomb_costs_nothing(tmp_path) -> None:
    data = io.BytesIO()
    Image.fromarray(PIXELS).save(data, "PNG")
    body = b"Bomb\0\0" + zlib.compress(bytes(1 << 28))
    chunk = struct.pack(">I", len(body)) + b"zTXt" + body
    chunk += struct.pack(">I", zlib.crc32(b"zTXt" + body))
    whole = data.getvalue()
    (tmp_path / "in.png").write_bytes(whole[:33] + chunk + whole[33:])
    assert sum(len(text) for _, text in read_image(tmp_path / "in.png").metadata.texts) <= 1 << 24


def test_jpeg_comments_and_iptc(tmp_path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "plain.jpg", comment="Größe".encode())
    data = (tmp_path / "plain.jpg").read_bytes()
    block = b"Photoshop 3.0\x008BIM" + struct.pack(">HHI", 0x404, 0, len(HEADLINE)) + HEADLINE
    data = data[:2] + b"\xff\xed" + struct.pack(">H", len(block) + 2) + block + data[2:]
    (tmp_path / "in.jpg").write_bytes(data)

    enlarged(read_image(tmp_path / "in.jpg"), tmp_path / "out.jpg")

    with Image.open(tmp_path / "out.jpg") as image:
        assert image.info["comment"].decode() == "Größe"
        assert IptcImagePlugin.getiptcinfo(image) == {(2, 105): b"ramps"}
        np.asarray(image)


def test_geotiff(tmp_path) -> None:
    keys = (1, 1, 0, 2, 1024, 0, 1, 2, 1025, 0, 1, 1)
    tags = [
        (33550, 12, 3, (10.0, 20.0, 0.0), True),
        (33922, 12, 6, (3.0, 5.0, 0.0, 500000.0, 4600000.0, 0.0), True),
        (34735, 3, len(keys), keys, True),
        (34737, 2, 0, "WGS 84|", True),
    ]
    tifffile.imwrite(tmp_path / "in.tif", PIXELS, extratags=tags, metadata=None)

    enlarged(read_image(tmp_path / "in.tif"), tmp_path / "out.tif")

    with tifffile.TiffFile(tmp_path / "out.tif") as tif:
        found = tif.pages[0].tags
        assert found[33550].value == (2.5, 5.0, 0.0)
        assert found[33922].value == (12.0, 20.0, 0.0, 500000.0, 4600000.0, 0.0)
        assert found[34735].value == keys
        assert found[34737].value == "WGS 84|"


@pytest.mark.parametrize("point", [False, True])
def test_every_place_of_a_geotiff_stays_where_it_is(tmp_path, point) -> None:
    keys = (1, 1, 0, 1, 1025, 0, 1, 2 if point else 1)
    matrix = np.array([[2.0, 0.5, 0, 100], [0.25, -3.0, 0, 200], [0, 0, 0, 0], [0, 0, 0, 1]])
    tags = [
        (34264, 12, 16, tuple(matrix.ravel()), True),
        (34735, 3, len(keys), keys, True),
    ]
    tifffile.imwrite(tmp_path / "in.tif", PIXELS, extratags=tags, metadata=None)

    enlarged(read_image(tmp_path / "in.tif"), tmp_path / "out.tif")

    with tifffile.TiffFile(tmp_path / "out.tif") as tif:
        result = np.array(tif.pages[0].tags[34264].value).reshape(4, 4)
    corner = -0.5 if point else 0.0  # raster coordinates of the image's own corner
    for u, v in ((0, 0), (7, 11)):
        before = matrix @ (u + corner, v + corner, 0, 1)
        after = result @ (4 * u + corner, 4 * v + corner, 0, 1)
        np.testing.assert_allclose(after, before)


def test_ome(tmp_path) -> None:
    planes = np.zeros((2, 24, 32), np.uint16)
    details = {
        "axes": "CYX", "Name": "field 7", "AcquisitionDate": "2021-06-07T08:09:10",
        "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.25,
        "Channel": {"Name": ["DAPI", "GFP"], "Color": [255, -16776961],
                    "EmissionWavelength": [461.0, 509.0]},
        "Plane": {"PositionX": [1.5, 1.5], "PositionXUnit": ["mm", "mm"],
                  "ExposureTime": [0.1, 0.2]},
    }  # fmt: skip
    tifffile.imwrite(tmp_path / "in.ome.tif", planes, ome=True, metadata=details)
    image = read_image(tmp_path / "in.ome.tif")

    write_image(tmp_path / "out.ome.tif", planes.repeat(4, 1).repeat(4, 2), like=image)

    with tifffile.TiffFile(tmp_path / "out.ome.tif") as tif:
        found = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]
    assert (found["Name"], found["AcquisitionDate"]) == ("field 7", "2021-06-07T08:09:10")
    pixels = found["Pixels"]
    assert (pixels["PhysicalSizeX"], pixels["PhysicalSizeY"]) == (0.125, 0.0625)
    assert [channel["Name"] for channel in pixels["Channel"]] == ["DAPI", "GFP"]
    assert [channel["Color"] for channel in pixels["Channel"]] == [255, -16776961]
    assert [channel["EmissionWavelength"] for channel in pixels["Channel"]] == [461.0, 509.0]
    assert [plane["PositionX"] for plane in pixels["Plane"]] == [1.5, 1.5]
    assert [plane["ExposureTime"] for plane in pixels["Plane"]] == [0.1, 0.2]


def test_imagej(tmp_path) -> None:
    planes = np.zeros((3, 24, 32), np.uint8)
    details = {
        "axes": "ZYX", "unit": "um", "yunit": "mm", "zunit": "nm", "spacing": 2.0, "min": 20.0,
        "max": 180.0, "Labels": ["one", "two", "three"], "Info": "taken on a Monday",
    }  # fmt: skip
    tifffile.imwrite(
        tmp_path / "in.tif", planes, imagej=True, metadata=details, resolution=(5.0, 2.5)
    )

    enlarged_planes = planes.repeat(4, 1).repeat(4, 2)
    write_image(tmp_path / "out.tif", enlarged_planes, like=read_image(tmp_path / "in.tif"))

    with tifffile.TiffFile(tmp_path / "out.tif") as tif:
        found = tif.imagej_metadata
        x, y = (tif.pages[0].tags[tag].value for tag in (282, 283))
    for key in ("unit", "yunit", "zunit", "spacing", "min", "max", "Labels", "Info"):
        assert found[key] == details[key]
    assert (x[0] / x[1], y[0] / y[1]) == pytest.approx((20.0, 10.0))


def boxed(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", len(content) + 8, kind) + content


class TestBoxes:
    """JPEG 2000 and JPEG XL, whose metadata lie in boxes: made by hand, and read by hand."""

    EXIF = everything().exif or b""
    ADOBE_XMP = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")

    def jp2(self) -> bytes:
        """PIXELS with everything beside them; 5905 samples a metre across, 11810 down."""
        plain = imagecodecs.jpeg2k_encode(PIXELS, reversible=True, codecformat="jp2")
        start = plain.index(b"jp2h") - 4
        pixels = plain.index(b"jp2c") - 4
        resolution = boxed(b"resc", struct.pack(">4H2b", 11810, 1, 59050, 100, 0, 1))
        header = plain[start + 8 : plain.index(b"colr") - 4]
        header += boxed(b"colr", b"\2\0\0" + SRGB) + boxed(b"res ", resolution)
        exif = boxed(b"uuid", b"JpgTiffExif->JP2" + self.EXIF)
        xmp = boxed(b"uuid", self.ADOBE_XMP + XMP)
        return plain[:start] + boxed(b"jp2h", header) + exif + plain[pixels:] + xmp

    def test_jpeg_2000(self, tmp_path) -> None:
        data = self.jp2()
        # The last box states its length, so that another can follow it.
        at = data.index(b"jp2c") - 4
        length = data.index(b"uuid", at) - 4 - at
        (tmp_path / "in.jp2").write_bytes(data[:at] + struct.pack(">I", length) + data[at + 4 :])

        image = read_image(tmp_path / "in.jp2")
        notes = enlarged(image, tmp_path / "out.jp2")

        for name in ("in.jp2", "out.jp2"):
            found = read_image(tmp_path / name).metadata
            assert (found.icc, found.xmp) == (SRGB, XMP)
            kept = Image.Exif()
            kept.load(found.exif or b"")
            assert kept[0x10F] == "maker"
        assert image.metadata.dpi == pytest.approx((5905 * 0.0254, 11810 * 0.0254))
        with Image.open(tmp_path / "out.jp2") as again:  # Pillow and OpenJPEG as witnesses
            assert again.info["dpi"] == pytest.approx((150, 300), rel=1e-3)
            np.testing.assert_array_equal(np.asarray(again), PIXELS.repeat(4, 0).repeat(4, 1))
        assert notes == []

    def test_a_bare_codestream_says_what_it_cannot_keep(self, tmp_path) -> None:
        (tmp_path / "in.jp2").write_bytes(self.jp2())
        notes = enlarged(read_image(tmp_path / "in.jp2"), tmp_path / "out.j2k")
        assert "cannot keep the source's EXIF, colour profile, XMP, resolution" in " ".join(notes)
        assert (tmp_path / "out.j2k").read_bytes()[:4] == b"\xff\x4f\xff\x51"

    @pytest.mark.parametrize("packed", [False, True])
    def test_jpeg_xl(self, tmp_path, packed) -> None:
        exif = Image.Exif()
        exif[0x10F], exif[0x112] = "maker", 6  # the codestream's orientation counts: upright
        block = struct.pack(">I", 6) + b"Exif\0\0" + exif.tobytes().removeprefix(b"Exif\0\0")
        data = imagecodecs.jpegxl_encode(PIXELS, lossless=True, usecontainer=True)
        for kind, content in ((b"Exif", block), (b"xml ", XMP)):
            if packed:
                kind, content = b"brob", kind + imagecodecs.brotli_encode(content)
            data += boxed(kind, content)
        (tmp_path / "in.jxl").write_bytes(data)

        notes = enlarged(read_image(tmp_path / "in.jxl"), tmp_path / "out.jxl")

        again = read_image(tmp_path / "out.jxl")
        np.testing.assert_array_equal(again.pixels, PIXELS.repeat(4, 0).repeat(4, 1))
        kept = Image.Exif()
        kept.load(again.metadata.exif or b"")
        assert (kept[0x10F], kept[0x112], again.metadata.xmp) == ("maker", 1, XMP)
        assert boxed(b"xml ", XMP) in (tmp_path / "out.jxl").read_bytes()
        assert notes == []

    @pytest.mark.parametrize("content", [b"\xff" * 40, imagecodecs.brotli_encode(bytes(1 << 25))])
    def test_a_packed_box_that_is_damaged_or_a_bomb(self, tmp_path, content) -> None:
        data = imagecodecs.jpegxl_encode(PIXELS, lossless=True, usecontainer=True)
        (tmp_path / "in.jxl").write_bytes(data + boxed(b"brob", b"xml " + content))
        with pytest.warns(UserWarning, match="box of metadata is left out"):
            image = read_image(tmp_path / "in.jxl")
        assert image.metadata.xmp is None
        np.testing.assert_array_equal(image.pixels, PIXELS)

    def test_jpeg_xl_with_colours_other_than_srgb(self, tmp_path) -> None:
        (tmp_path / "in.jxl").write_bytes(  # floats are taken for linear light by the encoder
            imagecodecs.jpegxl_encode(PIXELS.astype(np.float32) / 255, lossless=True)
        )
        with pytest.warns(UserWarning, match="its colours are not sRGB's"):
            read_image(tmp_path / "in.jxl")


def test_openexr_attributes_and_an_hdr_exposure_are_named(tmp_path) -> None:
    light = np.ones((4, 4, 3), np.float32)
    library = pytest.importorskip("OpenEXR")
    header = {
        "compression": library.ZIP_COMPRESSION, "type": library.scanlineimage, "owner": "someone",
    }  # fmt: skip
    with library.File(header, {"RGB": light}) as file:
        file.write(str(tmp_path / "in.exr"))
    data = imagecodecs.rgbe_encode(light)
    end = data.index(b"\n\n")
    (tmp_path / "in.hdr").write_bytes(data[:end] + b"\nEXPOSURE=2.5" + data[end:])

    with pytest.warns(UserWarning, match="attributes owner not kept"):
        read_image(tmp_path / "in.exr")
    with pytest.warns(UserWarning, match="EXPOSURE not kept"):
        read_image(tmp_path / "in.hdr")
