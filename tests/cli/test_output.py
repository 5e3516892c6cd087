"""`-o` is where the result goes, and `--overwrite` replaces what is there, for every command."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from esrgan_ext.cli import app
from esrgan_ext.inference.files import read_image

PHOTO = Path(__file__).parents[1] / "data" / "astronaut_320.png"

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def test_o_is_the_output_everywhere() -> None:
    for command in COMMANDS.values():
        for parameter in command.params:
            if "-o" in parameter.opts:
                assert "--output" in parameter.opts
            if "--output" in parameter.opts:
                assert "-o" in parameter.opts


def test_overwrite_says_the_same_everywhere() -> None:
    said = {
        parameter.help
        for command in COMMANDS.values()
        for parameter in command.params
        if "--overwrite" in parameter.opts
    }
    assert said == {"Replace results that exist. Without it they are kept."}


def test_the_result_of_one_image_by_option(upscale, photos, tmp_path) -> None:
    assert upscale(photos / "b.jpg", "-o", tmp_path / "x.png").exit_code == 0
    assert read_image(tmp_path / "x.png").pixels.shape == (32, 36, 3)
    assert upscale(photos, "--output", tmp_path / "out").exit_code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.jpg"]


def test_two_places_for_one_result(upscale, photos, tmp_path) -> None:
    result = upscale(photos / "b.jpg", tmp_path / "x.png", "-o", tmp_path / "y.png")
    assert result.exit_code == 2
    assert "OUTPUT is given twice" in result.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"in"}


Arguments = Callable[[Path, Path, Path], tuple[object, ...]]

WRITERS: dict[str, tuple[str, Arguments]] = {
    "export": ("x.pth", lambda a, b, out: ("export", a, out)),
    "export -o": ("x.safetensors", lambda a, b, out: ("export", a, "-o", out)),
    "mix": ("x.safetensors", lambda a, b, out: ("interpolate", a, b, "-a", "0.5", "-o", out)),
    "animation": (
        "x.gif",
        lambda a, b, out: ("interpolate", a, b, "--animate", out, "--image",
                           out.parent / "in" / "b.jpg", "--steps", "2", "--device", "cpu"),
    ),
    "compare": (
        "x.html",
        lambda a, b, out: ("compare", out.parent / "in" / "b.jpg", "-m", a, "-o", out, "-d", "cpu"),
    ),
    "plot": (
        "x.svg",
        lambda a, b, out: ("evaluate", "-m", "bicubic", "--hr", PHOTO, "--perceptual", "none",
                           "--plot", out),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_that_is_there_is_kept_without_overwrite(
    run, models, photos, tmp_path, kind: str
) -> None:
    name, arguments = WRITERS[kind]
    if kind == "plot":
        pytest.importorskip("matplotlib")
    target = tmp_path / name
    target.write_text("mine")
    words = arguments(models / "a.safetensors", models / "b.safetensors", target)
    refused = run(*words)
    assert refused.exit_code == 2
    assert f"{target} exists" in refused.stderr
    assert "--overwrite" in refused.stderr
    assert target.read_text() == "mine"

    done = run(*words, "--overwrite")
    assert done.exit_code == 0, done.output
    assert target.read_bytes() != b"mine"


def test_every_command_that_writes_a_file_is_tried_here() -> None:
    """A new one must say what becomes of a file that is there."""
    tried = {words(Path(), Path(), Path())[0] for _, words in WRITERS.values()}
    having = {
        name
        for name, command in COMMANDS.items()
        if "overwrite" in inspect.signature(inspect.unwrap(command.callback)).parameters
    }
    # upscale skips what is there: see test_upscale. train continues: see test_train.
    assert having == tried | {"upscale"}
    writing = {
        name
        for name, command in COMMANDS.items()
        if any("--output" in parameter.opts for parameter in command.params)
    }
    assert writing - {"train"} <= having
