"""Image files in and out: pixels, metadata, bad input. Pillow is the independent witness."""

from __future__ import annotations

import itertools
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from esrgan_ext.errors import ImageFileError
from esrgan_ext.inference.files import Metadata, can_hold, read_image, write_image

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><note/></x:xmpmeta>'
MAKE, ORIENTATION, EXIF_IFD, TAKEN, PIXEL_X = 0x10F, 0x112, 0x8769, 0x9003, 0xA002


@pytest.fixture
def pixels() -> np.ndarray:
    """RGBA noise whose rows and columns differ in number."""
    return np.random.default_rng(1).integers(0, 256, (24, 30, 4), dtype=np.uint8)


def camera_exif(orientation: int = 1, xmp: bytes | None = None) -> bytes:
    exif = Image.Exif()
    if xmp is not None:
        exif[700] = xmp  # TIFF's own place for it
    exif[MAKE] = "maker"
    exif[ORIENTATION] = orientation
    exif.get_ifd(EXIF_IFD)[TAKEN] = "2020:02:03 04:05:06"
    exif.get_ifd(EXIF_IFD)[PIXEL_X] = 30
    return exif.tobytes()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_file(
    width: int, height: int, bits: int, colour: int, rows: bytes, extra: bytes = b""
) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + extra
        + png_chunk(b"IDAT", zlib.compress(rows))
        + png_chunk(b"IEND", b"")
    )


