"""The animated sweep between two networks; Pillow reads what was written."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from esrgan_ext.errors import ArchitectureMismatch, ImageFileError, OptionError
from esrgan_ext.inference import animation
from esrgan_ext.inference.files import ImageFile, Metadata
from esrgan_ext.inference.upscaler import upscale
from esrgan_ext.weights import interpolate
from tests.conftest import make_network


def smooth(height: int = 64, width: int = 96) -> np.ndarray:
    rows, columns = np.mgrid[0:height, 0:width]
    planes = (rows * 3, columns * 2, rows + columns)
    return np.stack([np.minimum(plane, 255) for plane in planes], axis=2).astype(np.uint8)


@pytest.mark.parametrize(
    ("suffix", "error"), [(".gif", 6), (".webp", 4), (".png", 0), (".apng", 0)]
)
def test_frames_and_durations(tmp_path, suffix, error) -> None:
    frames = [animation.labelled(np.roll(smooth(), 8 * k, 1), f"{k}") for k in range(5)]
    path = tmp_path / f"sweep{suffix}"

    animation.write_animation(path, frames, 150)

    with Image.open(path) as found:
        assert found.n_frames == 5
        assert found.info.get("loop", 0) == 0
        for number, frame in enumerate(frames):
            found.seek(number)
            found.load()
            assert found.info["duration"] == 150
            difference = np.asarray(found.convert("RGB")).astype(int) - frame
            assert np.abs(difference).mean() <= error
    assert list(tmp_path.iterdir()) == [path]


def test_a_sweep_goes_from_one_network_to_the_other() -> None:
    a, b = make_network(1), make_network(2)
    image = smooth(16, 24)

    frames = list(animation.sweep(a, b, image, steps=5))

    assert len(frames) == 5
    for alpha, frame in zip((0, 0.25, 0.5, 0.75, 1), frames, strict=True):
        assert frame.shape == (64, 96, 3)
        expected = upscale(image, interpolate(a, b, alpha))
        differs = np.any(frame != expected, axis=2)
        assert differs.any(), "alpha is drawn on the frame"
        assert not differs[:40].any(), "and nothing else is changed"


def test_video_has_every_frame_at_its_time(tmp_path) -> None:
    frames = [np.full((33, 47, 3), (level, 0, 255 - level), np.uint8) for level in (0, 120, 240)]
    path = tmp_path / "sweep.mp4"
    animation.write_animation(path, frames, 200)
    video = cv2.VideoCapture(str(path))
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(5)
    for frame in frames:
        there, read = video.read()
        assert there
        assert read.shape == (32, 46, 3)
        assert np.abs(read[..., ::-1].mean((0, 1)) - frame.mean((0, 1))).max() < 8
    assert not video.read()[0]
    assert [p.name for p in tmp_path.iterdir()] == ["sweep.mp4"]


def test_labels_differ_and_stay_in_the_lower_left_corner() -> None:
    blank = np.full((128, 256, 3), 90, np.uint8)
    first, second = (animation.labelled(blank, f"alpha {alpha}") for alpha in ("0.00", "0.05"))
    assert not np.array_equal(first, second)
    changed = np.argwhere(np.any(first != blank, axis=2))
    assert changed[:, 0].min() > 100
    assert changed[:, 1].max() < 128
    assert not np.array_equal(animation.labelled(blank[:16, :16], "alpha 0.00"), blank[:16, :16])


@pytest.mark.parametrize(
    ("pixels", "axis", "expected"),
    [
        (np.full((2, 2), 100, np.uint8), False, 100),
        (np.full((2, 2), 65535, np.uint16), False, 255),
        (np.dstack([np.full((2, 2, 3), 100), np.zeros((2, 2))]).astype(np.uint8), 2, 255),
        (np.dstack([np.full((2, 2), 100), np.full((2, 2), 255)]).astype(np.uint8), 2, 100),
    ],
    ids=["gray", "16 bit", "transparent", "opaque gray"],
)
def test_any_single_image_can_be_shown(pixels, axis, expected) -> None:
    shown = animation.displayable(ImageFile(Path("x.png"), pixels, axis, Metadata(), "png"))
    assert shown.shape == (2, 2, 3)
    assert shown.dtype == np.uint8
    assert np.unique(shown).tolist() == [expected]


@pytest.mark.parametrize(
    "pixels", [np.zeros((2, 4, 4), np.uint8), np.zeros((4, 4), np.float32)], ids=["stack", "float"]
)
def test_other_images_are_turned_down(pixels) -> None:
    with pytest.raises(ImageFileError, match=r"x\.tif"):
        animation.displayable(ImageFile(Path("x.tif"), pixels, False, Metadata(), "tiff"))


@pytest.mark.parametrize(
    ("name", "steps", "duration"),
    [("a.avi", 5, 100), ("a.gif", 1, 100), ("a.gif", 5, 0), ("a.gif", 5, 10**6)],
)
def test_bad_arguments(name, steps, duration) -> None:
    with pytest.raises(OptionError):
        animation.check(Path(name), steps, duration)


def test_networks_that_cannot_be_mixed() -> None:
    with pytest.raises(ArchitectureMismatch):
        next(animation.sweep(make_network(), make_network(nf=16), smooth(8, 8)))


def test_nothing_is_left_where_writing_fails(tmp_path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ImageFileError, match="cannot be written"):
        animation.write_animation(tmp_path / "file" / "a.gif", [smooth()], 100)
