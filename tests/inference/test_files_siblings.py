"""Kinds of files that decoders pass on wrongly without a word: each comes in with its right values,
put together by hand here, or is refused."""

from __future__ import annotations

import io
import struct
import warnings
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from esrgan_ext.errors import ImageError, ImageFileError, OptionError
from esrgan_ext.inference.arrays import layout_of
from esrgan_ext.inference.files import ImageFile, read_image, write_image
from esrgan_ext.inference.folder import plan
from esrgan_ext.inference.headers import read_header
from esrgan_ext.inference.upscaler import Upscaler
from tests.conftest import make_network
from tests.inference.tiff_by_hand import tiff

COLOURS = np.array([(255, 128, 64), (0, 64, 192), (128, 128, 128), (64, 192, 0)], np.uint8)
NUMBERS = np.arange(4).reshape(2, 2).repeat(4, 0).repeat(8, 1).astype(np.uint8)  # 8 x 16
PICTURE = COLOURS[NUMBERS]


def read(path: Path, data: bytes) -> tuple[ImageFile, str]:
    path.write_bytes(data)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        image = read_image(path)
    return image, " ".join(str(warning.message) for warning in told)


def bmp(bits: int, compression: int, rows: bytes, *, header: int = 40, more: bytes = b"") -> bytes:
    """A BMP of 16 x 8; `more` stands behind the header: masks, a palette."""
    if header == 12:
        head = struct.pack("<I4H", 12, 16, 8, 1, bits)
    else:
        head = struct.pack("<IiiHHIIiiII", header, 16, 8, 1, bits, compression, 0, 0, 0, 0, 0)
        head = head.ljust(header, b"\0")
    start = 14 + len(head) + len(more)
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + head + more + rows


class TestBmp:
    PALETTES = {  # noqa: RUF012
        12: COLOURS[:, ::-1].tobytes(),
        40: np.pad(COLOURS[:, ::-1], ((0, 0), (0, 1))).tobytes(),
    }

    @pytest.mark.parametrize("header", [12, 40, 64])
    def test_three_bytes(self, tmp_path: Path, header: int) -> None:
        rows = PICTURE[::-1, :, ::-1].tobytes()
        image, _ = read(tmp_path / "in.bmp", bmp(24, 0, rows, header=header))
        np.testing.assert_array_equal(image.pixels, PICTURE)

    @pytest.mark.parametrize("header", [12, 40])
    @pytest.mark.parametrize("bits", [1, 2, 4, 8])
    def test_palettes(self, tmp_path: Path, bits: int, header: int) -> None:
        count, width = 1 << bits, 3 if header == 12 else 4
        numbers = NUMBERS & (count - 1)
        digits = (numbers[::-1, :, None] >> np.arange(bits - 1, -1, -1)) & 1
        rows = np.packbits(digits.reshape(8, -1).astype(np.uint8), axis=1)
        rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4)))
        palette = self.PALETTES[header][: width * count].ljust(width * count, b"\0")
        data = bmp(bits, 0, rows.tobytes(), header=header, more=palette)
        image, _ = read(tmp_path / "in.bmp", data)
        np.testing.assert_array_equal(image.pixels, COLOURS[numbers])

    def test_run_lengths(self, tmp_path: Path) -> None:
        whole = b"".join(bytes((8, a, 8, b, 0, 0)) for a, b in 4 * [(2, 3)] + 4 * [(0, 1)])
        literal = b"".join(bytes((0, 16, *row, 0, 0)) for row in NUMBERS[::-1])
        skipping = 4 * bytes((8, 2, 0, 2, 8, 0, 0, 0)) + 4 * bytes((16, 1, 0, 0))
        half = b"".join(bytes((16, 0x23, 0, 0)) for _ in range(8))
        expected = NUMBERS.copy()
        expected[:4], expected[4:, 8:] = 1, 0  # what is skipped has entry 0
        alternating = np.tile(np.array([2, 3], np.uint8), (8, 8))
        for bits, compression, codes, numbers in (
            (8, 1, whole, NUMBERS), (8, 1, literal, NUMBERS), (8, 1, skipping, expected),
            (4, 2, half, alternating),
        ):  # fmt: skip
            palette = self.PALETTES[40].ljust(4 << bits, b"\0")
            data = bmp(bits, compression, codes + b"\0\1", more=palette)
            image, _ = read(tmp_path / "in.bmp", data)
            np.testing.assert_array_equal(image.pixels, COLOURS[numbers])

    def test_fields_of_ten_bits_become_a_png(self, tmp_path: Path) -> None:
        stored = np.full((8, 16), 1023 << 20 | 512 << 10 | 0, "<u4")
        masks = struct.pack("<3I", 1023 << 20, 1023 << 10, 1023)
        image, _ = read(tmp_path / "in.bmp", bmp(32, 3, stored.tobytes(), more=masks))
        assert image.pixels[0, 0].tolist() == [65535, round(512 * 65535 / 1023), 0]
        (job,) = plan(tmp_path, tmp_path / "out").jobs
        assert job.target.suffix == ".png"


