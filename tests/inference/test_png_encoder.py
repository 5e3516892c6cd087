"""The PNG encoder, against decoders that are not ours, and against OpenCV's in size."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from esrgan_ext.inference.files import read_image, write_image
from esrgan_ext.inference.formats import png

ASTRONAUT = Path(__file__).parents[1] / "data" / "astronaut_320.png"


def _decoded(data: bytes) -> np.ndarray:
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if found.ndim == 3:
        order = cv2.COLOR_BGR2RGB if found.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
        found = cv2.cvtColor(found, order)
    return found


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [None, 2, 3, 4])
@pytest.mark.parametrize("at_once", [1 << 20, 0], ids=["whole", "in parts"])
def test_opencv_reads_back_every_kind(dtype, channels, at_once, monkeypatch) -> None:
    monkeypatch.setattr(png, "_AT_ONCE", at_once)
    rng = np.random.default_rng(0)
    shape = (50, 37) if channels is None else (50, 37, channels)
    pixels = rng.integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)
    pixels[20:] = np.arange(37 * (channels or 1)).reshape(pixels.shape[1:]) * 3  # rows alike
    pixels[5:9] = 7
    found = _decoded(png.encode(pixels))
    if channels == 2:  # OpenCV gives gray+alpha as BGRA
        assert (found[..., 0] == found[..., 1]).all()
        found = found[..., [0, 3]]
    np.testing.assert_array_equal(found, pixels)
    if dtype == np.uint8:
        with Image.open(io.BytesIO(png.encode(pixels))) as witness:
            np.testing.assert_array_equal(np.asarray(witness), pixels)


@pytest.mark.parametrize("level", [0, 1, 6, 12])
@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 40, 3), (40, 1)])
def test_every_level_and_the_smallest_images(level, shape) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    np.testing.assert_array_equal(_decoded(png.encode(pixels, level=level)), pixels)


def test_files_are_smaller_than_opencvs(tmp_path) -> None:
    photo = read_image(ASTRONAUT).pixels
    enlarged = cv2.resize(photo, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    assert len(png.encode(enlarged)) < 0.95 * cv2.imencode(".png", enlarged)[1].size
    flat = np.kron(np.eye(40, dtype=np.uint8) * 200, np.ones((20, 20), np.uint8))
    assert len(png.encode(flat)) < 2 * cv2.imencode(".png", flat)[1].size


def test_the_level_reaches_the_file(tmp_path) -> None:
    photo = read_image(ASTRONAUT).pixels
    sizes = []
    for level in (0, 1, 9):
        write_image(tmp_path / "photo.png", photo, png_level=level)
        sizes.append((tmp_path / "photo.png").stat().st_size)
    assert sizes[0] > photo.size > sizes[1] > sizes[2]
