"""Quality against time, drawn."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from esrgan_ext.cli import app
from esrgan_ext.errors import OptionError
from esrgan_ext.evaluation.plot import plot, points
from esrgan_ext.evaluation.results import Evaluation, ImageResult, Scores
from esrgan_ext.inference.files import write_image

QUALITY = {"slow $x$ <model>": 28.0, "fast": 27.9, "bicubic": 25.0}
SECONDS = {"slow $x$ <model>": (90.0, 4.0, 5.0), "fast": (9.0, 0.4, 0.5), "bicubic": (0.1,) * 3}


def evaluation(**changes: object) -> Evaluation:
    results = tuple(
        ImageResult(f"{k}.png", model, Scores(quality + k, 0.8, quality, 0.8), SECONDS[model][k])
        for model, quality in QUALITY.items()
        for k in range(3)
    )
    return Evaluation(tuple(QUALITY), 4, 4, None, changes.get("results", results), ())  # type: ignore[arg-type]


def test_a_point_is_the_median_time_and_the_mean_quality() -> None:
    assert points(evaluation()) == [
        ("slow $x$ <model>", 5.0, 29.0), ("fast", 0.5, pytest.approx(28.9)), ("bicubic", 0.1, 26.0),
    ]  # fmt: skip


def test_names_and_axes_are_in_the_picture_and_names_do_not_cover_one_another(
    tmp_path: Path,
) -> None:
    pytest.importorskip("matplotlib")
    text = plot(evaluation(), tmp_path / "a.svg").read_text()
    shown = ["".join(node.itertext()) for node in ElementTree.fromstring(text).iter() if
             node.tag.endswith("}text")]  # fmt: skip
    assert {*QUALITY, "x4, 3 images", "PSNR-Y, dB (better is up)"} <= set(shown)
    assert plot(evaluation(), tmp_path / "b.svg").read_text() == text


@pytest.mark.parametrize("suffix", [".png", ".pdf"])
def test_other_formats_are_written(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib")
    path = plot(evaluation(), tmp_path / f"a{suffix}")
    if suffix == ".png":
        assert cv2.imread(str(path)).std() > 5
    else:
        assert path.read_bytes().startswith(b"%PDF")


def test_what_cannot_be_drawn_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OptionError, match="suffix must be one of"):
        plot(evaluation(), tmp_path / "a.txt")
    with pytest.raises(OptionError, match="there is no folder"):
        plot(evaluation(), tmp_path / "no" / "a.png")
    with pytest.raises(OptionError, match="no results"):
        plot(evaluation(results=()), tmp_path / "a.png")
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "matplotlib" else real(name)
    )
    write_image(tmp_path / "hr.png", np.zeros((32, 32), np.uint8))
    arguments = ["evaluate", "-m", "bicubic", "--hr", str(tmp_path / "hr.png")]
    done = CliRunner().invoke(app, [*arguments, "--plot", str(tmp_path / "a.png")])
    assert done.exit_code == 2
    assert "pip install 'esrgan-ext[plot]'" in done.output


def test_the_command_draws(tmp_path: Path, photo: np.ndarray) -> None:
    pytest.importorskip("matplotlib")
    write_image(tmp_path / "hr.png", photo)
    arguments = ["evaluate", "-m", "bicubic", "-m", "lite-psnr-x4", "--perceptual", "none"]
    arguments += ["--hr", str(tmp_path / "hr.png"), "--plot", str(tmp_path / "a.svg")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "lite-psnr-x4" in (tmp_path / "a.svg").read_text()
