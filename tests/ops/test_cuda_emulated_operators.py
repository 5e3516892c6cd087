"""The torch side of the CUDA operators and all of inference above it, on emulated kernels."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.compiled import COMPILER, has_compiler, objects
from tests.conftest import ROOT
from tests.ops.test_cuda_emulated import FAST, INCLUDES, INPUTS, kernels

CSRC, TESTS = ROOT / "csrc", ROOT / "tests" / "csrc"

pytestmark = pytest.mark.skipif(
    not has_compiler() or platform.system() != "Linux", reason="needs a C++ compiler on Linux"
)


def build(folder: Path) -> Path:
    import pybind11
    from torch.utils import cpp_extension

    flags = ["-std=c++20", "-O1", "-fPIC", "-w", *INCLUDES, f"-I{TESTS / 'emulated'}", f"-I{CSRC}"]
    for include in (
        *cpp_extension.include_paths(),
        pybind11.get_include(),
        sysconfig.get_paths()["include"],
    ):
        flags += ["-isystem", include]
    flags += ["-DTORCH_EXTENSION_NAME=esrgan_emulated", "-DESRGAN_CUDA_ARCHITECTURES=emulated"]
    inputs = [p for p in (*INPUTS, *TESTS.rglob("*.h"), *(CSRC / "torch").iterdir()) if p.is_file()]
    made = [
        *objects([TESTS / "emulated_ops.cpp"], [*flags, "-DESRGAN_EMULATOR_MAIN"], inputs),
        *objects([CSRC / "torch" / "cuda_bindings.cpp"], flags, inputs),
        *kernels(FAST),
    ]
    library = folder / "esrgan_emulated.so"
    folders = [f"-L{path}" for path in cpp_extension.library_paths()]
    libraries = ["-lc10", "-ltorch_cpu", "-ltorch", "-ltorch_python"]
    command = [*COMPILER, "-shared", "-o", str(library), *map(str, made), *folders, *libraries]
    subprocess.run(command, check=True, timeout=120)
    return library


@pytest.mark.timeout(900)
def test_images_come_out_of_the_emulated_kernels_as_the_definition_has_them(tmp_path):
    library = build(tmp_path)
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.ops.emulated_networks", str(library)],
        capture_output=True,
        text=True,
        timeout=600,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "all right" in run.stdout
