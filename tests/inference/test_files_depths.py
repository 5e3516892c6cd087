"""Every depth, colour space and arrangement of samples comes in with its right values: worked out
by hand from the specifications, or by littleCMS and Pillow."""

from __future__ import annotations

import itertools
import struct
import warnings
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageCms

from esrgan_ext.errors import ImageFileError
from esrgan_ext.inference.files import ImageFile, read_image, write_image
from tests.inference.tiff_by_hand import tiff

HEIGHT, WIDTH = 6, 11
BITS = (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 15, 16)
COMPRESSIONS = (1, 5, 8, 32773)


def read(path: Path, data: bytes) -> ImageFile:
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return read_image(path)


def samples(bits: int, channels: int) -> np.ndarray:
    stored = np.random.default_rng(bits).integers(0, 1 << bits, (HEIGHT, WIDTH, channels))
    stored[0, 0], stored[0, 1] = 0, (1 << bits) - 1
    return stored


def scaled(stored: np.ndarray, bits: int) -> np.ndarray:
    """By hand: the nearest value of the type to stored / (2**bits - 1)."""
    kind = np.uint8 if bits <= 8 else np.uint16
    return np.rint(stored / ((1 << bits) - 1) * np.iinfo(kind).max).astype(kind)


class TestTiff:
    @pytest.mark.parametrize("bits", BITS)
    @pytest.mark.parametrize(("order", "planar"), [*itertools.product("<>", (1, 2))])
    @pytest.mark.parametrize("compression", COMPRESSIONS)
    @pytest.mark.parametrize("photometric", [0, 1, 2])
    def test_depths(self, tmp_path, bits, order, planar, compression, photometric) -> None:
        stored = samples(bits, 3 if photometric == 2 else 1)
        data = tiff(stored, bits, photometric, compression=compression, planar=planar, order=order)
        expected = scaled(stored, bits)
        if photometric == 0:
            expected = np.iinfo(expected.dtype).max - expected

        found = read(tmp_path / "in.tif", data)

        assert found.pixels.dtype == expected.dtype
        np.testing.assert_array_equal(found.pixels.reshape(expected.shape), expected)

    @pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 8, 12, 16])
    @pytest.mark.parametrize("wide", [True, False], ids=["16-bit-entries", "8-bit-entries"])
    def test_palettes(self, tmp_path, bits, wide) -> None:
        stored = samples(bits, 1)
        colours = np.random.default_rng(0).integers(0, 256, (3, 1 << bits))
        colours[0, 0] = 255
        data = tiff(stored, bits, 3, palette=colours * 257 if wide else colours)

        found = read(tmp_path / "in.tif", data)

        np.testing.assert_array_equal(found.pixels, np.moveaxis(colours[:, stored[..., 0]], 0, -1))

    @pytest.mark.parametrize("bits", [8, 16])
    @pytest.mark.parametrize("planar", [1, 2])
    def test_lab_is_what_littlecms_makes_of_it(self, tmp_path, bits, planar) -> None:
        lightness, a, b = np.meshgrid([20, 50, 80], [-20, 0, 20], [-20, 0, 20], indexing="ij")
        lab = np.stack([lightness.ravel(), a.ravel(), b.ravel()], axis=-1).reshape(3, 9, 3)
        by_cms = Image.new("LAB", (9, 3))
        by_cms.putdata([
            (round(v[0] * 2.55), int(v[1]) + 128, int(v[2]) + 128) for v in lab.reshape(-1, 3)
        ])  # fmt: skip
        expected = ImageCms.profileToProfile(
            by_cms, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC, outputMode="RGB",
            flags=ImageCms.Flags.NOOPTIMIZE,
        )  # fmt: skip
        top = (1 << bits) - 1
        unit = 1 if bits == 8 else 256
        light = np.rint(lab[..., :1] / 100 * top).astype(int)
        signed = np.concatenate([light, (lab[..., 1:] * unit) & top], axis=-1)
        lightest = 255 if bits == 8 else 0xFF00
        light = np.rint(lab[..., :1] / 100 * lightest).astype(int)
        offset = np.concatenate([light, (lab[..., 1:] + 128) * unit], axis=-1)

        for photometric, stored in ((8, signed), (9, offset)):
            found = read(tmp_path / "in.tif", tiff(stored, bits, photometric, planar=planar))

            assert found.pixels.dtype == (np.uint8 if bits == 8 else np.uint16)
            eight = found.pixels / (1 if bits == 8 else 257)
            np.testing.assert_allclose(eight, np.asarray(expected), atol=2.0)

    @pytest.mark.parametrize("bits", [8, 16])
    def test_neutral_lab_is_neutral(self, tmp_path, bits) -> None:
        stored = np.zeros((HEIGHT, WIDTH, 3), int)
        stored[..., 0] = np.linspace(0, (1 << bits) - 1, WIDTH).astype(int)

        found = read(tmp_path / "in.tif", tiff(stored, bits, 8)).pixels.astype(int)

        assert np.ptp(found, axis=-1).max() <= (1 if bits == 8 else 40)

    @pytest.mark.parametrize("bits", [8, 16])
    def test_cmyk(self, tmp_path, bits) -> None:
        stored, top = samples(bits, 4), (1 << bits) - 1
        part = stored / top
        expected = (1 - part[..., :3]) * (1 - part[..., 3:]) * top

        found = read(tmp_path / "in.tif", tiff(stored, bits, 5))

        np.testing.assert_allclose(found.pixels, expected, atol=0.51)

    @pytest.mark.parametrize("bits", [8, 10, 16])
    @pytest.mark.parametrize("planar", [1, 2])
    @pytest.mark.parametrize(
        ("extra", "kept"),
        [
            ((0,), [0, 1, 2]),
            ((1,), [0, 1, 2, 3]),
            ((2,), [0, 1, 2, 3]),
            ((0, 0), [0, 1, 2]),
            ((2, 0), [0, 1, 2, 3]),
            ((0, 2), [0, 1, 2, 4]),
            ((0, 0, 0, 0, 0), [0, 1, 2]),
        ],
    )
    def test_extra_samples_beside_rgb(self, tmp_path, bits, planar, extra, kept) -> None:
        stored = samples(bits, 3 + len(extra))

        found = read(tmp_path / "in.tif", tiff(stored, bits, 2, planar=planar, extra=extra))

        np.testing.assert_array_equal(found.pixels, scaled(stored, bits)[..., kept])
        assert found.channel_axis == 2

    @pytest.mark.parametrize("planar", [1, 2])
    def test_extra_samples_beside_gray(self, tmp_path, planar) -> None:
        stored = samples(8, 2)
        alpha = read(tmp_path / "a.tif", tiff(stored, 8, 1, planar=planar, extra=(2,)))
        np.testing.assert_array_equal(alpha.pixels, stored)
        assert alpha.channel_axis == 2

        by_themselves = read(tmp_path / "b.tif", tiff(stored, 8, 1, planar=planar, extra=(0,)))
        np.testing.assert_array_equal(by_themselves.pixels, np.moveaxis(stored, -1, 0))
        assert by_themselves.channel_axis is False

    def test_colours_that_are_not_read_are_refused_by_name(self, tmp_path) -> None:
        for photometric, word in ((10, "ITULAB"), (32803, "raw"), (34892, "raw")):
            with pytest.raises(ImageFileError, match=word):
                read(tmp_path / "in.tif", tiff(samples(8, 3), 8, photometric))


