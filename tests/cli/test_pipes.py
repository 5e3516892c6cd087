"""`-`: an image from standard input, a result to standard output."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from esrgan_ext.inference.files import read_image, write_image
from esrgan_ext.inference.headers import header_of_bytes, sniff
from tests.conftest import ROOT

pytestmark = pytest.mark.skipif(os.name != "posix", reason="descriptors and pipes of POSIX")


def esrgan(
    *arguments: object, data: bytes = b"", code: int | None = 0, **options: object
) -> subprocess.CompletedProcess[bytes]:
    """`esrgan upscale` in a process, with bytes in and bytes out."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "esrgan_ext.cli", "upscale", *map(str, arguments), "-d", "cpu"],
        **{"input": data, "capture_output": True, "env": environment, "timeout": 120, **options},
    )  # type: ignore[call-overload]
    if code is not None:
        assert done.returncode == code, done.stderr
    assert b"Traceback" not in (done.stderr or b"")
    return done


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: bytes
    stderr: str


@pytest.fixture
def pipe(upscale, tmp_path_factory, capfdbinary) -> Iterator[Callable[..., Done]]:
    """`esrgan upscale` in this process, with its descriptors 0 and 1."""
    real = os.dup(0)

    def call(data: bytes, *arguments: object, code: int = 0) -> Done:
        given = tmp_path_factory.mktemp("stdin") / "data"
        given.write_bytes(data)
        with open(given, "rb") as file:
            os.dup2(file.fileno(), 0)
        result = upscale(*arguments)
        printed = capfdbinary.readouterr()
        done = Done(result.exit_code, printed.out, result.output + printed.err.decode())
        assert done.returncode == code, done.stderr
        assert "/esrgan-" not in done.stderr  # no name of a temporary file
        return done

    yield call
    os.dup2(real, 0)
    os.close(real)


@pytest.fixture
def model(models: Path) -> tuple[str, Path]:
    return "-m", models / "a.safetensors"


def test_the_same_bytes_as_by_files(upscale, photos, tmp_path, model) -> None:
    assert upscale(photos / "a.png", tmp_path / "out.png").exit_code == 0
    done = esrgan("-", "-o", "-", *model, data=(photos / "a.png").read_bytes())
    assert done.stdout == (tmp_path / "out.png").read_bytes()
    assert b"standard input -> standard output (png) (36 x 32" in done.stderr
    assert b"/esrgan-" not in done.stderr  # no name of a temporary file


@pytest.mark.parametrize(
    ("arguments", "name"),
    [((), "a.png"), (("-",), "b.jpg"), (("-o", "-"), "c.tif")],
    ids=["neither is said", "positional", "option"],
)
def test_the_format_of_the_image(photos, pipe, arguments, name) -> None:
    path = next(photos.rglob(name))
    done = pipe(path.read_bytes(), "-", *arguments)
    assert sniff(done.stdout[:32]) == sniff(path.read_bytes()[:32])
    header = header_of_bytes(done.stdout)
    assert (header.width, header.height) == (36, 32)


@pytest.mark.parametrize(
    ("kind", "suffix", "expected"),
    [("pnm", ".pgm", b"P5"), ("pnm", ".ppm", b"P6"), ("bmp", ".bmp", b"BM"),
     ("gif", ".gif", b"\x89PNG"), ("webp", ".webp", b"RIFF")],
)  # fmt: skip
def test_other_formats_keep_theirs_or_become_png(tmp_path, pipe, kind, suffix, expected) -> None:
    from PIL import Image

    shape = (8, 9) if suffix == ".pgm" else (8, 9, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / f"x{suffix}")
    done = pipe((tmp_path / f"x{suffix}").read_bytes(), "-")
    assert done.stdout.startswith(expected)


def test_a_format_that_is_asked_for(photos, pipe) -> None:
    done = pipe((photos / "b.jpg").read_bytes(), "-", "-f", "webp")
    assert sniff(done.stdout[:32]) == "webp"
    refused = pipe((photos / "a.png").read_bytes(), "-", "-f", "jpg", code=2)
    assert refused.stdout == b""
    assert "JPEG cannot hold 36 x 32 pixels of 8 bits with alpha" in refused.stderr
    assert "standard output" in refused.stderr


