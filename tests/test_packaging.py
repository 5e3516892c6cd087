"""What setup.py builds and what travels in the packages."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
import torch

from tests.conftest import ROOT
from tests.ops.fake_cuda import make_nvcc, pretend_devices

PARTS = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "csrc", "esrgan_ext")


def sources(csrc: Path) -> set[str]:
    return {str(p.relative_to(csrc)) for p in csrc.rglob("*") if p.is_file()}


def test_every_source_is_in_the_wheel_and_in_the_source_distribution(tmp_path):
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, tmp_path / part)
    command = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", "built", "sdist"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=280, env=os.environ)
    expected = sources(ROOT / "csrc")
    assert {
        "torch/cuda_ops.cpp",
        "cuda/network.h",
        "cuda/network.cu",
        "cuda/mainloop.cuh",
    } < expected
    assert sources(tmp_path / "built" / "esrgan_ext" / "csrc") == expected
    (archive,) = (tmp_path / "dist").glob("*.tar.gz")
    with tarfile.open(archive) as file:
        names = {name.split("/csrc/", 1)[1] for name in file.getnames() if "/csrc/" in name}
    assert expected <= names


@pytest.fixture
def setup_py(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """setup.py as a module, on a machine with a toolkit of CUDA 13 for torch's 13.0."""
    make_nvcc(tmp_path)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.delenv("TORCH_CUDA_ARCH_LIST", raising=False)
    monkeypatch.chdir(ROOT)
    spec = importlib.util.spec_from_file_location("setup_py", ROOT / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def architectures(module: ModuleType) -> tuple[str, ...]:
    """What the CUDA operators are built for; none where they are not built."""
    target = module.cuda_target(module.toolchain())
    names = [extension.name for extension in module.extensions()["ext_modules"]]
    assert ("esrgan_ext._C_cuda" in names) == (target is not None)
    return () if target is None else target[1]


def test_cuda_is_built_ahead_of_time_for_the_list_given(setup_py, monkeypatch):
    pretend_devices(monkeypatch)
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.0;9.0+PTX")
    assert architectures(setup_py) == ("80", "90+PTX", "90a")


def test_else_for_the_devices_present(setup_py, monkeypatch):
    pretend_devices(monkeypatch, (8, 9), (7, 5))
    assert architectures(setup_py) == ("89",)


def test_without_devices_or_list_or_cuda_only_the_cpu_part_is_built(setup_py, monkeypatch):
    assert architectures(setup_py) == () or torch.version.cuda
    pretend_devices(monkeypatch)
    assert architectures(setup_py) == ()


@pytest.mark.parametrize("wanted", ["sm_80", "7.5"])
def test_a_list_that_makes_no_sense_is_reported_and_the_cpu_part_built(
    setup_py, monkeypatch, capsys, wanted
):
    pretend_devices(monkeypatch)
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", wanted)
    assert architectures(setup_py) == ()
    assert "TORCH_CUDA_ARCH_LIST" in capsys.readouterr().err


def test_one_wheel_with_the_cpu_kernels_serves_every_python_without_torch(tmp_path):
    """With a compiler that only leaves files, and an interpreter that finds no torch."""
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, tmp_path / part)
    compiler = tmp_path / "compiler"
    compiler.write_text('#!/bin/sh\nfor last; do :; done\necho "kernels" > "$last"\n')
    compiler.chmod(0o755)
    program = (
        "import importlib.util as u, runpy, sys\nfind = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'torch' else find(name, *a)\n"
        "sys.argv = ['setup.py', '-q', 'bdist_wheel']\n"
        "runpy.run_path('setup.py', run_name='__main__')\n"
        "assert 'torch' not in sys.modules\n"
    )
    environment = {**os.environ, "CXX": str(compiler), "ESRGAN_REQUIRE_CPU_LIBRARY": "1"}
    subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=280, env=environment
    )
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    assert "-py3-none-" in wheel.name
    assert "any" not in wheel.name, "it is made for one kind of processor"
    with zipfile.ZipFile(wheel) as file:
        assert file.read("esrgan_ext/esrgan_cpu.so") == b"kernels\n"
