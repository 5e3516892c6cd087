"""`esrgan evaluate`: tables, JSON, messages and exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from esrgan_ext.evaluation.benchmark import evaluate
from esrgan_ext.inference.files import write_image


@pytest.fixture
def folder(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        write_image(tmp_path / "hr" / name, rng.integers(0, 256, (40, 40, 3), np.uint8))
    return tmp_path / "hr"


@pytest.fixture
def call(run, monkeypatch, tmp_path):
    """`esrgan evaluate` on the CPU, without weights of a perceptual distance."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ESRGAN_MODEL_DIR", raising=False)
    monkeypatch.setenv("ESRGAN_CACHE_DIR", str(tmp_path))

    def call(*arguments):
        return run("evaluate", *arguments, "--device", "cpu")

    return call


def test_a_table_with_the_mean(call, folder):
    result = call("--model", "bicubic", "--hr", folder)
    assert result.exit_code == 0
    expected = evaluate("bicubic", folder, perceptual=None, device="cpu")
    rows = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines() if line}
    assert rows["image"] == ["PSNR-Y", "SSIM-Y", "PSNR-RGB", "SSIM-RGB"]
    for result_of_image in expected.results:
        scores = result_of_image.scores
        assert rows[result_of_image.image] == [
            f"{scores.psnr_y:.2f}", f"{scores.ssim_y:.4f}",
            f"{scores.psnr_rgb:.2f}", f"{scores.ssim_rgb:.4f}",
        ]  # fmt: skip
    assert rows["mean"][0] == f"{expected.mean('bicubic').psnr_y:.2f}"
    assert "4 pixels cut from each side; no perceptual distance" in result.stdout


def test_models_side_by_side(call, folder, models):
    paths = (models / "a.safetensors", models / "b.safetensors")
    arguments = [part for path in paths for part in ("--model", path)]
    result = call(*arguments, "-m", "bicubic", "--hr", folder)
    assert result.exit_code == 0
    lines = [line.split()[:2] for line in result.stdout.splitlines() if line]
    found = [line for line in lines if line[0] in ("a.png", "b.png", "mean")]
    names = ["a", "b", "bicubic"]
    assert found == [[i, m] for i in ("a.png", "b.png", "mean") for m in names]


def test_json_alone_on_stdout(call, folder):
    (folder / "damaged.png").write_bytes(b"x")
    result = call("--model", "bicubic", "--hr", folder, "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    expected = evaluate("bicubic", folder, perceptual=None, device="cpu").as_dict()
    for row in (*found["images"], *expected["images"]):
        row.pop("seconds")
    assert found == expected


def test_lr_files_are_used(call, folder, tmp_path):
    for name in ("a.png", "b.png"):
        write_image(tmp_path / "lr" / name, np.zeros((10, 10, 3), np.uint8))
    made = call("--model", "bicubic", "--hr", folder).stdout
    given = call("--model", "bicubic", "--hr", folder, "--lr", tmp_path / "lr").stdout
    assert made != given


def test_failures_are_listed_and_the_others_done(call, folder, tmp_path):
    write_image(tmp_path / "lr" / "a.png", np.zeros((10, 10, 3), np.uint8))
    write_image(tmp_path / "lr" / "b.png", np.zeros((10, 11, 3), np.uint8))
    write_image(tmp_path / "lr" / "c.png", np.zeros((10, 10, 3), np.uint8))
    result = call("--model", "bicubic", "--hr", folder, "--lr", tmp_path / "lr")
    assert result.exit_code == 1
    assert re.search(r"^a\.png +\d", result.stdout, re.MULTILINE)
    assert re.search(r"^mean +\d", result.stdout, re.MULTILINE)
    assert "2 failed:" in result.stderr
    assert "b.png: b.png has 11 x 10 pixels; at x4 this image needs 10 x 10" in result.stderr
    assert "c.png: no HR image of this name" in result.stderr


def test_nothing_but_failures(call, tmp_path):
    (tmp_path / "hr").mkdir()
    (tmp_path / "hr" / "a.png").write_bytes(b"x")
    result = call("--model", "bicubic", "--hr", tmp_path / "hr")
    assert result.exit_code == 1
    assert "mean" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "bicubic", "--hr", "absent"), "no such file or folder"),
        (("--model", "nonsense", "--hr", "hr"), "no model is called"),
        (("--model", "bicubic", "--hr", "hr", "--scale", "0"), "--scale must be at least 1"),
        (("--model", "bicubic", "--hr", "hr", "--border", "-1"), "--border must be at least 0"),
        (("--model", "bicubic", "--hr", "hr", "--perceptual", "st-lpips"), "pip download"),
        (("--model", "bicubic", "--hr", "hr", "--perceptual", "absent.pth"), "no such file"),
        (("--hr", "hr"), "--model"),
    ],
)
def test_bad_arguments_end_with_2(call, folder, arguments, message):
    result = call(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr.replace("\n", " ")


def test_the_perceptual_distance_has_a_column(call, folder, published_wheel):
    from esrgan_ext.evaluation.perceptual import ST_LPIPS_WHEEL

    wheel = published_wheel(ST_LPIPS_WHEEL)
    result = call("--model", "bicubic", "--hr", folder, "--perceptual", wheel)
    assert result.exit_code == 0
    header, *rows = (line.split() for line in result.stdout.splitlines() if line)
    assert header[-1] == "ST-LPIPS"
    assert all(0 < float(row[-1]) < 2 for row in rows if row[0] in ("a.png", "b.png", "mean"))