def test_one_end_a_file(photos, tmp_path, pipe) -> None:
    data = (photos / "b.jpg").read_bytes()
    target = tmp_path / "x.png"
    pipe(data, "-", "-o", target)
    from_file = pipe(b"", photos / "b.jpg", "-o", "-", "-f", "png")
    assert from_file.stdout == target.read_bytes()
    skipped = pipe(data, "-", "-o", target)
    assert "exists: skipped" in skipped.stderr


def test_whatever_is_printed_goes_to_standard_error(photos, model, tmp_path) -> None:
    """What Python prints, and what compiled code writes to descriptor 1."""
    script = tmp_path / "noisy.py"
    script.write_text(
        "import os, sys\n"
        "from esrgan_ext.cli import main\n"
        "from esrgan_ext.inference import upscaler\n"
        "call = upscaler.Upscaler.__call__\n"
        "def noisy(self, *a, **k):\n"
        "    print('printed'); os.write(1, b'written')\n"
        "    return call(self, *a, **k)\n"
        "upscaler.Upscaler.__call__ = noisy\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, script, "upscale", "-", *map(str, model), "-d", "cpu"],
        input=(photos / "a.png").read_bytes(), capture_output=True, timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"printed" in done.stderr
    assert b"written" in done.stderr
    (tmp_path / "x.png").write_bytes(done.stdout)
    assert read_image(tmp_path / "x.png").pixels.shape == (32, 36, 4)
    assert done.stdout.endswith(b"IEND\xaeB`\x82")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "standard input: the file is empty"),
        (b"no image at all", "standard input: its content is no image format"),
        (b"\x89PNG\r\n\x1a\n\0\0", "standard input: the PNG is truncated"),
    ],
)
def test_what_is_no_image(pipe, data: bytes, reason: str) -> None:
    done = pipe(data, "-", code=1)
    assert done.stdout == b""
    assert reason in done.stderr


def test_a_cut_image(photos, pipe) -> None:
    done = pipe((photos / "b.jpg").read_bytes()[:-9], "-", code=1)
    assert done.stdout == b""
    assert "standard input: the JPEG is truncated" in done.stderr


def test_an_animation_is_no_single_image(tmp_path, pipe) -> None:
    from PIL import Image

    frames = [Image.fromarray(np.full((8, 9, 3), k, np.uint8)) for k in (0, 200)]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    done = pipe((tmp_path / "x.gif").read_bytes(), "-", code=1)
    assert "it is an animation" in done.stderr
    done = pipe(b"", tmp_path / "x.gif", "-o", "-", code=2)
    assert "moving pictures are written to files" in done.stderr
    assert done.stdout == b""


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("-", "-o", "{tmp}"), "has no name"),
        (("-", "-o", "{tmp}/x.zarr"), "has no name"),
        (("{tmp}/in", "-o", "-"), "only one image"),
        (("{tmp}/x.zarr", "-o", "-"), "only one image"),
        (("-", "-r"), "--recursive"),
        (("-", "--suffix", "_x4"), "--suffix"),
        (("-", "-f", "gif"), "unknown format"),
        (("-", "--region", "0:4,0:4"), "--region"),
    ],
)
def test_bad_arguments(tmp_path, photos, pipe, arguments, reason) -> None:
    words = (argument.replace("{tmp}", str(tmp_path)) for argument in arguments)
    done = pipe((photos / "b.jpg").read_bytes(), *words, code=2)
    assert reason in done.stderr
    assert done.stdout == b""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_a_pipe_with_a_name_is_not_waited_for(tmp_path, photos, upscale, model) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    refused = upscale(tmp_path / "pipe.png", tmp_path / "out.png")
    assert refused.exit_code == 2
    assert f"esrgan upscale - < {tmp_path / 'pipe.png'} reads it" in refused.stderr
    # One among the images of a folder is a file that fails.
    os.mkfifo(photos / "pipe.png")
    result = upscale(photos, tmp_path / "out")
    assert result.exit_code == 1
    assert "pipe.png: is no regular file" in result.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.jpg"]


def test_ctrl_c_leaves_nothing(photos, pipe, tmp_path, monkeypatch) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("esrgan_ext.inference.upscaler.Upscaler.__call__", interrupted)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    done = pipe((photos / "b.jpg").read_bytes(), "-", code=130)
    assert done.stdout == b""
    assert done.stderr.splitlines()[-1] == "interrupted"
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


