"""`esrgan upscale`: results, messages and exit codes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from PIL import Image

from esrgan_ext.inference import Upscaler
from esrgan_ext.inference.files import read_image, write_image
from esrgan_ext.weights import load_model
from tests.cli.conftest import process


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_folder(upscale, photos, tmp_path, models) -> None:
    result = upscale(photos, tmp_path / "out", "--recursive")
    assert result.exit_code == 0
    assert names(tmp_path / "out") == ["a.png", "b.jpg", "below/c.tif"]
    assert result.stdout.count("\n") == 3
    assert "[3/3]" in result.stdout
    assert "(36 x 32," in result.stdout
    up = Upscaler(load_model(models / "a.safetensors"), device="cpu")
    found = read_image(tmp_path / "out" / "a.png").pixels
    np.testing.assert_array_equal(found, up(read_image(photos / "a.png").pixels))
    deep = read_image(tmp_path / "out" / "below" / "c.tif").pixels
    assert (deep.shape, deep.dtype) == ((32, 36), np.uint16)


def test_without_recursive_folders_below_are_left_out(upscale, photos, tmp_path) -> None:
    assert upscale(photos, tmp_path / "out").exit_code == 0
    assert names(tmp_path / "out") == ["a.png", "b.jpg"]


def test_arguments_default_to_lr_and_results(upscale, photos, tmp_path, monkeypatch) -> None:
    photos.rename(tmp_path / "LR")
    monkeypatch.chdir(tmp_path)
    assert upscale().exit_code == 0
    assert names(tmp_path / "results") == ["a.png", "b.jpg"]


def test_without_an_input_and_without_lr(upscale, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = upscale()
    assert result.exit_code == 2
    assert "give INPUT, an image or a folder" in result.stderr


def test_a_folder_on_two_devices_and_the_effort_of_png(upscale, photos, tmp_path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert upscale(photos, one, "-r", "-f", "png", "--png-level", "0").exit_code == 0
    assert upscale(photos, two, "-r", "-f", "png", "--device", "cpu,cpu").exit_code == 0
    assert names(one) == names(two)
    for name in names(one):
        np.testing.assert_array_equal(read_image(one / name).pixels, read_image(two / name).pixels)
        assert (one / name).stat().st_size > (two / name).stat().st_size
    refused = upscale(photos, tmp_path / "three", "--device", "auto,cpu")
    assert refused.exit_code == 2
    assert "device must be" in refused.stderr


def test_format_and_suffix(upscale, photos, tmp_path) -> None:
    out = tmp_path / "out"
    assert upscale(photos, out, "-r", "--format", "jpg", "--suffix", "_rlt").exit_code == 0
    assert names(out) == ["a_rlt.png", "b_rlt.jpg", "below/c_rlt.png"]
    with Image.open(out / "a_rlt.png") as image:
        assert image.mode == "RGBA"
    with Image.open(out / "below" / "c_rlt.png") as image:
        assert image.mode == "I;16"


def test_one_file_to_a_file(upscale, photos, tmp_path) -> None:
    target = tmp_path / "new folder" / "große Möwe.webp"
    assert upscale(photos / "b.jpg", target, "--outscale", "2.5").exit_code == 0
    with Image.open(target) as image:
        assert image.size == (round(9 * 2.5), round(8 * 2.5))


def test_existing_results_are_skipped(upscale, photos, tmp_path) -> None:
    out = tmp_path / "out"
    upscale(photos, out)
    before = (out / "a.png").stat().st_mtime_ns
    again = upscale(photos, out)
    assert again.exit_code == 0
    assert "2 results exist" in again.stdout
    assert (out / "a.png").stat().st_mtime_ns == before
    assert upscale(photos, out, "--overwrite").exit_code == 0
    assert (out / "a.png").stat().st_mtime_ns > before


def test_options_reach_the_network(upscale, photos, tmp_path, models) -> None:
    options = {"tile": 4, "overlap": 3, "ensemble": True}
    arguments = ("--tile", 4, "--overlap", 3, "--ensemble")
    assert upscale(photos / "a.png", tmp_path / "x.png", *arguments).exit_code == 0
    up = Upscaler(load_model(models / "a.safetensors"), device="cpu", **options)
    expected = up(read_image(photos / "a.png").pixels)
    np.testing.assert_array_equal(read_image(tmp_path / "x.png").pixels, expected)


def test_data_range(upscale, tmp_path, models) -> None:
    counts = np.random.default_rng(0).integers(100, 4000, (8, 9)).astype(np.uint16)
    write_image(tmp_path / "x.tif", counts)
    for text, value in (("0,4095", (0, 4095)), ("auto", "auto")):
        assert upscale(
            tmp_path / "x.tif", tmp_path / "y.tif", "--data-range", text, "--overwrite"
        ).exit_code == 0  # fmt: skip
        up = Upscaler(load_model(models / "a.safetensors"), device="cpu", data_range=value)
        np.testing.assert_array_equal(read_image(tmp_path / "y.tif").pixels, up(counts))


def test_failed_files_are_named_at_the_end_and_the_others_done(upscale, photos, tmp_path) -> None:
    (photos / "a_text.png").write_text("not an image")
    data = (photos / "b.jpg").read_bytes()
    (photos / "b_cut.jpg").write_bytes(data[:-2])
    result = upscale(photos, tmp_path / "out")
    assert result.exit_code == 1
    assert names(tmp_path / "out") == ["a.png", "b.jpg"]
    lines = result.stderr.splitlines()
    assert lines[0] == "2 of 4 failed:"
    assert "a_text.png: its content is no image format" in lines[1]
    assert "b_cut.jpg: the JPEG is truncated" in lines[2]


def test_a_header_that_claims_too_much_and_the_limit(upscale, photos, tmp_path) -> None:
    result = upscale(photos / "a.png", tmp_path / "out", "--max-pixels", "71")
    assert result.exit_code == 1
    assert "9 x 8 pixels" in result.stderr
    assert "--max-pixels" in result.stderr
    assert names(tmp_path / "out") == []
    assert upscale(photos / "a.png", tmp_path / "out", "--max-pixels", "72").exit_code == 0


def test_stacks_become_tiff_where_the_format_cannot_hold_them(upscale, tmp_path) -> None:
    write_image(tmp_path / "stack.tif", np.zeros((3, 4, 5), np.uint8), channel_axis=False)
    result = upscale(tmp_path / "stack.tif", tmp_path / "out", "--format", "png")
    assert result.exit_code == 0
    assert names(tmp_path / "out") == ["stack.tif"]


class TestRefusedBeforeTheWork:
    @pytest.fixture(autouse=True)
    def no_work(self, monkeypatch) -> None:
        def called(*arguments: object, **options: object) -> None:
            raise AssertionError("the network was called")

        monkeypatch.setattr("esrgan_ext.inference.upscaler.Upscaler.__call__", called)

    def test_alpha_into_a_jpeg_that_is_named(self, upscale, photos, tmp_path) -> None:
        result = upscale(photos / "a.png", tmp_path / "out.jpg")
        assert result.exit_code == 2
        assert "JPEG cannot hold 36 x 32 pixels of 8 bits with alpha; PNG can" in result.stderr

    def test_floats_and_stacks_into_a_png_that_is_named(self, upscale, tmp_path) -> None:
        write_image(tmp_path / "f.tif", np.zeros((4, 5), np.float32))
        write_image(tmp_path / "s.tif", np.zeros((3, 4, 5), np.uint8), channel_axis=False)
        for name, word in (("f.tif", "float32 pixels"), ("s.tif", "a stack of planes")):
            result = upscale(tmp_path / name, tmp_path / "out.png")
            assert result.exit_code == 2
            assert f"{word}; TIFF can" in result.stderr

    def test_a_disk_without_room(self, upscale, photos, tmp_path, monkeypatch) -> None:
        monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10))
        result = upscale(photos, tmp_path / "out")
        assert result.exit_code == 1
        assert "has 0 MB free: make room" in result.stderr


def test_one_of_several_images(upscale, tmp_path) -> None:
    with tifffile.TiffWriter(tmp_path / "in.tif") as writer:
        writer.write(np.zeros((4, 5), np.uint8))
        writer.write(np.zeros((6, 7), np.uint8))
    assert upscale(tmp_path / "in.tif", tmp_path / "all.tif").exit_code == 0
    assert upscale(tmp_path / "in.tif", tmp_path / "one.tif", "--series", "1").exit_code == 0
    with tifffile.TiffFile(tmp_path / "all.tif") as tif:
        assert [one.shape for one in tif.series] == [(16, 20), (24, 28)]
    assert tifffile.imread(tmp_path / "one.tif").shape == (24, 28)
    result = upscale(tmp_path / "in.tif", tmp_path / "none.tif", "--series", "2")
    assert result.exit_code == 1
    assert "it has series 0 to 1" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--tile", "-1"), "tile must be"),
        (("--tile", "0"), "tile must be"),
        (("--tile", "12.5"), "tile must be"),
        (("--tile", "big"), "tile must be"),
        (("--overlap", "-1"), "overlap must be"),
        (("--overlap", "0.5"), "overlap must be"),
        (("--outscale", "0"), "outscale must be"),
        (("--outscale", "nan"), "outscale must be"),
        (("--outscale", "-2"), "outscale must be"),
        (("--quality", "0"), "quality must be"),
        (("--quality", "101"), "quality must be"),
        (("--max-pixels", "0"), "max-pixels must be"),
        (("--data-range", "5"), "data-range must be"),
        (("--data-range", "2,1"), "data-range must be"),
        (("--data-range", "0,nan"), "data-range must be"),
        (("--format", "gif"), "unknown format"),
        (("--suffix", "/x"), "separator"),
        (("--model", "no-such-model"), "no-such-model"),
        (("--device", "cuda:77"), "cuda:77"),
        (("--device", "toaster"), "toaster"),
        (("--precision", "fp8"), "fp8"),
        (("--no-such-option",), "No such option"),
    ],
)
def test_bad_arguments(upscale, photos, tmp_path, arguments, reason) -> None:
    result = upscale(photos, tmp_path / "out", *arguments)
    assert result.exit_code == 2
    assert reason in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists() or names(tmp_path / "out") == []


def test_bad_inputs_and_outputs(upscale, photos, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("in the way")
    for source, target, reason in (
        (tmp_path / "missing.png", tmp_path / "out", "no such file"),
        (tmp_path / "empty", tmp_path / "out", "no images"),
        (photos, tmp_path / "file" / "out", "cannot be written to"),
        (photos, photos, "place of an input"),
    ):
        result = upscale(source, target)
        assert result.exit_code == 2
        assert result.stderr.startswith("error: ")
        assert reason in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1


def test_two_inputs_for_one_result(upscale, photos, tmp_path) -> None:
    write_image(photos / "b.png", np.zeros((4, 4, 3), np.uint8))
    result = upscale(photos, tmp_path / "out", "--format", "webp")
    assert result.exit_code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        ["a.webp", "b.webp", "b.png.webp"]
    )


def test_a_gif_and_a_png_of_one_name(upscale, tmp_path, models) -> None:
    rng = np.random.default_rng(0)
    folder = tmp_path / "in"
    for name in ("anim.png", "anim.gif.png"):
        write_image(folder / name, rng.integers(0, 256, (8, 9, 3), dtype=np.uint8))
    Image.fromarray(rng.integers(0, 256, (8, 9), dtype=np.uint8)).save(folder / "anim.gif")
    result = upscale(folder, tmp_path / "out")
    assert result.exit_code == 0
    assert names(tmp_path / "out") == ["anim.gif-2.png", "anim.gif.png", "anim.png"]
    assert "anim.gif: its result is anim.gif-2.png" in result.stderr
    up = Upscaler(load_model(models / "a.safetensors"), device="cpu")
    for source, target in (("anim.gif", "anim.gif-2.png"), ("anim.png", "anim.png")):
        found = read_image(tmp_path / "out" / target).pixels
        np.testing.assert_array_equal(found, up(read_image(folder / source).pixels))


def test_videos_in_a_folder_are_named(upscale, photos, tmp_path) -> None:
    (photos / "below" / "b.MKV").touch()
    (photos / "a.mp4").touch()
    found = upscale(photos, tmp_path / "out")
    assert f"{photos / 'a.mp4'}: left out; esrgan upscale takes one video at a time" in found.stdout
    found = upscale(photos, tmp_path / "out", "-r")
    assert f"{photos / 'a.mp4'} and 1 more: left out" in found.stdout
    assert found.exit_code == 0


def test_a_damaged_model(upscale, photos, tmp_path) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"nothing of use")
    result = upscale(photos, tmp_path / "out", "--model", tmp_path / "broken.safetensors")
    assert result.exit_code == 2
    assert "broken.safetensors" in result.stderr


def test_bad_pixels_fail_with_a_reason(upscale, tmp_path) -> None:
    write_image(tmp_path / "in" / "inf.tif", np.full((4, 4), np.inf, np.float32))
    result = upscale(tmp_path / "in", tmp_path / "out")
    assert result.exit_code == 1
    assert "inf" in result.stderr
    assert names(tmp_path / "out") == []


def test_nan_pixels_are_a_warning_in_one_line(upscale, tmp_path) -> None:
    pixels = np.full((4, 4), 0.5, np.float32)
    pixels[1, 1] = np.nan
    write_image(tmp_path / "in" / "nan.tif", pixels)
    result = upscale(tmp_path / "in", tmp_path / "out")
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: ")
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.skipif(os.name != "posix", reason="POSIX limits and signals")
class TestProcess:
    def many(self, folder: Path, number: int = 40) -> Path:
        noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
        for k in range(number):
            write_image(folder / f"{k:02}.png", noise)
        return folder

    @pytest.mark.parametrize(
        ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"]
    )
    def test_ctrl_c_in_the_middle_of_a_folder(self, tmp_path, models, number, code) -> None:
        source, out = self.many(tmp_path / "in"), tmp_path / "out"
        running = process(
            "upscale", source, out, "-m", models / "a.safetensors", "--device", "cpu",
            "--ensemble",
        )  # fmt: skip
        deadline = time.monotonic() + 120
        while not (out / "01.png").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        running.send_signal(number)
        _, errors = running.communicate(timeout=120)

        assert running.returncode == code
        assert "Traceback" not in errors
        finished = names(out)
        assert 2 <= len(finished) < 40
        assert all(name.endswith(".png") and not name.startswith(".") for name in finished)
        for name in finished:
            assert read_image(out / name).pixels.shape == (384, 384, 3)
        if number == signal.SIGINT:
            assert "interrupted" in errors

    def test_a_full_disk(self, tmp_path, models) -> None:
        source, out = self.many(tmp_path / "in", 2), tmp_path / "out"
        write_image(source / "small.png", np.zeros((4, 4, 3), np.uint8))

        def limit() -> None:
            import resource

            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

        running = process(
            "upscale", source, out, "-m", models / "a.safetensors", "--device", "cpu",
            preexec_fn=limit,
        )  # fmt: skip
        _, errors = running.communicate(timeout=120)

        assert running.returncode == 1
        assert names(out) == ["small.png"]
        assert errors.startswith("2 of 3 failed:")
        assert errors.count("cannot be written: File too large") == 2
        assert "Traceback" not in errors
