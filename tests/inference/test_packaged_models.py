"""The published models that come with the installation, on a photo."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

import esrgan_ext as esr
from tests.conftest import ROOT

MODELS = ["realesrgan-x4plus-anime", "realsr-df2k", "realesrgan-x4plus"]


@pytest.fixture(scope="module")
def large_photo() -> np.ndarray:
    """uint8, shape (320, 320, 3)."""
    return cv2.imread(str(ROOT / "tests" / "data" / "astronaut_320.png"))[..., ::-1]


@pytest.mark.timeout(1200)  # tens of seconds in pure torch, more where other work runs
@pytest.mark.parametrize("model", MODELS)
def test_tiles_leave_no_seam(model, large_photo):
    """Two tiles side by side, each of which sees a part of the photo; rows, of which each sees
    all, need not be many."""
    network, photo = esr.load_model(model), large_photo[112:144, 64:256]
    whole = esr.upscale(photo, network, device="cpu").astype(int)
    tiled = esr.upscale(photo, network, tile=96, device="cpu")
    assert np.abs(tiled - whole).max() <= 1
    # The same comparison fails with the overlap that other tools take by default.
    seamed = esr.upscale(photo, network, tile=96, overlap=10, device="cpu")
    assert np.abs(seamed - whole).max() > 1


@pytest.mark.parametrize("model", MODELS)
def test_upscaling_keeps_the_picture(model, photo):
    """Reduced to its former size, a result is the photo again, but for what GAN models change."""
    result = esr.upscale(photo[24:88, 30:94], model, device="cpu")
    assert result.shape == (256, 256, 3)
    reduced = cv2.resize(result, (64, 64), interpolation=cv2.INTER_AREA).astype(float)
    error = np.sqrt(np.mean((reduced - photo[24:88, 30:94]) ** 2))
    assert error < 12
    # ... and does have detail of its own: it is not the photo enlarged smoothly.
    smooth = cv2.resize(photo[24:88, 30:94], (256, 256), interpolation=cv2.INTER_CUBIC)
    assert cv2.Laplacian(result, cv2.CV_64F).std() > 1.5 * cv2.Laplacian(smooth, cv2.CV_64F).std()


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_tiles_of_a_compact_network_equal_the_whole_to_the_bit(scale, large_photo):
    """Three by three tiles, of which the middle one sees 18 pixels more on each side."""
    network, photo = esr.load_model(f"realesr-animevideov3-x{scale}"), large_photo[:120, :150]
    whole = esr.upscale(photo, network, device="cpu")
    assert np.array_equal(esr.upscale(photo, network, tile=50, device="cpu"), whole)
    # What the network sees matters: with less context there are seams.
    seamed = esr.upscale(photo, network, tile=50, overlap=2, device="cpu")
    assert not np.array_equal(seamed, whole)


def test_reduced_networks_give_the_larger_result_reduced(photo):
    """x2 is the same network as x4 with a bicubic reduction: OpenCV is the witness."""
    part = photo[24:88, 30:94].astype(np.float32) / 255
    large = esr.upscale(part, "realesr-animevideov3-x4", device="cpu")
    small = esr.upscale(part, "realesr-animevideov3-x2", device="cpu")
    expected = cv2.resize(large, (128, 128), interpolation=cv2.INTER_CUBIC)
    assert np.abs(small - expected).max() < 1e-5
