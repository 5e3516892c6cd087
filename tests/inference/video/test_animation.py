"""Animated images: frames, durations, loops and alpha."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageSequence

from tests.inference.video.clips import chart, frames_of


def animation(path: Path, *, alpha: bool, loop: int | None, count: int = 5) -> Path:
    """Charts with other durations each; `alpha`: the left half is transparent."""
    images = []
    for k in range(count):
        pixels = np.dstack([chart(24, 40, k), np.full((24, 40), 255, np.uint8)])
        if alpha:
            pixels[:, :20, 3] = 0
        image = Image.fromarray(pixels)
        images.append(image if alpha else image.convert("RGB"))
    options = {"duration": [100 + 50 * k for k in range(count)], "lossless": True}
    options |= {} if loop is None else {"loop": loop}
    if path.suffix == ".gif" and alpha:
        options["disposal"] = 2
    if path.suffix == ".avif":
        options = {"duration": options["duration"], "quality": 100}
    kind = {".apng": "PNG"}.get(path.suffix)
    images[0].save(path, format=kind, save_all=True, append_images=images[1:], **options)
    return path


def read(path: Path) -> tuple[list[np.ndarray], list[int], int | None]:
    with Image.open(path) as image:
        frames, durations = [], []
        for frame in ImageSequence.Iterator(image):
            frames.append(np.array(frame.convert("RGBA")).astype(int))
            durations.append(round(frame.info["duration"]))
        return frames, durations, image.info.get("loop")


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".apng", ".avif"])
def test_frames_durations_and_alpha_are_kept(tmp_path: Path, run, suffix: str, alpha: bool) -> None:
    source = animation(tmp_path / f"in{suffix}", alpha=alpha, loop=0)
    result = run(source, tmp_path / f"out{suffix}", segment_frames=2, quality=100)
    before, after = read(source), read(result.path)
    assert len(after[0]) == len(before[0]) == 5
    assert after[1] == before[1] == [100, 150, 200, 250, 300]
    for small, large in zip(before[0], after[0], strict=True):
        assert large.shape == (48, 80, 4)
        visible = small[..., 3] > 0
        difference = np.abs(large[::2, ::2, :3] - small[..., :3])[visible]
        assert np.median(difference) <= (3 if suffix == ".avif" else 1)
        np.testing.assert_allclose(large[::2, ::2, 3], small[..., 3], atol=2)


@pytest.mark.parametrize("loop", [None, 0, 3])
@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_the_loop_count_is_kept(tmp_path: Path, run, suffix: str, loop: int | None) -> None:
    source = animation(tmp_path / f"in{suffix}", alpha=False, loop=loop)
    result = run(source, tmp_path / f"out{suffix}")
    assert read(result.path)[2] == read(source)[2]


def test_an_animation_becomes_a_video_and_back(tmp_path: Path, run) -> None:
    source = animation(tmp_path / "in.gif", alpha=False, loop=0)
    video = run(source, tmp_path / "out.mp4")
    times = [t for t, _ in frames_of(video.path)]
    np.testing.assert_allclose(times, [0, 0.1, 0.25, 0.45, 0.7], atol=1e-3)
    back = run(video.path, tmp_path / "back.gif")
    assert read(back.path)[1][:4] == [100, 150, 200, 250]
    with av.open(str(video.path)) as container:
        assert container.streams.video[0].frames == 5