class TestNetpbm:
    @pytest.mark.parametrize("largest", [1, 2, 15, 100, 254, 255, 256, 1000, 4095, 65535])
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("plain", [False, True])
    def test_the_largest_value_is_white(self, tmp_path, largest, channels, plain) -> None:
        stored = np.random.default_rng(0).integers(0, largest + 1, (HEIGHT, WIDTH, channels))
        magic = {1: "25", 3: "36"}[channels][not plain]
        head = f"P{magic}\n# a comment\n{WIDTH} {HEIGHT}\n{largest}\n".encode()
        if plain:
            body = " ".join(map(str, stored.ravel())).encode()  # and no final newline
        else:
            body = stored.astype(">u2" if largest > 255 else "u1").tobytes()
        kind = np.uint8 if largest <= 255 else np.uint16
        expected = stored / largest * np.iinfo(kind).max

        found = read(tmp_path / "in.pnm", head + body)

        assert found.pixels.dtype == kind
        np.testing.assert_allclose(found.pixels.reshape(stored.shape), expected, atol=0.5001)

    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    @pytest.mark.parametrize("largest", [255, 1023, 65535])
    def test_pam(self, tmp_path, channels, largest) -> None:
        stored = np.random.default_rng(0).integers(0, largest + 1, (HEIGHT, WIDTH, channels))
        head = (
            f"P7\nWIDTH {WIDTH}\nHEIGHT {HEIGHT}\nDEPTH {channels}\nMAXVAL {largest}\n"
            "TUPLTYPE whatever\nENDHDR\n"
        ).encode()
        top = 255 if largest == 255 else 65535

        found = read(
            tmp_path / "in.pam", head + stored.astype(">u2" if largest > 255 else "u1").tobytes()
        )

        np.testing.assert_array_equal(
            found.pixels.reshape(stored.shape), np.rint(stored / largest * top)
        )

    @pytest.mark.parametrize("plain", [False, True])
    def test_bits(self, tmp_path, plain) -> None:
        bits = np.random.default_rng(0).integers(0, 2, (HEIGHT, WIDTH))
        if plain:
            data = f"P1 {WIDTH} {HEIGHT}\n".encode() + "".join(map(str, bits.ravel())).encode()
        else:
            packed = np.packbits(bits.astype(np.uint8), axis=1).tobytes()
            data = f"P4 {WIDTH} {HEIGHT}\n".encode() + packed

        np.testing.assert_array_equal(read(tmp_path / "in.pbm", data).pixels, 255 * (1 - bits))

    @pytest.mark.parametrize("order", "<>")
    def test_floats(self, tmp_path, order) -> None:
        stored = np.random.default_rng(0).random((HEIGHT, WIDTH, 3), np.float32)
        scale = -1.0 if order == "<" else 1.0
        head = f"PF\n{WIDTH} {HEIGHT}\n{scale}\n".encode()

        found = read(tmp_path / "in.pfm", head + stored[::-1].astype(order + "f4").tobytes())

        np.testing.assert_array_equal(found.pixels, stored)

    @pytest.mark.parametrize(
        "data",
        [b"P5 2 2 255\n\0\0\0", b"P2 2 2 255\n1 2 3", b"P2 2 2 255\n1 2 x 4", b"P5 2 2 0\n\0\0\0\0",
         b"P5 2 2 70000\n" + bytes(8), b"P5 2", b"P7\nWIDTH 2\n"],
    )  # fmt: skip
    def test_damage_is_an_error_of_ours(self, tmp_path, data) -> None:
        with pytest.raises(ImageFileError, match=r"truncated|damaged"):
            read(tmp_path / "in.pnm", data)


