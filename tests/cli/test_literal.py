"""Names of files and models are neither markup nor commands to the terminal."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esrgan_ext.cli import display
from esrgan_ext.inference.files import write_image
from esrgan_ext.inference.folder import FileJob
from esrgan_ext.literal import literal

HOSTILE = "\x1b]0;owned\x07\x1b[2J[bold red]x[-1] \u202egnp"


def commands(text: str) -> list[str]:
    return [c for c in text if not c.isprintable() and c not in "\n\t"]


@given(st.text())
def test_nothing_that_commands_is_left_and_nothing_else_is_changed(text):
    shown = literal(text)
    assert not commands(shown)
    if not commands(text):
        assert shown == text


@pytest.fixture
def hostile_files(tmp_path: Path, image_pixels) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    write_image(folder / f"{HOSTILE}.png", image_pixels)
    (folder / f"{HOSTILE} broken.png").write_bytes(b"no image")
    return folder


@pytest.fixture
def image_pixels():
    import numpy as np

    return np.random.default_rng(0).integers(0, 255, (8, 9, 3), np.uint8)


def test_a_folder_with_hostile_names(upscale, hostile_files, tmp_path):
    for _ in ("done", "skipped"):
        result = upscale(hostile_files, tmp_path / "out")
        assert not commands(result.output)
        assert "\\x1b]0;owned\\x07" in result.output
        assert "[bold red]x[-1]" in result.output
    assert (tmp_path / "out" / f"{HOSTILE}.png").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("upscale", "{x}.png", "out"),
        ("upscale", "in.png", "--model", "{x}"),
        ("export", "{x}.pth", "out.onnx"),
        ("interpolate", "{x}", "b", "-o", "out.safetensors"),
        ("evaluate", "-m", "{x}", "--hr", "{x}"),
    ],
)
def test_errors_that_name_what_they_were_given(run, arguments):
    result = run(*(part.replace("{x}", HOSTILE) for part in arguments))
    assert result.exit_code != 0
    assert not commands(result.output)


def test_bars_show_names_as_they_are(tmp_path):
    from types import SimpleNamespace

    stream = io.StringIO()
    out = display.LiteralConsole(file=stream, force_terminal=True, width=200)
    source = tmp_path / f"{HOSTILE}.png"
    job = FileJob(source, source)
    outcome = SimpleNamespace(job=job, state="failed", reason=HOSTILE, size=None, seconds=0)
    with display.shown(out) as bars:
        bars.started(job, 1, 2)
        bars.progress(job, 1, 2)
        bars.finished(outcome)
    text = stream.getvalue()
    assert "\x1b]0;" not in text
    assert "\x07" not in text
    assert "\u202e" not in text
    assert text.count("[bold red]x[-1]") >= 2
