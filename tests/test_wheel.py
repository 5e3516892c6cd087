"""The wheel of scripts/build_wheel, installed where there is no compiler."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.timeout(900)

OLDEST_GLIBC = (2, 34)
"""Of the systems that the wheel serves: Ubuntu 22.04, Debian 12, RHEL 9."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which(os.environ.get("CXX", "c++").split()[0]) is None:
        pytest.skip("no C++ compiler")
    folder = tmp_path_factory.mktemp("a wheel's folder")
    built = subprocess.run(
        [ROOT / "scripts" / "build_wheel", folder], capture_output=True, text=True
    )
    if re.search(r"No matching distribution|Could not find a version", built.stderr):
        pytest.skip("no wheels: auditwheel or setuptools cannot be had")
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def esrgan(
    wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command line of the installed wheel; nothing is on its PATH."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder / "venv")
    python = folder / "venv" / "bin" / "python"
    (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    # What the package depends on comes from this environment, the package itself from the wheel.
    others = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (packages / "dependencies.pth").write_text("\n".join(others))
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q"]
    subprocess.run(
        [*install, "--no-deps", "--no-index", "--ignore-installed", str(wheel)], check=True
    )
    (folder / "empty").mkdir()
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("ESRGAN_") and name not in ("CXX", "CC", "PYTHONPATH")
    }
    environment |= {
        "PATH": str(folder / "empty"),
        "HOME": str(folder),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(python), "-m", "esrgan_ext.cli", *arguments],
            cwd=folder,
            env={**environment, **more},
            capture_output=True,
            text=True,
            check=True,
        )

    return run


def best_isa() -> str:
    """By what Linux says of this machine's processor."""
    flags = set(Path("/proc/cpuinfo").read_text().split())
    if {"avx512f", "avx512dq", "avx512bw", "avx512vl"} <= flags:
        return "avx512"
    return "avx2" if {"avx2", "fma"} <= flags else "baseline"


def test_it_serves_every_python_and_systems_of_the_last_years(wheel: Path) -> None:
    found = re.search(r"-py3-none-manylinux_(\d+)_(\d+)_", wheel.name)
    assert found, wheel.name
    # The libstdc++ that is linked in asks for the glibc that it was built with, so a wheel for
    # older systems is made on one: Debian 12 at the latest.
    here = tuple(map(int, platform.libc_ver()[1].split(".")))
    assert (int(found[1]), int(found[2])) <= (OLDEST_GLIBC if here <= (2, 36) else here)


def test_the_kernels_for_this_processor_run_without_a_compiler(esrgan) -> None:
    lines = [line.split() for line in esrgan("info").stdout.splitlines()]
    assert ["RRDBNet", "on", "the", "CPU", f"cpu-{best_isa()}"] in lines
    assert ["extension", "prebuilt"] in lines


def test_every_older_kind_of_processor_is_served_too(esrgan) -> None:
    kinds = ["avx512", "avx2", "baseline"]
    for isa in kinds[kinds.index(best_isa()) + 1 :]:
        assert f"cpu-{isa}" in esrgan("info", ESRGAN_CPU_ISA=isa).stdout


def test_an_image_comes_out_as_plain_pytorch_has_it(esrgan, tmp_path: Path) -> None:
    image = cv2.imread(str(ROOT / "LR" / "astronaut.jpg"))[:40, :56]
    cv2.imwrite(str(tmp_path / "in.png"), image)
    run = esrgan("upscale", str(tmp_path / "in.png"), str(tmp_path / "out.png"))
    assert "PyTorch" not in run.stdout + run.stderr
    esrgan("upscale", str(tmp_path / "in.png"), str(tmp_path / "plain.png"), ESRGAN_EXT="off")
    got, expected = (
        cv2.imread(str(tmp_path / name)).astype(int) for name in ("out.png", "plain.png")
    )
    assert got.shape == (160, 224, 3)
    assert np.abs(got - expected).max() <= 1
    assert np.abs(got - expected).mean() < 0.01