class TestJpeg2000:
    @pytest.mark.parametrize("bits", [8, 9, 10, 12, 14, 16])
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("codec", ["jp2", "j2k"])
    def test_depths(self, tmp_path, bits, channels, codec) -> None:
        stored = samples(bits, channels)
        kind = np.uint8 if bits == 8 else np.uint16
        data = imagecodecs.jpeg2k_encode(
            stored.astype(kind).squeeze(), bitspersample=bits, reversible=True, codecformat=codec
        )

        found = read(tmp_path / f"in.{codec}", data)

        np.testing.assert_array_equal(found.pixels.reshape(stored.shape), scaled(stored, bits))
        write_image(tmp_path / f"out.{codec}", found.pixels, like=found)
        written = (tmp_path / f"out.{codec}").read_bytes()
        assert written[:4] == data[:4]
        np.testing.assert_array_equal(imagecodecs.jpeg2k_decode(written), found.pixels)

    @pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
    def test_alpha_as_pillow_writes_it(self, tmp_path, mode) -> None:
        stored = samples(8, 4).astype(np.uint8)
        image = Image.fromarray(stored, "RGBA").convert(mode)
        image.save(tmp_path / "in.jp2", irreversible=False)

        found = read_image(tmp_path / "in.jp2")

        np.testing.assert_array_equal(found.pixels, np.asarray(image))


class TestBmp:
    @pytest.mark.parametrize(
        ("bits", "masks"),
        [
            (16, None),
            (16, (0x7C00, 0x3E0, 0x1F)),
            (16, (0xF800, 0x7E0, 0x1F)),
            (16, (0xF00, 0xF0, 0xF, 0xF000)),
            (16, (0x7C00, 0x3E0, 0x1F, 0x8000)),
            (32, (0xFF0000, 0xFF00, 0xFF)),
            (32, (0xFF000000, 0xFF0000, 0xFF00)),
            (32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
            (32, (0x3FF00000, 0xFFC00, 0x3FF)),
        ],
    )
    @pytest.mark.parametrize("upwards", [True, False])
    def test_fields(self, tmp_path, bits, masks, upwards) -> None:
        fields = masks or (0x7C00, 0x3E0, 0x1F)
        stored = np.random.default_rng(0).integers(0, 1 << bits, (5, 7), dtype=np.uint64)
        stored[0, 0] = (1 << bits) - 1
        rows = stored[::-1] if upwards else stored
        width = 8 if bits == 16 else 7  # rows end on four bytes
        padded = np.zeros((5, width), np.uint64)
        padded[:, :7] = rows
        head = struct.pack(
            "<IiiHHIIiiII", 108 if len(fields) == 4 else 40, 7, 5 if upwards else -5, 1, bits,
            3 if masks else 0, 0, 0, 0, 0, 0,
        )  # fmt: skip
        head += struct.pack(f"<{len(fields)}I", *fields) if masks else b""
        head += bytes(52) if len(fields) == 4 else b""
        start = struct.pack("<IHHI", 0, 0, 0, 14 + len(head))
        data = b"BM" + start + head + padded.astype(f"<u{bits // 8}").tobytes()
        parts = [(stored & m) / m for m in fields]
        top = 65535 if 0x3FF in fields else 255

        found = read(tmp_path / "in.bmp", data)

        np.testing.assert_allclose(found.pixels, np.stack(parts, -1) * top, atol=0.51)