class TestJpeg:
    @pytest.mark.parametrize(  # YCCK is known by Adobe's marker alone
        ("coded", "adobe"), [("CMYK", True), ("CMYK", False), ("YCCK", True)]
    )
    def test_cmyk(self, tmp_path: Path, coded: str, adobe: bool) -> None:
        """Samples are of light with Adobe's marker, else of ink."""
        ink = np.empty((16, 16, 4), np.uint8)
        ink[:] = (0, 127, 191, 51)  # red light 1, green 0.5, blue 0.25, all by 0.8
        stored = 255 - ink if adobe else ink
        data = bytes(imagecodecs.jpeg8_encode(stored, level=100, colorspace="CMYK",
                                              outcolorspace=coded))  # fmt: skip
        at = data.index(b"\xff\xee")
        if not adobe:
            data = data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]
        image, told = read(tmp_path / "in.jpg", data)
        assert image.pixels.mean((0, 1)) == pytest.approx([204, 102.4, 51.2], abs=2)
        assert "CMYK" in told

    @pytest.mark.parametrize("bits", [12, 16])
    def test_more_than_8_bits(self, tmp_path: Path, bits: int) -> None:
        top = (1 << bits) - 1
        samples = np.full((16, 16), round(0.75 * top), np.uint16)
        if bits == 12:
            data = imagecodecs.jpeg8_encode(samples, level=100, bitspersample=12)
        else:
            data = imagecodecs.ljpeg_encode(samples, bitspersample=16)
        image, _ = read(tmp_path / "in.jpg", bytes(data))
        assert image.pixels.dtype == np.uint16
        assert image.pixels.mean() / 65535 == pytest.approx(0.75, abs=0.001)
        assert read_header(tmp_path / "in.jpg").dtype == np.uint16


def boxed(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content) + 8) + kind + content


def jp2(codestream: bytes, channels: int, inner: bytes) -> bytes:
    head = boxed(b"ihdr", struct.pack(">IIHBBBB", 8, 16, channels, 7, 7, 0, 0))
    head += boxed(b"colr", struct.pack(">BBBI", 1, 0, 0, 16)) + inner
    start = b"\0\0\0\x0cjP  \r\n\x87\n" + boxed(b"ftyp", b"jp2 \0\0\0\0jp2 ")
    return start + boxed(b"jp2h", head) + boxed(b"jp2c", codestream)


class TestJpeg2000:
    @pytest.mark.parametrize("bits", [8, 16])
    def test_palettes(self, tmp_path: Path, bits: int) -> None:
        colours = COLOURS.astype(np.uint16) * (257 if bits == 16 else 1)
        palette = struct.pack(">HB3B", 4, 3, *3 * [bits - 1]) + (
            colours.astype(f">u{bits // 8}").tobytes()
        )
        columns = b"".join(struct.pack(">HBB", 0, 1, k) for k in range(3))
        data = imagecodecs.jpeg2k_encode(NUMBERS, reversible=True, codecformat="j2k")
        inner = boxed(b"pclr", palette) + boxed(b"cmap", columns)
        image, _ = read(tmp_path / "in.jp2", jp2(bytes(data), 1, inner))
        np.testing.assert_array_equal(image.pixels, colours[NUMBERS])

    def test_premultiplied_opacity(self, tmp_path: Path) -> None:
        stored = np.full((8, 16, 4), (100, 50, 0, 128), np.uint8)
        data = imagecodecs.jpeg2k_encode(stored, reversible=True, codecformat="j2k", mct=False)
        meaning = struct.pack(">H12H", 4, 0, 0, 1, 1, 0, 2, 2, 0, 3, 3, 2, 0)
        image, told = read(tmp_path / "in.jp2", jp2(bytes(data), 4, boxed(b"cdef", meaning)))
        assert image.pixels[0, 0].tolist() == [199, 100, 0, 128]  # 100 times 255 / 128
        assert "premultiplied" in told


