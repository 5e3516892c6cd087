"""A clip that a lazy reader opened, through the job of the form, and out as a clip again."""

from __future__ import annotations

import cv2
import dask
import dask.array as da
import numpy as np

import esrgan_ext as esr
from napari_esrgan._work.ranges import RangeChoice, default_kind
from napari_esrgan._work.upscale import run_upscale
from napari_esrgan._writer import write_mp4
from tests.napari_esrgan.conftest import never

FRAMES, HEIGHT, WIDTH = 6, 24, 32


def frames_of(path) -> list[np.ndarray]:
    """Every frame, RGB, as OpenCV decodes it."""
    video, found = cv2.VideoCapture(str(path)), []
    while True:
        there, frame = video.read()
        if not there:
            return found
        found.append(frame[..., ::-1])


def test_a_clip_of_a_lazy_reader_goes_frame_by_frame_and_comes_out_as_one(
    tmp_path, make_request, model_file
):
    source = np.zeros((FRAMES, HEIGHT, WIDTH, 3), np.uint8)
    for number, frame in enumerate(source):
        frame[..., 1] = 30 * number + 20
        frame[8:16, 4 * number : 4 * number + 8] = (220, 60, 40)
    write_mp4(str(tmp_path / "in.mp4"), source, {"rgb": True})
    decoded = frames_of(tmp_path / "in.mp4")
    assert len(decoded) == FRAMES

    read: list[int] = []

    def frame_of(number: int) -> np.ndarray:
        read.append(number)
        video = cv2.VideoCapture(str(tmp_path / "in.mp4"))
        video.set(cv2.CAP_PROP_POS_FRAMES, number)
        return np.ascontiguousarray(video.read()[1][..., ::-1])

    parts = [
        da.from_delayed(dask.delayed(frame_of)(number), (HEIGHT, WIDTH, 3), np.uint8)
        for number in range(FRAMES)
    ]
    clip = da.stack(parts)
    request = make_request(
        clip, rgb=True, value_range=RangeChoice(default_kind(clip.dtype, lazy=True))
    )
    assert request.axes.outer  # the frames are planes, the colours are not
    outcome = run_upscale(request, lambda _: None, never)
    assert sorted(set(read)) == list(range(FRAMES))
    assert len(read) <= 2 * FRAMES  # no frame calls for the whole clip

    levels = outcome.result.levels
    result = levels[0] if isinstance(levels, list) else levels
    assert result.shape == (FRAMES, 4 * HEIGHT, 4 * WIDTH, 3)
    upscaler = esr.Upscaler(model_file, device="cpu")
    for number, frame in enumerate(decoded):
        np.testing.assert_array_equal(np.asarray(result[number]), upscaler(frame))

    write_mp4(str(tmp_path / "out.mp4"), result, {"rgb": True})
    found = frames_of(tmp_path / "out.mp4")
    assert len(found) == FRAMES
    for frame, expected in zip(found, np.asarray(result), strict=True):
        assert np.abs(frame.mean((0, 1)) - expected.mean((0, 1))).max() < 6
