"""Videos through `upscale_video`: frames, times, colours, sound, and what is broken."""

from __future__ import annotations

import contextlib
import multiprocessing
from fractions import Fraction
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from esrgan_ext.errors import ImageFileError, OptionError, ResumeError, UpscaleCancelled
from tests.inference.video.clips import (
    CHART,
    chart,
    frames_of,
    from_yuv,
    make_clip,
    planes_of,
    sound_of,
)  # fmt: skip


def moving(count: int, height: int = 48, width: int = 80) -> list[np.ndarray]:
    """Charts of which every second equals the one before."""
    return [chart(height, width, k // 2) for k in range(count)]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".avi", ".webm"])
def test_frames_times_and_sound_are_kept(tmp_path: Path, run, suffix: str) -> None:
    source = make_clip(tmp_path / "in.mp4", moving(25))
    result = run(source, tmp_path / f"out{suffix}")
    before, after = frames_of(source), frames_of(result.path)
    assert len(after) == result.frames == 25
    assert [luma.shape for _, luma in after] == [(96, 160)] * 25
    # AVI has no times before zero, where sound of other containers begins: all is shown later.
    later = after[0][0] if suffix == ".avi" else 0
    assert later < 0.1
    # It counts frames instead of keeping times.
    exact = 0.041 if suffix == ".avi" else 1e-3
    np.testing.assert_allclose([t - later for t, _ in after], [t for t, _ in before], atol=exact)
    if suffix == ".webm":
        assert "audio" in " ".join(result.notes)  # it admits no AAC
    else:
        assert sound_of(result.path) == sound_of(source)
    capture = cv2.VideoCapture(str(result.path))  # another reader, with a build of its own
    count = 0
    while capture.read()[0]:
        count += 1
    assert count == 25


@pytest.mark.parametrize(
    ("matrix", "full", "tagged"),
    # Without tags a clip of this size is BT.601 in limited range.
    [*((matrix, full, True) for matrix in (1, 5, 9) for full in (False, True)), (5, False, False)],
)
@pytest.mark.parametrize("form", ["yuv420p", "yuv444p", "yuv420p10le"])
def test_a_colour_chart_goes_through_within_two_levels(
    tmp_path: Path, run, form: str, matrix: int, full: bool, tagged: bool
) -> None:
    image = chart(48, 160)
    source = make_clip(
        tmp_path / "in.mp4", [image] * 3, form=form, matrix=matrix, full=full, tagged=tagged,
        tracks=0,
    )  # fmt: skip
    result = run(source, tmp_path / "out.mp4", crf=1)
    with av.open(str(result.path)) as container:
        context = container.streams.video[0].codec_context
        assert context.pix_fmt.replace("yuvj", "yuv") == form
        # The result says what it is in, so that its larger size changes no player's mind.
        assert int(context.colorspace) == matrix
        assert (int(context.color_range) == 2) == full
    colours = []
    for path, side in ((source, 160), (result.path, 320)):
        with av.open(str(path)) as container:
            planes = planes_of(next(container.decode(video=0)))
        if "420" in form:
            planes[1:] = [np.repeat(np.repeat(p, 2, 0), 2, 1) for p in planes[1:]]
        rgb = from_yuv(planes, matrix, full, 10 if "10" in form else 8)
        colours.append(rgb[side * 24 // 160, [int((k + 0.5) * side / 10) for k in range(10)]])
    assert np.abs(colours[0] - CHART).max() < 4  # the source is the chart
    assert np.abs(colours[1] - colours[0]).max() <= 2


def test_ten_bits_keep_what_eight_would_lose(tmp_path: Path, run) -> None:
    ramp = np.zeros((16, 256, 3), np.uint8)
    source = make_clip(tmp_path / "in.mkv", [ramp] * 2, form="yuv420p10le", tracks=0)
    # Written anew with a ramp of single steps of 10 bits, which no 8-bit image has.
    with av.open(str(source), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.codec_context.width, stream.codec_context.height = 256, 16
        stream.codec_context.pix_fmt = "yuv420p10le"
        stream.codec_context.options = {"crf": "0", "preset": "fast"}
        frame = av.VideoFrame(256, 16, "yuv420p10le")
        values = np.repeat(np.arange(300, 556, dtype=np.uint16)[None], 16, 0)
        for plane, content in zip(
            frame.planes, (values, *[np.full((8, 128), 512, np.uint16)] * 2), strict=True
        ):
            rows = np.zeros((plane.height, plane.line_size), np.uint8)
            raw = np.ascontiguousarray(content).view(np.uint8).reshape(content.shape[0], -1)
            rows[:, : raw.shape[1]] = raw
            plane.update(rows.tobytes())
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    result = run(source, tmp_path / "out.mkv", crf=0)
    with av.open(str(result.path)) as container:
        luma = planes_of(next(container.decode(video=0)))[0][16, ::2].astype(int)
    assert np.abs(luma - np.arange(300, 556)).max() <= 1
    assert len(set(luma)) > 200


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_variable_frame_rate_stays_so(tmp_path: Path, run, suffix: str) -> None:
    times = [0, 40, 50, 120, 300, 310, 700]
    source = make_clip(
        tmp_path / f"in{suffix}", moving(7), times=times, time_base=Fraction(1, 1000), tracks=0
    )
    result = run(source, tmp_path / f"out{suffix}", segment_frames=3)
    assert [round(t * 1000) for t, _ in frames_of(result.path)] == times


@pytest.mark.parametrize(("height", "width", "scale"), [(45, 81, 2), (45, 81, 3), (49, 60, 1.5)])
def test_odd_sizes(tmp_path: Path, enlarger, height: int, width: int, scale: float) -> None:
    from esrgan_ext.inference.upscaler import Upscaler
    from esrgan_ext.inference.video import upscale_video

    source = make_clip(tmp_path / "in.mp4", moving(4, height, width), form="yuv444p", tracks=0)
    upscaler = Upscaler(enlarger.network, outscale=scale, device="cpu")
    result = upscale_video(source, tmp_path / "out.mp4", upscaler, pixel_format="yuv420p")
    _, luma = frames_of(result.path)[0]
    made = (round(height * scale), round(width * scale))
    assert luma.shape == (made[0] + made[0] % 2, made[1] + made[1] % 2)
    assert bool(made[0] % 2 or made[1] % 2) == any("odd" in note for note in result.notes)


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_a_rotated_clip_is_shown_as_it_was(tmp_path: Path, run, degrees: int) -> None:
    image = chart(32, 64)
    image[:8, :16] = 255  # a corner
    source = make_clip(tmp_path / "in.mp4", [image] * 2, rotation=degrees, tracks=0)
    result = run(source, tmp_path / "out.mp4")

    def shown(path: Path) -> np.ndarray:  # OpenCV turns pictures as the file asks
        done, picture = cv2.VideoCapture(str(path)).read()
        assert done
        return picture

    before, after = shown(source), shown(result.path)
    assert after.shape == (2 * before.shape[0], 2 * before.shape[1], 3)
    difference = np.abs(before.repeat(2, 0).repeat(2, 1).astype(int) - after)
    assert np.median(difference) <= 3  # chroma of half the size blurs the edges of stripes
    assert difference.mean() < 15


def test_pixels_that_are_not_square_stay_so(tmp_path: Path, run) -> None:
    source = make_clip(tmp_path / "in.mp4", moving(2), aspect=Fraction(4, 3), tracks=0)
    result = run(source, tmp_path / "out.mp4")
    with av.open(str(result.path)) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)


def test_gray(tmp_path: Path, run) -> None:
    ramp = np.repeat(np.linspace(0, 255, 64).astype(np.uint8)[None, :, None], 32, 0).repeat(3, 2)
    source = make_clip(
        tmp_path / "in.mkv", [ramp] * 2, form="gray", full=True, codec="ffv1", options={}, tracks=0
    )
    result = run(source, tmp_path / "out.mp4", crf=1)
    done, picture = cv2.VideoCapture(str(result.path)).read()
    assert done
    assert np.abs(picture[32, ::2, 0].astype(int) - ramp[16, :, 0]).max() <= 3
    assert np.ptp(picture.astype(int), axis=2).max() <= 2


@pytest.mark.parametrize("tracks", [0, 1, 2])
def test_every_audio_track(tmp_path: Path, run, tracks: int) -> None:
    source = make_clip(tmp_path / "in.mp4", moving(12), tracks=tracks)
    result = run(source, tmp_path / "out.mkv")
    assert sound_of(result.path) == sound_of(source)
    assert len(sound_of(result.path)) == tracks
    with av.open(str(result.path)) as container:
        languages = [stream.metadata.get("language") for stream in container.streams.audio]
        assert languages == ["eng", "deu"][:tracks]


def test_subtitles_chapters_and_metadata(tmp_path: Path, run) -> None:
    plain = make_clip(tmp_path / "plain.mkv", moving(50), tracks=1)
    source = tmp_path / "in.mkv"
    with av.open(str(plain)) as old, av.open(str(source), "w") as new:
        streams = {s.index: new.add_stream_from_template(s) for s in old.streams}
        subtitles = new.add_mux_stream("subrip")
        subtitles.time_base = Fraction(1, 1000)
        new.set_chapters(
            [
                {"id": 1, "start": 0, "end": 1000, "time_base": Fraction(1, 1000),
                 "metadata": {"title": "first"}},
                {"id": 2, "start": 1000, "end": 2000, "time_base": Fraction(1, 1000),
                 "metadata": {"title": "second"}},
            ]
        )  # fmt: skip
        new.metadata["title"] = "a title"
        text = av.Packet(b"hello")
        text.stream, text.pts, text.dts, text.duration = subtitles, 500, 500, 900
        text.time_base = Fraction(1, 1000)
        new.mux(text)
        for packet in old.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                new.mux(packet)
    result = run(source, tmp_path / "out.mkv")
    with av.open(str(result.path)) as container:
        assert container.metadata["title"] == "a title"
        assert "esrgan_ext" in container.metadata["COMMENT"]
        chapters = container.chapters()
        assert [chapter["metadata"]["title"] for chapter in chapters] == ["first", "second"]
        (stream,) = container.streams.subtitles
        texts = [bytes(packet) for packet in container.demux(stream) if packet.size]
        assert texts == [b"hello"]


def test_a_part_of_a_clip(tmp_path: Path, run) -> None:
    source = make_clip(tmp_path / "in.mp4", moving(50))
    result = run(source, tmp_path / "out.mp4", start=0.4, end=1.2)
    times = [t for t, _ in frames_of(result.path)]
    np.testing.assert_allclose(times, np.arange(20) / 25, atol=1e-3)
    packets = sound_of(result.path)[0]
    everything = sound_of(source)[0]
    first = everything.index(packets[0])
    assert packets == everything[first : first + len(packets)]
    assert abs(len(packets) * 1024 / 48000 - 0.8) < 0.05
    with pytest.raises(OptionError, match="must be after"):
        run(source, tmp_path / "no.mp4", start=2, end=1)
    with pytest.raises(ImageFileError, match="no frame between"):
        run(source, tmp_path / "no.mp4", start=60)


def test_equal_frames_are_computed_once(tmp_path: Path, run) -> None:
    images = [chart(48, 80)] * 6 + [chart(48, 80, 1)] * 6
    source = make_clip(
        tmp_path / "in.mkv", images, codec="ffv1", options={}, form="yuv444p", tracks=0
    )
    result = run(source, tmp_path / "out.mp4")
    assert (result.frames, result.computed) == (12, 2)


def test_the_frames_of_a_truncated_file_are_there_and_the_break_is_named(
    tmp_path: Path, run
) -> None:
    whole = make_clip(
        tmp_path / "whole.mkv", [chart(48, 80, k) for k in range(60)], tracks=0,
        codec="ffv1", options={}, form="yuv444p",
    )  # fmt: skip
    cut = tmp_path / "cut.mkv"
    data = whole.read_bytes()
    cut.write_bytes(data[: len(data) // 2])
    before = []
    with av.open(str(cut)) as container:
        try:
            before = [frame.pts for frame in container.decode(video=0)]
        except av.error.FFmpegError:
            pytest.skip("this decoder refuses the file as a whole")
    # Matroska does not say how many frames there should be: then the end is the end.
    with contextlib.suppress(ImageFileError):
        run(cut, tmp_path / "out.mp4")
    count = len(frames_of(tmp_path / "out.mp4"))
    assert count >= len(before) - 1 > 10


def test_an_mp4_that_claims_more_frames_than_it_has(tmp_path: Path, run) -> None:
    source = make_clip(
        tmp_path / "in.mp4", [chart(48, 80, k) for k in range(60)], tracks=0,
        options={"crf": "1", "preset": "fast", "bf": "0"},
    )  # fmt: skip
    data = bytearray(source.read_bytes())
    start = data.find(b"mdat")
    moov = data.find(b"moov")
    assert moov > start  # the index comes last: frames in the middle can be overwritten
    data[start + (moov - start) // 2 : moov - 8] = bytes(moov - 8 - start - (moov - start) // 2)
    source.write_bytes(bytes(data))
    with pytest.raises(ImageFileError, match=r"in\.mp4: (damaged|ends) at 0:00:0\d") as failure:
        run(source, tmp_path / "out.mp4")
    kept = frames_of(tmp_path / "out.mp4")
    assert 10 < len(kept) < 60
    assert f"{len(kept)} frames before are in" in str(failure.value)


def test_what_is_no_video_is_refused(tmp_path: Path, run) -> None:
    for name, content in [("a.mp4", b"no video at all"), ("b.mkv", b""), ("c.avi", b"RIFF" * 99)]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageFileError, match=name):
            run(tmp_path / name, tmp_path / "out.mp4")
    source = make_clip(tmp_path / "in.mp4", moving(3), tracks=0)
    with pytest.raises(OptionError, match="suffix"):
        run(source, tmp_path / "out.txt")
    with pytest.raises(OptionError, match="place of its source"):
        run(source, source)
    with pytest.raises(OptionError, match="no encoder"):
        run(source, tmp_path / "out.mp4", codec="nonsense")
    with pytest.raises(OptionError, match="takes no"):
        run(source, tmp_path / "out.mp4", pixel_format="pal8")
    with pytest.raises(OptionError, match="crf"):
        run(source, tmp_path / "out.mp4", crf=99)
    (tmp_path / "there.mp4").write_bytes(b"")
    with pytest.raises(OptionError, match="exists"):
        run(source, tmp_path / "there.mp4")
    assert not list(tmp_path.glob("*.unfinished"))


def test_a_stopped_run_continues_and_refuses_other_options(tmp_path: Path, run) -> None:
    source = make_clip(tmp_path / "in.mp4", [chart(48, 80, k) for k in range(30)])
    whole = run(source, tmp_path / "whole.mp4", segment_frames=7)
    target = tmp_path / "out.mp4"
    with pytest.raises(UpscaleCancelled):
        run(source, target, segment_frames=7, progress=lambda done, total: done < 18)
    assert not target.exists()
    with pytest.raises(ResumeError, match="encoding"):
        run(source, target, segment_frames=7, crf=30)
    result = run(source, target, segment_frames=7)
    assert result.computed < 30
    after, expected = frames_of(target), frames_of(whole.path)
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(after, expected, strict=True))
    assert sound_of(target) == sound_of(whole.path)
    assert not list(tmp_path.glob("*.unfinished"))


def test_two_devices_give_the_clip_of_one_and_continue_its_run(
    tmp_path: Path, model_file: Path
) -> None:
    from esrgan_ext.inference.video import upscale_video

    images = [chart(48, 80, k // 2 if k % 5 else 0) for k in range(31)]
    source = make_clip(tmp_path / "in.mp4", images)

    def made(name: str, devices: str | list[str], **options: object):
        return upscale_video(
            source, tmp_path / name, model_file, device=devices, segment_frames=4, **options
        )

    one = made("one.mp4", "cpu")
    two = made("two.mp4", "cpu,cpu")
    assert (two.frames, two.computed) == (one.frames, one.computed)
    with pytest.raises(UpscaleCancelled):
        made("three.mp4", ["cpu", "cpu"], progress=lambda done, total: done < 14)
    assert not (tmp_path / "three.mp4").exists()
    assert len(list(tmp_path.glob("three.mp4.unfinished/*.segment"))) >= 1
    three = made("three.mp4", ["cpu", "cpu", "cpu"])
    assert three.computed < one.computed
    expected = frames_of(one.path)
    for other in (two.path, three.path):
        after = frames_of(other)
        assert [t for t, _ in after] == [t for t, _ in expected]
        assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(after, expected, strict=True))


def write_and_tell(source: Path, target: Path, model: Path, told: Connection) -> None:
    """Upscale a clip in a process of its own; says how many frames are done, as they are."""
    from esrgan_ext.inference.upscaler import Upscaler
    from esrgan_ext.inference.video import upscale_video

    told.send(0)
    upscale_video(
        source, target, Upscaler(model, device="cpu"), segment_frames=3,
        progress=lambda done, total: told.send(done),
    )  # fmt: skip


def test_twenty_kills_lose_nothing(tmp_path: Path, run, model_file: Path) -> None:
    """SIGKILL after a random number of frames; once in a while before the first. There are more
    frames than the twenty numbers together, so that no run is done before its kill."""
    source = make_clip(tmp_path / "in.mp4", [chart(96, 128, k) for k in range(105)])
    whole = run(source, tmp_path / "whole.mp4", segment_frames=3)
    target = tmp_path / "out.mp4"
    random = np.random.default_rng(7)
    # Forked off one process that has imported everything, or most of the time goes into that.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "esrgan_ext.inference.video.run"])

    def started() -> tuple[Any, Connection]:
        listening, telling = context.Pipe(duplex=False)
        process = context.Process(
            target=write_and_tell, args=(source, target, model_file, telling), daemon=True
        )
        process.start()
        telling.close()
        return process, listening

    kills = 0
    for _ in range(20):
        if target.exists():
            break
        finished = len(list(tmp_path.glob("out.mp4.unfinished/*.segment")))
        process, told = started()
        for _ in range(finished * 3 + int(random.integers(0, 10))):
            try:
                told.recv()
            except EOFError:
                break
        process.kill()
        process.join()
        kills += 1
        assert target.exists() == (process.exitcode == 0)
    if not target.exists():
        process, _ = started()
        process.join()
        assert process.exitcode == 0
    assert kills == 20
    after, expected = frames_of(target), frames_of(whole.path)
    assert [t for t, _ in after] == [t for t, _ in expected]
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(after, expected, strict=True))
    assert sound_of(target) == sound_of(source)


def test_auto_takes_one_model_and_one_strength_for_a_clip(tmp_path: Path) -> None:
    from esrgan_ext.inference.upscaler import Upscaler
    from esrgan_ext.inference.video import upscale_frames, upscale_video

    rng = np.random.default_rng(5)
    y, x = np.mgrid[:32, :48]
    bright = 60 + 120 * np.exp(-((y - 16) ** 2 + (x - 20) ** 2) / 60)
    noisy = [(bright + rng.normal(0, 30, bright.shape)).clip(0, 255) for _ in range(3)]
    frames = [np.repeat(n.astype(np.uint8)[..., None], 3, 2) for n in noisy]
    source = tmp_path / "in.png"
    stills = [Image.fromarray(frame) for frame in frames]
    stills[0].save(source, save_all=True, append_images=stills[1:], duration=40)
    found = [pixels for _, pixels in upscale_frames(source, "auto", device="cpu")]
    same = Upscaler(
        "lite-micro-x4", device="cpu", denoise=1, channel_axis=-1, data_range="type"
    )  # fmt: skip
    assert len(found) == 3
    for result, frame in zip(found, frames, strict=True):
        assert np.array_equal(result, same(frame))
    written = upscale_video(source, tmp_path / "out.png", "auto", device="cpu")
    notes = " ".join(written.notes)
    assert "lite-micro-x4" in notes
    assert "strength 1" in notes
    smooth = [Image.fromarray(np.repeat(bright.astype(np.uint8)[..., None], 3, 2))] * 2
    smooth[0].save(source, save_all=True, append_images=smooth[1:], duration=40)
    clean = upscale_video(
        source, tmp_path / "out.png", "auto", device="cpu", denoise=0, overwrite=True
    )
    assert "strength" not in " ".join(clean.notes)