class TestNetpbm:
    def test_a_second_image_is_told_of(self, tmp_path: Path) -> None:
        one = b"P5 4 4 255\n" + bytes(16)
        assert "more than one image" in read(tmp_path / "in.pgm", one + one)[1]
        assert read(tmp_path / "in.pgm", one + b"\n")[1] == ""

    def test_cmyk_is_refused(self, tmp_path: Path) -> None:
        head = b"P7\nWIDTH 4\nHEIGHT 4\nDEPTH 4\nMAXVAL 255\nTUPLTYPE CMYK\nENDHDR\n"
        with pytest.raises(ImageFileError, match="a PAM in CMYK"):
            read(tmp_path / "in.pam", head + bytes(64))


class TestTiff:
    @pytest.mark.parametrize(("bits", "sample"), [(24, 1), (4, 2), (12, 2)])
    def test_samples_that_are_not_read_are_named(
        self, tmp_path: Path, bits: int, sample: int
    ) -> None:
        samples = np.zeros((8, 16, 1), np.uint32)
        data = tiff(samples, bits, 1, tags=((339, 3, [sample]),))
        with pytest.raises(ImageFileError, match=f"{bits} bits a sample in format {sample}"):
            read(tmp_path / "in.tif", data)

    def test_floats_of_24_bits_stop_no_folder(self, tmp_path: Path) -> None:
        samples = np.zeros((8, 16, 1), np.uint32)
        (tmp_path / "in.tif").write_bytes(tiff(samples, 24, 1, tags=((339, 3, [3]),)))
        assert read_header(tmp_path / "in.tif").dtype == np.float32
        assert len(plan(tmp_path, tmp_path / "out").jobs) == 1

    @pytest.mark.parametrize("photometric", [8, 9])
    def test_lightness_alone(self, tmp_path: Path, photometric: int) -> None:
        # L* of 53.585 is a neutral sRGB of 0.5 (CIE 15, IEC 61966-2-1).
        samples = np.full((8, 16, 1), round(53.585 * 2.55), np.uint8)
        image, _ = read(tmp_path / "in.tif", tiff(samples, 8, photometric))
        assert image.pixels.mean((0, 1)) / 255 == pytest.approx(3 * [0.5], abs=0.005)

    def test_colours_of_a_bit_each_are_written_as_bytes(self, tmp_path: Path) -> None:
        image, _ = read(tmp_path / "in.tif", tiff(PICTURE >> 7, 1, 2))
        write_image(tmp_path / "out.tif", image.pixels, like=image)
        with tifffile.TiffFile(tmp_path / "out.tif") as tif:
            np.testing.assert_array_equal(tif.asarray(), (PICTURE >> 7) * 255)

    @pytest.mark.parametrize("suffix", [".png", ".tif"])
    def test_premultiplied_colours(self, tmp_path: Path, suffix: str) -> None:
        """A PNG has them as they are, a TIFF says that they are premultiplied."""
        samples = np.full((8, 16, 4), (100, 50, 0, 128), np.uint8)
        image, _ = read(tmp_path / "in.tif", tiff(samples, 8, 2, extra=(1,)))
        write_image(tmp_path / f"out{suffix}", image.pixels, like=image)
        if suffix == ".png":
            found = imagecodecs.png_decode((tmp_path / "out.png").read_bytes())
            assert found[0, 0].tolist() == [199, 100, 0, 128]
        else:
            with tifffile.TiffFile(tmp_path / "out.tif") as tif:
                assert tif.asarray()[0, 0].tolist() == [100, 50, 0, 128]
                assert [int(code) for code in tif.pages[0].extrasamples] == [1]

    def test_a_page_of_half_the_size_is_an_image(self, tmp_path: Path) -> None:
        with tifffile.TiffWriter(tmp_path / "in.tif") as tif:
            for side, value in ((32, 60), (16, 120)):
                tif.write(np.full((side, side), value, np.uint8), metadata=None)
        image = read_image(tmp_path / "in.tif")
        assert [one.pixels.shape for one in image.further] == [(16, 16)]
        assert image.further[0].pixels.mean() == 120

    def test_a_thumbnail_in_front(self, tmp_path: Path) -> None:
        with tifffile.TiffWriter(tmp_path / "in.tif") as tif:
            tif.write(np.zeros((8, 8), np.uint8), subfiletype=1, metadata=None)
            tif.write(np.full((32, 32), 90, np.uint8), metadata=None)
        image = read_image(tmp_path / "in.tif")
        assert (image.pixels.mean(), image.further) == (90, ())

    def test_files_of_other_folders_are_not_read(self, tmp_path: Path) -> None:
        (tmp_path / "secret").mkdir()
        tifffile.imwrite(tmp_path / "secret" / "b.ome.tif", np.full((8, 8), 99, np.uint8))
        names = ("in.ome.tif", "../secret/b.ome.tif", "secret/b.ome.tif")
        parts = "".join(
            f'<TiffData FirstZ="{k}" IFD="0" PlaneCount="1"><UUID FileName="{name}">urn:uuid:'
            f"{k}1111111-1111-1111-1111-111111111111</UUID></TiffData>"
            for k, name in enumerate(names)
        )
        xml = (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            'UUID="urn:uuid:01111111-1111-1111-1111-111111111111"><Image ID="Image:0"><Pixels '
            'ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="8" SizeY="8" SizeZ="3" '
            f'SizeC="1" SizeT="1">{parts}</Pixels></Image></OME>'
        )
        file = io.BytesIO()
        tifffile.imwrite(file, np.zeros((8, 8), np.uint8), description=xml, metadata=None)
        image, told = read(tmp_path / "in.ome.tif", file.getvalue())
        assert image.pixels.max() == 0
        assert "other folders" in told

    def test_texts_of_a_bigtiff_and_of_later_pages(self, tmp_path: Path) -> None:
        with tifffile.TiffWriter(tmp_path / "in.tif", bigtiff=True) as tif:
            for k in range(2):
                tif.write(NUMBERS, description=f"page {k}", metadata=None, contiguous=False)
        image, told = read(tmp_path / "in.tif", (tmp_path / "in.tif").read_bytes())
        assert "the pages' own descriptions are not kept" in told
        write_image(tmp_path / "out.tif", image.pixels, like=image)
        with tifffile.TiffFile(tmp_path / "out.tif") as tif:
            assert tif.pages[0].description == "page 0"

    def test_what_a_png_cannot_keep_is_named(self, tmp_path: Path) -> None:
        tifffile.imwrite(tmp_path / "in.tif", NUMBERS, imagej=True, metadata={"unit": "um"})
        image = read_image(tmp_path / "in.tif")
        with pytest.warns(UserWarning, match="PNG cannot keep ImageJ's .*unit"):
            write_image(tmp_path / "out.png", image.pixels, like=image)


class TestArrays:
    @pytest.mark.parametrize("shape", [(32, 32, 2), (32, 32, 5), (2, 32, 40, 3), (32, 32, 8)])
    def test_a_last_axis_that_is_no_width_is_asked_about(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(OptionError, match="channel_axis=-1"):
            layout_of(shape, None)
        assert layout_of(shape, False).width == shape[-1]
        assert layout_of(shape, -1).width == shape[-2]

    def test_a_stack_with_a_gray_axis(self) -> None:
        layout = layout_of((5, 32, 40, 1), None)
        assert (layout.height, layout.width, layout.channel_axis) == (32, 40, 3)

    def test_masked_arrays_are_refused_if_something_is_masked(self) -> None:
        upscaler = Upscaler(make_network(nb=1), device="cpu", data_range=(0, 255))
        plain = np.ma.array(PICTURE)
        np.testing.assert_array_equal(upscaler(plain), upscaler(PICTURE))
        with pytest.raises(ImageError, match="filled"):
            upscaler(np.ma.masked_equal(PICTURE, 128))