class TestPixels:
    @pytest.mark.parametrize(
        ("mode", "suffix"),
        [
            *itertools.product(("L", "RGB"), (".png", ".bmp", ".tif")),
            *itertools.product(("LA", "RGBA"), (".png", ".tif")),
            ("L", ".pgm"),
            ("RGB", ".ppm"),
            ("RGB", ".webp"),
            ("RGBA", ".webp"),
            ("P", ".png"),
            ("1", ".png"),
        ],
    )
    def test_reads_what_another_program_wrote(self, pixels, tmp_path, mode, suffix) -> None:
        image = Image.fromarray(pixels, "RGBA").convert("RGB" if mode == "P" else mode)
        image = image.convert(mode)
        path = tmp_path / f"in{suffix}"
        image.save(path, **({"lossless": True, "exact": True} if suffix == ".webp" else {}))
        expected = np.asarray(image.convert({"P": "RGB", "1": "L"}.get(mode, mode)))

        found = read_image(path)

        np.testing.assert_array_equal(found.pixels, expected)
        assert found.channel_axis == (2 if expected.ndim == 3 else False)

    @pytest.mark.parametrize(
        ("suffix", "channels"),
        [
            *itertools.product((".png", ".tif"), (0, 2, 3, 4)),
            *itertools.product((".bmp", ".webp"), (3, 4)),  # these store gray as colour
        ],
    )
    def test_another_program_reads_what_is_written(
        self, pixels, tmp_path, suffix, channels
    ) -> None:
        ours = pixels[..., :channels] if channels else pixels[..., 0]
        lossless = tmp_path / "source.webp"
        Image.fromarray(pixels[..., :3]).save(lossless, lossless=True)
        path = tmp_path / f"out{suffix}"

        write_image(
            path, ours, like=read_image(lossless) if suffix == ".webp" else None,
            channel_axis=2 if channels else False,
        )  # fmt: skip

        with Image.open(path) as image:
            assert image.mode == {0: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]
            np.testing.assert_array_equal(np.asarray(image), ours)

    @pytest.mark.parametrize("channels", [0, 2, 3, 4])
    def test_16_bits_survive_png_in_the_right_byte_order(self, tmp_path, channels) -> None:
        shape = (9, 7, channels) if channels else (9, 7)
        wide = np.random.default_rng(2).integers(0, 65536, shape, dtype=np.uint16)
        path = tmp_path / "wide.png"

        write_image(path, wide, channel_axis=2 if channels else False)

        data = path.read_bytes()
        colour = {0: 0, 2: 4, 3: 2, 4: 6}[channels]
        assert data[24:26] == bytes((16, colour))
        np.testing.assert_array_equal(read_image(path).pixels, wide)
        if not channels:
            with Image.open(path) as image:
                np.testing.assert_array_equal(np.asarray(image), wide)

    @pytest.mark.parametrize("width", [1, 2, 5])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_gray_with_alpha_of_any_size(self, tmp_path, width, dtype) -> None:
        ours = np.random.default_rng(3).integers(0, np.iinfo(dtype).max, (4, width, 2), dtype=dtype)
        path = tmp_path / "la.png"
        write_image(path, ours, channel_axis=2)
        np.testing.assert_array_equal(
            cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[..., [0, 3]], ours
        )

    @pytest.mark.parametrize("bits", [1, 2, 4, 8])
    def test_a_transparent_gray_value_becomes_alpha(self, tmp_path, bits) -> None:
        levels = 2**bits
        row = (np.arange(8) % levels).astype(np.uint8)
        packed = np.packbits(np.unpackbits(row[:, None], axis=1)[:, 8 - bits :].ravel())
        trns = png_chunk(b"tRNS", struct.pack(">H", 1))
        path = tmp_path / "gray.png"
        path.write_bytes(png_file(8, 1, bits, 0, b"\0" + packed.tobytes(), trns))

        found = read_image(path).pixels

        np.testing.assert_array_equal(found[0, :, 0], row * (255 // (levels - 1)))
        np.testing.assert_array_equal(found[0, :, 1], np.where(row == 1, 0, 255))

    def test_cmyk_is_read_as_rgb_and_its_profile_left_behind(self, pixels, tmp_path) -> None:
        smooth = cv2.resize(pixels[:4, :4, :3], (64, 64), interpolation=cv2.INTER_CUBIC)
        image = Image.fromarray(smooth).convert("CMYK")
        path = tmp_path / "cmyk.jpg"
        profile = bytearray(SRGB)
        profile[16:20] = b"CMYK"
        image.save(path, quality=100, icc_profile=bytes(profile))

        found = read_image(path)
        write_image(tmp_path / "rgb.jpg", found.pixels, like=found)

        difference = found.pixels.astype(int) - np.asarray(image.convert("RGB"))
        assert np.abs(difference).mean() < 2
        with Image.open(tmp_path / "rgb.jpg") as result:
            assert result.mode == "RGB"
            assert "icc_profile" not in result.info

    def test_ten_bits_of_avif_fill_sixteen(self, tmp_path) -> None:
        ramp = np.tile(np.linspace(0, 1023, 64).astype(np.uint16), (64, 1))
        options = [cv2.IMWRITE_AVIF_DEPTH, 10, cv2.IMWRITE_AVIF_QUALITY, 100]
        path = tmp_path / "deep.avif"
        assert cv2.imwrite(str(path), np.dstack([ramp] * 3), options)
        found = read_image(path).pixels
        assert found.dtype == np.uint16
        assert found.min() == 0
        assert found.max() == 65535

    def test_the_content_decides_not_the_suffix(self, pixels, tmp_path) -> None:
        path = tmp_path / "really_a_jpeg.png"
        Image.fromarray(pixels[..., :3]).save(path, "jpeg")
        assert read_image(path).format == "jpeg"

    @pytest.mark.parametrize("name", ["with space.png", "héllo wörld.png", "写真.png", "фото.tif"])
    def test_any_name(self, pixels, tmp_path, name) -> None:
        path = tmp_path / "ordner mit ß" / name
        write_image(path, pixels)
        np.testing.assert_array_equal(read_image(path).pixels, pixels)


class TestMetadata:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
    def test_orientation_is_applied_and_then_1(self, pixels, tmp_path, orientation, suffix) -> None:
        upright = Image.fromarray(pixels[..., :3])
        exif = camera_exif(orientation)
        options = {"lossless": True} if suffix == ".webp" else {}
        path = tmp_path / f"turned{suffix}"
        upright.save(path, exif=exif, quality=100, subsampling=0, **options)
        reference = Image.fromarray(pixels[..., :3])
        reference.getexif()[ORIENTATION] = orientation
        expected = np.asarray(ImageOps.exif_transpose(reference))

        found = read_image(path)

        assert found.pixels.shape == expected.shape
        tolerance = 40 if suffix == ".jpg" else 0
        assert np.abs(found.pixels.astype(int) - expected).max() <= tolerance
        result = tmp_path / f"result{suffix}"
        write_image(result, found.pixels, like=found)
        with Image.open(result) as image:
            assert image.getexif().get(ORIENTATION, 1) == 1
            assert image.size == expected.shape[1::-1]

    @pytest.mark.parametrize("orientation", [1, 3, 5, 6, 8])
    def test_avif_turns_as_its_container_says(self, tmp_path, orientation) -> None:
        corner = np.zeros((32, 48, 3), np.uint8)
        corner[:8, :8] = 255
        path = tmp_path / "turned.avif"
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        Image.fromarray(corner).save(path, quality=100, exif=exif.tobytes())
        reference = Image.fromarray(corner)
        reference.getexif()[ORIENTATION] = orientation
        expected = np.asarray(ImageOps.exif_transpose(reference)).astype(int)
        found = read_image(path).pixels
        assert found.shape == expected.shape
        assert np.abs(found - expected).mean() < 5

    @pytest.mark.parametrize(
        ("source", "result"),
        list(itertools.product((".jpg", ".png", ".webp", ".tif"), repeat=2)),
    )
    def test_exif_profile_and_xmp_are_carried_over(self, pixels, tmp_path, source, result) -> None:
        first, second = tmp_path / f"in{source}", tmp_path / f"out{result}"
        packet = {"xmp": XMP} if source in (".jpg", ".webp") else {}
        exif = camera_exif(xmp=XMP if source == ".tif" else None)
        Image.fromarray(pixels[..., :3]).save(first, exif=exif, icc_profile=SRGB, **packet)

        image = read_image(first)
        write_image(second, np.zeros((96, 120, 3), np.uint8), like=image)

        with Image.open(second) as witness:
            witness.load()
            exif = witness.getexif()
            assert exif[MAKE] == "maker"
            assert exif.get_ifd(EXIF_IFD)[TAKEN] == "2020:02:03 04:05:06"
            assert exif.get_ifd(EXIF_IFD)[PIXEL_X] == 120
            assert witness.info["icc_profile"] == SRGB
            if source != ".png":
                key = "XML:com.adobe.xmp" if result == ".png" else "xmp"
                found = witness.info.get(key, witness.getexif().get(700))
                assert (found.encode() if isinstance(found, str) else found) == XMP

    @pytest.mark.parametrize(
        ("source", "result"),
        list(itertools.product((".jpg", ".png", ".bmp", ".tif"), (".jpg", ".png", ".bmp", ".tif"))),
    )
    def test_dpi_is_carried_over(self, pixels, tmp_path, source, result) -> None:
        first, second = tmp_path / f"in{source}", tmp_path / f"out{result}"
        Image.fromarray(pixels[..., :3]).save(first, dpi=(300, 150))
        image = read_image(first)
        write_image(second, image.pixels, like=image)
        with Image.open(second) as witness:
            assert [round(float(value)) for value in witness.info["dpi"]] == [300, 150]

    @pytest.mark.parametrize("suffix", [".webp", ".avif"])
    @pytest.mark.parametrize("exif", [None, camera_exif()])
    def test_dpi_goes_into_exif_where_there_is_no_other_place(
        self, pixels, tmp_path, suffix, exif
    ) -> None:
        first, second = tmp_path / "in.png", tmp_path / f"out{suffix}"
        Image.fromarray(pixels[..., :3]).save(
            first, dpi=(300, 150), **({"exif": exif} if exif else {})
        )
        image = read_image(first)
        write_image(second, image.pixels, like=image)
        with Image.open(second) as witness:
            found = witness.getexif()
            assert [round(float(found[tag])) for tag in (0x11A, 0x11B)] == [300, 150]
            assert found.get(MAKE) == ("maker" if exif else None)
            if exif:
                assert found.get_ifd(EXIF_IFD)[TAKEN] == "2020:02:03 04:05:06"
        assert [round(value) for value in read_image(second).metadata.dpi] == [300, 150]

    def test_png_keeps_its_colour_chunks(self, pixels, tmp_path) -> None:
        gamma = png_chunk(b"gAMA", struct.pack(">I", 100000))
        first, second = tmp_path / "linear.png", tmp_path / "result.png"
        rows = b"".join(b"\0" + row.tobytes() for row in pixels[..., :3])
        first.write_bytes(png_file(30, 24, 8, 2, rows, gamma))
        image = read_image(first)
        write_image(second, image.pixels, like=image)
        with Image.open(second) as witness:
            assert witness.info["gamma"] == 1.0

    def test_a_profile_larger_than_a_jpeg_segment_is_cut_into_several(
        self, pixels, tmp_path
    ) -> None:
        large = SRGB + bytes(np.random.default_rng(0).integers(0, 256, 200_000, dtype=np.uint8))
        path = tmp_path / "large.jpg"
        write_image(path, pixels[..., :3].copy(), metadata=Metadata(icc=large))
        with Image.open(path) as witness:
            assert witness.info["icc_profile"] == large
        assert read_image(path).metadata.icc == large

    def test_exif_too_large_for_a_jpeg_is_left_out_with_a_warning(self, pixels, tmp_path) -> None:
        block = b"II*\0\x08\0\0\0\0\0\0\0\0\0" + bytes(70_000)
        path = tmp_path / "large.jpg"
        with pytest.warns(UserWarning, match=r"large\.jpg.*64 KiB"):
            write_image(path, pixels[..., :3].copy(), metadata=Metadata(exif=block))
        assert read_image(path).metadata.exif is None

    def test_metadata_that_the_encoder_refuses_costs_a_warning_not_the_image(
        self, pixels, tmp_path
    ) -> None:
        broken = bytearray(SRGB)
        broken[0:4] = b"\xff\xff\xff\xff"  # claims to be 4 GB long
        path = tmp_path / "out.png"
        with pytest.warns(UserWarning, match="without"):
            write_image(path, pixels, metadata=Metadata(icc=bytes(broken)))
        np.testing.assert_array_equal(read_image(path).pixels, pixels)

    def test_the_codecs_print_nothing(self, pixels, tmp_path, capfd) -> None:
        path = tmp_path / "gray.png"
        Image.fromarray(pixels[..., 0]).save(path, icc_profile=SRGB)  # libpng warns of this
        read_image(path)
        broken = tmp_path / "broken.png"
        broken.write_bytes(png_file(30, 24, 8, 2, b"too short"))
        with pytest.raises(ImageFileError):
            read_image(broken)
        assert capfd.readouterr().err == ""


class TestBadFiles:
    def encoded(self, suffix: str) -> bytes:
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        done, data = cv2.imencode(suffix, noise)
        assert done
        return data.tobytes()

    @pytest.mark.parametrize(
        "suffix", [".png", ".jpg", ".webp", ".bmp", ".tif", ".avif", ".jp2", ".gif", ".ppm"]
    )
    @pytest.mark.parametrize("keep", [0.0, 0.002, 0.02, 0.5, 0.99])
    def test_truncated(self, tmp_path, suffix, keep) -> None:
        data = self.encoded(suffix)
        path = tmp_path / f"cut{suffix}"
        path.write_bytes(data[: int(len(data) * keep)])
        with pytest.raises(ImageFileError, match=rf"^{path}: .+"):
            read_image(path)

    def test_the_whole_files_of_the_test_above_are_read(self, tmp_path) -> None:
        for suffix in (".png", ".jpg", ".webp", ".bmp", ".tif", ".avif", ".jp2", ".gif", ".ppm"):
            path = tmp_path / f"whole{suffix}"
            path.write_bytes(self.encoded(suffix))
            assert read_image(path).pixels.shape == (64, 64, 3)

    def test_jpeg_without_its_end_marker(self, tmp_path) -> None:
        path = tmp_path / "cut.jpg"
        path.write_bytes(self.encoded(".jpg")[:-2])
        assert cv2.imread(str(path)) is not None, "OpenCV reads it: nobody else would notice"
        with pytest.raises(ImageFileError, match="end-of-image"):
            read_image(path)

    def test_jpeg_whose_pixels_end_early(self, tmp_path) -> None:
        data = self.encoded(".jpg")
        path = tmp_path / "short.jpg"
        path.write_bytes(data[: len(data) // 2] + b"\xff\xd9")
        with pytest.raises(ImageFileError, match="pixels end before"):
            read_image(path)

    def test_text_named_png(self, tmp_path) -> None:
        path = tmp_path / "notes.png"
        path.write_text("not an image\n" * 10)
        with pytest.raises(ImageFileError, match=r"notes\.png.*no image format"):
            read_image(path)

    def test_missing_and_folder(self, tmp_path) -> None:
        with pytest.raises(ImageFileError, match=r"none\.png.*No such file"):
            read_image(tmp_path / "none.png")
        with pytest.raises(ImageFileError, match="directory"):
            read_image(tmp_path)

    @pytest.mark.parametrize(
        "data",
        [
            png_file(100_000, 100_000, 8, 2, b""),
            b"BM"
            + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 100_000, 100_000, 1, 24, *[0] * 6),
            b"P6\n100000 100000\n255\n",
            b"GIF89a" + struct.pack("<HH", 50_000, 50_000) + bytes(30),
        ],
        ids=["png", "bmp", "ppm", "gif"],
    )
    def test_a_header_that_claims_too_much(self, tmp_path, data) -> None:
        path = tmp_path / "bomb.img"
        path.write_bytes(data)
        with pytest.raises(ImageFileError, match=r"bomb\.img.*limit.*max_pixels"):
            read_image(path)

    def test_the_limit_can_be_set(self, pixels, tmp_path) -> None:
        path = tmp_path / "small.png"
        write_image(path, pixels)
        assert read_image(path, max_pixels=24 * 30).pixels.shape == (24, 30, 4)
        with pytest.raises(ImageFileError, match="limit of 719"):
            read_image(path, max_pixels=24 * 30 - 1)

    @pytest.mark.parametrize(
        "data",
        [
            png_file(0, 10, 8, 2, b""),
            png_file(10, 0, 8, 2, b""),
            b"P5\n0 10\n255\n",
            b"GIF89a" + struct.pack("<HH", 0, 7) + bytes(30),
            b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 0, 5, 1, 24, *[0] * 6),
        ],
        ids=["png-width", "png-height", "pgm", "gif", "bmp"],
    )
    def test_no_pixels(self, tmp_path, data) -> None:
        path = tmp_path / "empty.img"
        path.write_bytes(data)
        with pytest.raises(ImageFileError, match="no pixels"):
            read_image(path)

    def test_damaged_png_pixels(self, tmp_path) -> None:
        data = bytearray(self.encoded(".png"))
        data[len(data) // 2] ^= 0xFF
        path = tmp_path / "flipped.png"
        path.write_bytes(bytes(data))
        with pytest.raises(ImageFileError, match="CRC"):
            read_image(path)

    @pytest.mark.parametrize("suffix", [".gif", ".png", ".webp"])
    def test_animations_are_turned_down(self, pixels, tmp_path, suffix) -> None:
        frames = [Image.fromarray(pixels[..., :3]), Image.fromarray(255 - pixels[..., :3])]
        path = tmp_path / f"moving{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:])
        with pytest.raises(ImageFileError, match="animation"):
            read_image(path)


class TestWriting:
    @pytest.mark.parametrize(
        ("array", "suffix", "reason"),
        [
            (np.zeros((4, 4), np.float32), ".png", "float32"),
            (np.zeros((4, 4), np.uint16), ".jpg", "16 bits"),
            (np.zeros((4, 4, 4), np.uint8), ".jpg", "alpha"),
            (np.zeros((4, 4), np.uint8), ".xyz", "suffix"),
            (np.zeros((4, 4), np.uint8), ".gif", "suffix"),
            (np.zeros((3, 4, 4, 3), np.uint8), ".png", "stack"),
            (np.zeros((1, 20_000), np.uint8), ".webp", "20000"),
        ],
    )
    def test_what_a_format_cannot_hold(self, tmp_path, array, suffix, reason) -> None:
        path = tmp_path / f"out{suffix}"
        axis = 3 if array.ndim == 4 else None
        with pytest.raises(ImageFileError, match=rf"out\{suffix}.*{reason}"):
            write_image(path, array, channel_axis=axis)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("suffix", [".png", ".tif"])
    def test_a_folder_that_is_a_file(self, tmp_path, suffix) -> None:
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(ImageFileError, match="cannot be written"):
            write_image(tmp_path / "file" / f"out{suffix}", np.zeros((4, 4), np.uint8))

    @pytest.mark.parametrize("suffix", [".png", ".tif"])
    def test_a_full_disk_leaves_what_was_there(self, tmp_path, suffix) -> None:
        resource = pytest.importorskip("resource")
        path = tmp_path / f"out{suffix}"
        write_image(path, np.full((4, 4), 7, np.uint8))
        before = path.read_bytes()
        noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
        try:
            with pytest.raises(ImageFileError, match=r"out.*cannot be written: File too large"):
                write_image(path, noise)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
    def test_no_space_left_is_said_so(self, tmp_path, monkeypatch) -> None:
        real_open = open

        def full(file, mode="r", *rest, **options):
            if "x" in mode:
                Path(file).touch()
                return real_open("/dev/full", "wb", buffering=0)
            return real_open(file, mode, *rest, **options)

        monkeypatch.setattr("builtins.open", full)
        with pytest.raises(ImageFileError, match="No space left on device"):
            write_image(tmp_path / "out.png", np.zeros((4, 4), np.uint8))
        assert list(tmp_path.iterdir()) == []

    def test_interrupted_writing_leaves_nothing(self, tmp_path, monkeypatch) -> None:
        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_image(tmp_path / "out.png", np.zeros((4, 4), np.uint8))
        assert list(tmp_path.iterdir()) == []

    def test_a_lossless_webp_stays_lossless_and_a_lossy_one_lossy(self, pixels, tmp_path) -> None:
        for lossless in (True, False):
            source, result = tmp_path / "in.webp", tmp_path / "out.webp"
            Image.fromarray(pixels, "RGBA").save(source, lossless=lossless, exact=True)
            image = read_image(source)
            write_image(result, pixels, like=image)
            assert np.array_equal(read_image(result).pixels, pixels) is lossless

    def test_quality_decides_about_the_size(self, pixels, tmp_path) -> None:
        colour = pixels[..., :3].copy()
        write_image(tmp_path / "good.jpg", colour, quality=95)
        write_image(tmp_path / "small.jpg", colour, quality=30)
        assert (tmp_path / "small.jpg").stat().st_size < (tmp_path / "good.jpg").stat().st_size / 2


def test_capacities() -> None:
    eight = {"bits": 8, "width": 100, "height": 100}
    assert can_hold(".jpg", alpha=False, **eight)
    assert not can_hold(".jpg", alpha=True, **eight)
    assert not can_hold(".gif", alpha=False, **eight)
    assert not can_hold(".pbm", alpha=False, **eight)
    assert can_hold(".PNG", alpha=True, bits=16, width=100, height=100)
    assert can_hold(".tif", alpha=True, bits=64, width=100_000, height=100)
    assert not can_hold(".webp", alpha=False, bits=8, width=16_384, height=10)
