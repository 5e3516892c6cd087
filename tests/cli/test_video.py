"""`esrgan upscale` of moving pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.inference.video.clips import chart, frames_of, make_clip
from tests.inference.video.test_animation import animation, read


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "clip.mp4", [chart(32, 48, k) for k in range(6)])


def test_a_clip_into_a_folder_and_into_a_file(upscale, clip: Path, tmp_path: Path) -> None:
    result = upscale(clip, tmp_path / "out")
    assert result.exit_code == 0
    assert "6 frames" in result.stdout
    assert frames_of(tmp_path / "out" / "clip.mp4")[0][1].shape == (128, 192)
    again = upscale(clip, tmp_path / "out")
    assert "skipped" in again.output
    part = upscale(clip, tmp_path / "part.mkv", "--start", "0.08", "--end", "0.2", "--crf", "30")
    assert part.exit_code == 0
    assert len(frames_of(tmp_path / "part.mkv")) == 3


def test_an_animation(upscale, tmp_path: Path) -> None:
    source = animation(tmp_path / "in.gif", alpha=False, loop=0)
    result = upscale(source, tmp_path / "out.gif")
    assert result.exit_code == 0
    assert len(read(tmp_path / "out.gif")[0]) == 5


def test_options_of_other_things_are_refused(upscale, clip: Path, photos: Path, tmp_path) -> None:
    for source, option in [(clip, ("--format", "png")), (photos, ("--crf", "3"))]:
        result = upscale(source, tmp_path / "no", *option)
        assert result.exit_code == 2
        assert option[0] in result.output


def test_a_broken_clip_ends_with_an_error(upscale, tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    result = upscale(tmp_path / "bad.mp4", tmp_path / "out.mp4")
    assert result.exit_code != 0
    assert "bad.mp4" in result.output
