"""A small model in a file, images to upscale, and ways to call the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from esrgan_ext.cli import app
from esrgan_ext.inference.files import write_image
from esrgan_ext.weights import save_model
from tests.conftest import ROOT, make_network

Run = Callable[..., Result]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two models of one architecture, and one of another."""
    folder = tmp_path_factory.mktemp("models")
    save_model(make_network(1), folder / "a.safetensors")
    save_model(make_network(2), folder / "b.safetensors")
    save_model(make_network(3, nf=12), folder / "other.safetensors")
    return folder


@pytest.fixture
def run() -> Run:
    """Call the command line in this process."""

    def call(*arguments: object) -> Result:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


@pytest.fixture
def upscale(run: Run, models: Path) -> Run:
    """`esrgan upscale` with the small model on the CPU."""

    def call(*arguments: object) -> Result:
        model = () if "--model" in arguments else ("--model", models / "a.safetensors")
        device = () if "--device" in arguments else ("--device", "cpu")
        return run("upscale", *arguments, *model, *device)

    return call


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of three small images of different kinds."""
    folder = tmp_path / "in"
    rng = np.random.default_rng(0)
    write_image(folder / "a.png", rng.integers(0, 256, (8, 9, 4), dtype=np.uint8))
    write_image(folder / "b.jpg", rng.integers(0, 256, (8, 9, 3), dtype=np.uint8))
    write_image(folder / "below" / "c.tif", rng.integers(0, 65536, (8, 9), dtype=np.uint16))
    return folder


def process(*arguments: object, **options: object) -> subprocess.Popen[str]:
    """The command line in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "esrgan_ext.cli", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **options,
    )  # type: ignore[call-overload, no-any-return]  # fmt: skip
