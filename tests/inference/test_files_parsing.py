"""The byte-level readers meet arbitrary bytes: they answer, or raise ImageFileError."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from esrgan_ext.errors import ImageFileError
from esrgan_ext.inference.formats import avif, bmp, exif, jpeg, png, webp
from esrgan_ext.inference.headers import header_of_bytes

QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
PIXELS = np.random.default_rng(0).integers(0, 256, (9, 13, 3), dtype=np.uint8)


def encoded(format: str, **options: object) -> bytes:
    file = io.BytesIO()
    tags = Image.Exif()
    tags[0x112], tags[0x10F] = 6, "maker"
    tags.get_ifd(0x8769)[0xA002] = 13
    Image.fromarray(PIXELS).save(file, format, exif=tags.tobytes(), **options)
    return file.getvalue()


FILES = {
    "png": encoded("png"),
    "jpeg": encoded("jpeg"),
    "webp": encoded("webp"),
    "tiff": encoded("tiff"),
    "avif": encoded("avif"),
    "bmp": cv2.imencode(".bmp", PIXELS)[1].tobytes(),
    "jp2": cv2.imencode(".jp2", np.repeat(np.repeat(PIXELS, 9, 0), 9, 1))[1].tobytes(),
    "gif": cv2.imencode(".gif", PIXELS)[1].tobytes(),
    "pnm": cv2.imencode(".ppm", PIXELS)[1].tobytes(),
}
BLOCK = Image.Exif()
BLOCK[0x112], BLOCK[0x10F] = 6, "maker of cameras"
BLOCK.get_ifd(0x8769)[0xA002] = 13
EXIF = BLOCK.tobytes().removeprefix(b"Exif\0\0")


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A file of some format with bytes changed and its end cut off."""
    data = bytearray(FILES[draw(st.sampled_from(sorted(FILES)))])
    for _ in range(draw(st.integers(0, 6))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))])


@QUICK
@given(damaged() | st.binary(max_size=100))
@example(b"P")
@example(b"BM")
@example(b"\x89PNG\r\n\x1a\n")
def test_headers_of_arbitrary_bytes(data: bytes) -> None:
    try:
        header = header_of_bytes(data)
    except ImageFileError:
        return
    assert header.width > 0
    assert header.height > 0


@pytest.mark.parametrize("format", sorted(FILES))
def test_headers_agree_with_the_pixels(format: str) -> None:
    header = header_of_bytes(FILES[format])
    height, width = (81, 117) if format == "jp2" else (9, 13)
    assert (header.format, header.width, header.height) == (format, width, height)


@QUICK
@given(damaged())
def test_walking_damaged_containers(data: bytes) -> None:
    for inspect in (png.inspect, jpeg.inspect, webp.inspect, bmp.inspect, avif.inspect):
        try:
            inspect(data)
        except ImageFileError:
            continue


@pytest.mark.parametrize(
    ("format", "inspect"), [("png", png.inspect), ("jpeg", jpeg.inspect), ("webp", webp.inspect)]
)
def test_every_truncation_is_noticed(format: str, inspect) -> None:
    data = FILES[format]
    inspect(data)
    for length in range(12, len(data)):
        with pytest.raises(ImageFileError):
            inspect(data[:length])


@QUICK
@given(
    st.binary(max_size=200)
    | st.builds(
        lambda cut, at, value: (EXIF[:at] + bytes([value]) + EXIF[at + 1 :])[:cut],
        st.integers(0, len(EXIF)),
        st.integers(0, len(EXIF) - 1),
        st.integers(0, 255),
    )
)
def test_damaged_exif_is_no_error(block: bytes) -> None:
    assert 1 <= exif.orientation(block) <= 8
    exif.resolution(block)
    assert len(exif.updated(block, 10, 20)) == len(block)
    exif.write_directory(exif.read_directory(block), 8, "<")
    exif.with_resolution(block, (300, 300))


@pytest.mark.parametrize("order", ["<", ">"])
def test_directories_keep_their_values_in_either_byte_order(order: str) -> None:
    header = {"<": b"II*\0\x08\0\0\0", ">": b"MM\0*\0\0\0\x08"}[order]
    written = header + exif.write_directory(exif.read_directory(EXIF), 8, order)
    found = Image.Exif()
    found.load(b"Exif\0\0" + written)
    assert found[0x112] == 6
    assert found[0x10F] == "maker of cameras"
    assert found.get_ifd(0x8769)[0xA002] == 13


@given(st.floats(1, 20_000), st.floats(1, 20_000))
@settings(max_examples=50, deadline=None)
def test_density_survives_each_format(x: float, y: float) -> None:
    data = png.insert(FILES["png"], dpi=(x, y))
    assert png.inspect(data).dpi == pytest.approx((x, y), abs=0.02)
    plain = cv2.imencode(".jpg", PIXELS)[1].tobytes()
    assert jpeg.inspect(jpeg.with_density(plain, (x, y))).dpi == pytest.approx((x, y), abs=0.5)
    assert bmp.inspect(bmp.with_density(FILES["bmp"], (x, y))).dpi == pytest.approx(
        (x, y), abs=0.02
    )
    assert exif.resolution(exif.with_resolution(EXIF, (x, y))) == pytest.approx((x, y), abs=1e-3)


def test_adding_a_resolution_moves_nothing() -> None:
    added = exif.with_resolution(EXIF, (300, 150))
    assert added[8 : len(EXIF)] == EXIF[8:]
    found = Image.Exif()
    found.load(b"Exif\0\0" + added)
    assert (float(found[0x11A]), float(found[0x11B])) == (300, 150)
    assert found.get_ifd(0x8769)[0xA002] == 13