# Every command that reads a file, with a pipe in its place. Here "{pipe}" has the suffix that
# follows it.
READERS = [
    ("upscale", "{pipe}.png", "-o", "{out}.png"),
    ("upscale", "{pipe}.tif", "-o", "{out}.zarr"),
    ("upscale", "{pipe}.mp4", "-o", "{out}.mp4"),
    ("upscale", "{photo}", "-o", "{out}.png", "-m", "{pipe}.pth"),
    ("export", "{pipe}.safetensors", "{out}.pth"),
    ("interpolate", "{pipe}.pth", "{model}", "-a", "0.5", "-o", "{out}.pth"),
    ("interpolate", "{model}", "{model}", "--animate", "{out}.gif", "--image", "{pipe}.png"),
    ("compare", "{pipe}.png", "-m", "bicubic", "-o", "{out}.html"),
    ("compare", "{photo}", "-m", "bicubic", "--reference", "{pipe}.png", "-o", "{out}.html"),
    ("evaluate", "-m", "bicubic", "--hr", "{pipe}.png"),
    ("evaluate", "-m", "bicubic", "--hr", "{photo}", "--lr", "{pipe}.png"),
    ("evaluate", "-m", "bicubic", "--hr", "{photo}", "--perceptual", "{pipe}.pth"),
    ("train", "{pipe}.toml", "--hr", "{folder}", "-o", "{out}"),
    ("train", "lite-psnr", "--hr", "{folder}", "-o", "{out}", "--init", "{pipe}.pth"),
]


@pytest.mark.parametrize("words", READERS, ids=lambda words: " ".join(words).replace("/", ""))
@pytest.mark.timeout(60)
def test_no_command_waits_for_a_pipe_with_a_name(run, photos, models, tmp_path, words) -> None:
    places = {"{photo}": photos / "b.jpg", "{folder}": photos, "{model}": models / "a.safetensors",
              "{out}": tmp_path / "out", "{pipe}": tmp_path / "pipe"}  # fmt: skip
    arguments = list(words)
    for key, place in places.items():
        arguments = [word.replace(key, str(place)) for word in arguments]
    (pipe,) = (word for word in arguments if word.startswith(str(tmp_path / "pipe")))
    os.mkfifo(pipe)
    result = run(*arguments)
    assert result.exit_code in (1, 2)
    assert Path(pipe).name in result.output
    assert not any(path.name.startswith("out") and path.is_file() for path in tmp_path.iterdir())


def test_a_terminal_is_refused(photos, model) -> None:
    import pty

    leader, follower = pty.openpty()
    try:
        done = esrgan("-", *model, stdin=follower, input=None, code=2)
        assert b"standard input is a terminal" in done.stderr
        done = esrgan(
            photos / "b.jpg", "-o", "-", *model, code=2,
            capture_output=False, stdout=follower, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert b"standard output is a terminal" in done.stderr
    finally:
        os.close(leader)
        os.close(follower)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_an_output_that_breaks_off_is_an_error(photos, model) -> None:
    with open("/dev/full", "wb") as full:
        done = esrgan(
            photos / "a.png", "-o", "-", *model, code=1,
            capture_output=False, stdout=full, stderr=subprocess.PIPE,
        )  # fmt: skip
    assert b"standard output: cannot be written: No space left" in done.stderr

    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = esrgan(
            photos / "a.png", "-o", "-", *model, code=1,
            capture_output=False, stdout=writer, stderr=subprocess.PIPE,
        )  # fmt: skip
    finally:
        os.close(writer)
    assert b"standard output: cannot be written: Broken pipe" in done.stderr


def test_a_file_that_is_called_so(tmp_path, pipe) -> None:
    write_image(tmp_path / "x.png", np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "x.png").rename(tmp_path / "-")
    pipe(b"", tmp_path / "-", "-o", tmp_path / "out.png")
    assert read_image(tmp_path / "out.png").pixels.shape == (16, 16, 3)


def test_no_temporary_files_stay(photos, pipe, tmp_path, monkeypatch) -> None:
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    pipe((photos / "b.jpg").read_bytes(), "-")
    pipe(b"nothing", "-", code=1)
    assert list(place.iterdir()) == []
