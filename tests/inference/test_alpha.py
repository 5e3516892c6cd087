"""Colours under full transparency are nobody's: they must not show at the edges of a result."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from esrgan_ext import Upscaler

COLOUR = np.array([200, 60, 40], np.uint8)


def disc(hidden: tuple[int, int, int], soft: float, side: int = 48) -> np.ndarray:
    """An RGBA disc of one colour; its edge is `soft` pixels wide, around it is `hidden`."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    alpha = np.clip((side / 3 - np.hypot(x, y)) / max(soft, 1e-6) + 0.5, 0, 1)
    alpha = np.rint(255 * alpha).astype(np.uint8)
    image = np.dstack([np.broadcast_to(COLOUR, (side, side, 3)), alpha]).copy()
    image[alpha == 0, :3] = hidden
    return image


def over(image: np.ndarray, ground: float) -> np.ndarray:
    alpha = image[..., 3:].astype(float) / 255
    return image[..., :3] * alpha + ground * (1 - alpha)


@pytest.mark.parametrize("model", ["lite-psnr-x4", "realesrgan-x4plus-anime"])
@pytest.mark.parametrize("soft", [0, 1, 3])
@pytest.mark.parametrize("hidden", [(0, 0, 0), (255, 255, 255)])
def test_a_disc_has_no_ring(hidden: tuple[int, int, int], soft: float, model: str) -> None:
    result = Upscaler(model, device="cpu")(disc(hidden, soft))
    # On white nothing is darker than the disc, on black nothing brighter.
    assert (COLOUR - over(result, 255)).max() <= 12
    assert (over(result, 0) - COLOUR).max() <= 12


def test_gray_with_alpha_and_tiles() -> None:
    image = disc((0, 0, 0), 1)[..., [0, 3]]
    upscaler = Upscaler("lite-psnr-x4", device="cpu")
    whole = upscaler(image, channel_axis=2).astype(float)
    shown = whole[..., 0] * whole[..., 1] / 255 + 255 - whole[..., 1]
    assert COLOUR[0] - shown.min() <= 12
    tiled = Upscaler("lite-psnr-x4", device="cpu", tile=24)(image, channel_axis=2).astype(float)
    seen = tiled[..., 0] * tiled[..., 1] / 255 + 255 - tiled[..., 1]
    assert np.abs(seen - shown).max() <= 1


@pytest.mark.parametrize("alpha", [0, 255])
def test_all_or_nothing_shown_is_as_it_was(alpha: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 20, 4), np.uint8)
    image[..., 3] = alpha
    upscaler = Upscaler("lite-psnr-x4", device="cpu")
    result = upscaler(image)
    np.testing.assert_array_equal(result[..., :3], upscaler(image[..., :3].copy()))
    assert (result[..., 3] == alpha).all()


def test_a_file(tmp_path: Path) -> None:
    from esrgan_ext.inference.files import read_image

    cv2.imwrite(str(tmp_path / "disc.png"), disc((0, 0, 0), 1)[..., [2, 1, 0, 3]])
    image = read_image(tmp_path / "disc.png")
    result = Upscaler("lite-psnr-x4", device="cpu")(image.pixels, channel_axis=image.channel_axis)
    assert (COLOUR - over(result, 255)).max() <= 12
