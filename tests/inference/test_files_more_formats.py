"""HEIC, JPEG XL, OpenEXR and Radiance HDR; and what is refused by name. Pillow, libjxl's and
OpenEXR's own encoders are the witnesses."""

from __future__ import annotations

import sys

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from esrgan_ext.errors import ImageFileError
from esrgan_ext.inference.files import read_image, write_image
from esrgan_ext.inference.headers import read_header
from tests.inference.tiff_by_hand import tiff


class TestJpegXl:
    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    @pytest.mark.parametrize("bits", [8, 10, 12, 16, 32])
    def test_samples(self, tmp_path, channels, bits) -> None:
        rng = np.random.default_rng(0)
        if bits == 32:
            stored = expected = rng.random((20, 28, channels), np.float32)
        else:
            kind = np.uint8 if bits == 8 else np.uint16
            stored = rng.integers(0, 1 << bits, (20, 28, channels)).astype(kind)
            expected = np.rint(stored / ((1 << bits) - 1) * np.iinfo(kind).max)
        data = imagecodecs.jpegxl_encode(
            stored if channels > 1 else stored[..., 0], lossless=True,
            bitspersample=None if bits == 32 else bits,
        )  # fmt: skip
        (tmp_path / "in.jxl").write_bytes(data)

        found = read_image(tmp_path / "in.jxl")
        write_image(tmp_path / "out.jxl", found.pixels, like=found)

        header = read_header(tmp_path / "in.jxl")
        assert (header.width, header.height, header.bits) == (28, 20, bits)
        np.testing.assert_array_equal(found.pixels.reshape(expected.shape), expected)
        again = np.asarray(imagecodecs.jpegxl_decode((tmp_path / "out.jxl").read_bytes()))
        np.testing.assert_array_equal(again, found.pixels)

    @pytest.mark.parametrize("size", [(8, 8), (9, 300), (512, 256), (1030, 3)])
    def test_sizes_in_the_header(self, tmp_path, size) -> None:
        data = imagecodecs.jpegxl_encode(np.zeros((*size, 3), np.uint8))
        (tmp_path / "in.jxl").write_bytes(data)
        header = read_header(tmp_path / "in.jxl")
        assert (header.height, header.width) == size


class TestHeic:
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_an_upright_picture_with_its_metadata(self, tmp_path, orientation) -> None:
        pillow_heif = pytest.importorskip("pillow_heif")
        pillow_heif.register_heif_opener()
        exif = Image.Exif()
        exif[0x10F], exif[0x112] = "maker", orientation
        photo = np.repeat(np.arange(0, 224, 8, dtype=np.uint8)[None, :, None], 20, 0).repeat(3, 2)
        Image.fromarray(photo).save(tmp_path / "in.heic", "HEIF", quality=95, exif=exif.tobytes())
        with Image.open(tmp_path / "in.heic") as image:
            expected = np.asarray(image.convert("RGB")).astype(int)

        found = read_image(tmp_path / "in.heic")

        assert np.abs(found.pixels.astype(int) - expected).max() <= 1
        kept = Image.Exif()
        kept.load(found.metadata.exif or b"")
        assert (kept[0x10F], kept.get(0x112, 1)) == ("maker", 1)

    def test_without_the_extra_the_message_says_what_to_install(
        self, tmp_path, monkeypatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "pillow_heif", None)
        monkeypatch.setitem(sys.modules, "OpenEXR", None)
        heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0\0\0\x14ispe\0\0\0\0\0\0\0\x08\0\0\0\x08"
        exr = b"\x76\x2f\x31\x01\2\0\0\0dataWindow\0box2i\0\x10\0\0\0" + bytes(8) + b"\7\0\0\0" * 2
        for name, data in (("in.heic", heic), ("in.exr", exr)):
            (tmp_path / name).write_bytes(data)
            with pytest.raises(ImageFileError, match=r"pip install 'esrgan-ext\[formats\]'"):
                read_image(tmp_path / name)


class TestFloats:
    def test_radiance(self, tmp_path) -> None:
        light = np.random.default_rng(0).random((20, 28, 3), np.float32) * 4
        (tmp_path / "in.hdr").write_bytes(imagecodecs.rgbe_encode(light))

        found = read_image(tmp_path / "in.hdr")
        write_image(tmp_path / "out.hdr", found.pixels, like=found)

        # Eight bits of mantissa for the largest of three.
        assert np.abs(found.pixels - light).max() <= light.max() / 128
        again = imagecodecs.rgbe_decode((tmp_path / "out.hdr").read_bytes())
        np.testing.assert_allclose(again, found.pixels, atol=light.max() / 128)

    @pytest.mark.parametrize("name", ["Y", "RGB", "RGBA"])
    @pytest.mark.parametrize("kind", [np.float16, np.float32])
    def test_openexr(self, tmp_path, name, kind) -> None:
        library = pytest.importorskip("OpenEXR")
        light = (np.random.default_rng(0).random((20, 28, len(name))) * 4).astype(kind)
        light = light[..., 0] if name == "Y" else light
        header = {"compression": library.ZIP_COMPRESSION, "type": library.scanlineimage}
        with library.File(header, {name: light}) as file:
            file.write(str(tmp_path / "in.exr"))

        found = read_image(tmp_path / "in.exr")
        write_image(tmp_path / "out.exr", found.pixels, like=found)

        np.testing.assert_array_equal(found.pixels, light)
        with library.File(str(tmp_path / "out.exr")) as file:
            np.testing.assert_array_equal(file.channels()[name].pixels, light)


class TestRefused:
    @pytest.mark.parametrize(
        ("name", "data", "word"),
        [
            ("in.psd", b"8BPS\0\1" + bytes(20), "Photoshop document: save it as TIFF or PNG"),
            ("in.png", b"8BPS\0\1" + bytes(20), "Photoshop document"),
            ("in.raf", b"FUJIFILMCCD-RAW " + bytes(20), r"camera's raw file \(RAF\)"),
            ("in.cr3", b"\0\0\0\x18ftypcrx \0\0\0\1", r"camera's raw file \(CR3\)"),
            ("in.nef", tiff(np.zeros((4, 4, 3), int), 8, 2), r"camera's raw file \(NEF\)"),
            ("in.dng", tiff(np.zeros((4, 4, 1), int), 16, 32803), r"camera's raw file \(DNG\)"),
            ("in.tif", tiff(np.zeros((4, 4, 1), int), 16, 32803), "camera's raw file"),
        ],
    )
    def test_by_name(self, tmp_path, name, data, word) -> None:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ImageFileError, match=word):
            read_image(tmp_path / name)
