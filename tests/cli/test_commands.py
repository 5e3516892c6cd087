"""The other commands, and what holds for the whole command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

import esrgan_ext
from esrgan_ext.inference.files import write_image
from esrgan_ext.weights import list_models
from tests.conftest import ROOT


def test_help_and_version_load_nothing_heavy() -> None:
    code = (
        "import sys, esrgan_ext.cli as c\n"
        "try: c.app(sys.argv[1:])\n"
        "except SystemExit as e: assert not e.code, e.code\n"
        "heavy = {'torch', 'cv2', 'numpy', 'tifffile', 'PIL', 'napari'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    for arguments, expected in (
        (["--help"], "interpolate"),
        (["upscale", "--help"], "--overlap"),
        (["--version"], esrgan_ext.__version__),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert expected in done.stdout


def test_no_command_shows_the_help(run) -> None:
    assert "upscale" in run().output


def test_models_lists_every_model(run) -> None:
    table = run("models")
    assert table.exit_code == 0
    rows = json.loads(run("models", "--json").stdout)
    assert [row["name"] for row in rows] == [model.name for model in list_models()]
    for row in rows:
        assert row["name"] in table.stdout
        assert {"scale", "blocks", "purpose", "license", "source", "sha256"} <= row.keys()


def test_info_names_versions_devices_and_memory(run) -> None:
    found = run("info")
    assert found.exit_code == 0
    for expected in (esrgan_ext.__version__, "torch", "opencv", "GiB free", "cpu", "fp32"):
        assert expected in found.stdout


def test_info_checks_the_kernels_when_asked(run, monkeypatch) -> None:
    from esrgan_ext.ops.build import library, selfcheck

    found = run("info", "--check")
    assert found.exit_code == 0
    compiled = library.load() is not None
    assert ("cpu fp32" in found.stdout) == compiled
    assert ("agrees with float64" if compiled else "no compiled kernels") in found.stdout

    wrong = selfcheck.Check("cpu", "fp32", False, 0.5, "a network differs by 5.0e-01")
    monkeypatch.setattr(selfcheck, "check_all", lambda device: [wrong])
    found = run("info", "--check")
    assert found.exit_code == 1
    assert "FAILS: a network differs" in found.stdout


def test_info_names_the_kernels_of_each_gpu(run, monkeypatch) -> None:
    from types import SimpleNamespace

    import torch

    from esrgan_ext import ops
    from esrgan_ext.inference import devices

    module = SimpleNamespace(
        build_info=lambda: {"architectures": "80,90a"},
        paths=lambda index, compute: ["mma", "wgmma"] if compute == "float16" else ["mma"],
    )
    monkeypatch.setattr(ops.library, "load_cuda", lambda: module)
    monkeypatch.setattr(ops.library, "cuda_origin", lambda: "JIT")
    times = {"float16": {"64x64": {"mma": 400.0, "wgmma": 300.0}}}
    monkeypatch.setattr(ops.selfcheck, "timings", lambda device: times)
    monkeypatch.setattr(ops.cuda, "available", lambda device, dtype: device.index == 0)
    monkeypatch.setattr("esrgan_ext.cli.info._devices", lambda: [("cuda:0", "NVIDIA H100")])
    gpus = [torch.device("cuda", 0), torch.device("cuda", 1)]
    monkeypatch.setattr(devices, "available_devices", lambda: gpus)
    lines = [" ".join(line.split()) for line in run("info").stdout.splitlines()]
    assert "CUDA architectures 80,90a" in lines
    kernels = "float16 mma or wgmma, bfloat16 mma, tf32 mma, float32 mma"
    assert f"RRDBNet on cuda:0 cuda: {kernels}" in lines
    assert "float16 64x64 wgmma (mma 400 us, wgmma 300 us)" in lines
    assert "RRDBNet on cuda:1 reference" in lines


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_export(run, models, tmp_path, suffix) -> None:
    target = tmp_path / f"out{suffix}"
    result = run("export", models / "a.safetensors", target)
    assert result.exit_code == 0
    assert str(target) in result.stdout
    assert target.stat().st_size > 1000


def test_export_to_an_unknown_suffix(run, models, tmp_path) -> None:
    result = run("export", models / "a.safetensors", tmp_path / "out.xyz")
    assert result.exit_code == 2
    assert "out.xyz" in result.stderr


class TestInterpolate:
    def tensors(self, path) -> dict[str, np.ndarray]:
        return load_file(path)

    def test_alpha(self, run, models, tmp_path) -> None:
        a, b, out = (models / "a.safetensors", models / "b.safetensors", tmp_path / "m.safetensors")
        assert run("interpolate", a, b, "--alpha", "0.8", "-o", out).exit_code == 0
        first, second, mixed = (self.tensors(path) for path in (a, b, out))
        assert mixed.keys() == first.keys()
        for name, tensor in mixed.items():
            np.testing.assert_allclose(tensor, 0.2 * first[name] + 0.8 * second[name], atol=1e-6)

    def test_weights_of_several(self, run, models, tmp_path) -> None:
        a, b, out = (models / "a.safetensors", models / "b.safetensors", tmp_path / "m.safetensors")
        assert run("interpolate", a, b, a, "--weights", "0.2,0.5,0.3", "-o", out).exit_code == 0
        first, second, mixed = (self.tensors(path) for path in (a, b, out))
        for name, tensor in mixed.items():
            np.testing.assert_allclose(tensor, 0.5 * first[name] + 0.5 * second[name], atol=1e-6)

    def test_extrapolation_must_be_asked_for(self, run, models, tmp_path) -> None:
        arguments = ("interpolate", models / "a.safetensors", models / "b.safetensors",
                     "--alpha", "1.5", "-o", tmp_path / "m.safetensors")  # fmt: skip
        refused = run(*arguments)
        assert refused.exit_code == 2
        assert "--extrapolate" in refused.stderr
        assert run(*arguments, "--extrapolate").exit_code == 0

    @pytest.mark.parametrize(
        ("suffix", "format"), [(".gif", "GIF"), (".webp", "WEBP"), (".png", "PNG")]
    )
    def test_animation(self, run, models, tmp_path, suffix, format) -> None:
        write_image(tmp_path / "x.png", np.tile(np.arange(48, dtype=np.uint8)[:, None], (1, 64)))
        target = tmp_path / f"sweep{suffix}"
        result = run(
            "interpolate", models / "a.safetensors", models / "b.safetensors", "--animate", target,
            "--image", tmp_path / "x.png", "--steps", "4", "--device", "cpu",
        )  # fmt: skip
        assert result.exit_code == 0
        assert "4 frames" in result.stdout
        with Image.open(target) as image:
            assert image.format == format
            assert image.n_frames == 4
            assert image.size == (256, 192)
            image.seek(1)
            image.load()
            assert image.info["duration"] == 150

    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            (("{a}", "{b}"), "--output"),
            (("{a}", "-o", "{out}"), "at least two"),
            (("{a}", "{b}", "-o", "{out}"), "--alpha"),
            (("{a}", "{b}", "--alpha", "nan", "-o", "{out}"), "finite"),
            (("{a}", "{b}", "--alpha", "x", "-o", "{out}"), "alpha"),
            (("{a}", "{b}", "{a}", "--alpha", "0.5", "-o", "{out}"), "--weights"),
            (("{a}", "{b}", "--weights", "0.5", "-o", "{out}"), "as many weights"),
            (("{a}", "{b}", "--weights", "0.5,0.6", "-o", "{out}"), "sum to 1"),
            (("{a}", "{b}", "--weights", "a,b", "-o", "{out}"), "numbers"),
            (("{a}", "{other}", "--alpha", "0.5", "-o", "{out}"), "conv_first"),
            (("{a}", "{b}", "--animate", "{out}.gif"), "--image"),
            (("{a}", "{b}", "--animate", "{out}.avi", "--image", "x.png"), "suffix"),
            (("{a}", "{b}", "--animate", "{out}.gif", "--image", "x.png", "--steps", "1"), "steps"),
            (("{a}", "{b}", "--animate", "{out}.gif", "--alpha", "1"), "no --alpha"),
        ],
    )
    def test_bad_arguments(self, run, models, tmp_path, arguments, reason) -> None:
        places = {
            "a": models / "a.safetensors",
            "b": models / "b.safetensors",
            "other": models / "other.safetensors",
            "out": tmp_path / "m.safetensors",
        }
        result = run("interpolate", *(argument.format(**places) for argument in arguments))
        assert result.exit_code == 2
        assert reason in result.stderr
        assert list(tmp_path.iterdir()) == []

    def test_a_missing_image(self, run, models, tmp_path) -> None:
        result = run(
            "interpolate", models / "a.safetensors", models / "b.safetensors",
            "--animate", tmp_path / "s.gif", "--image", tmp_path / "none.png",
        )  # fmt: skip
        assert result.exit_code == 1
        assert "none.png" in result.stderr
