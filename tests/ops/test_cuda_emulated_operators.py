"""The torch side of the CUDA operators and all of inference above it, on emulated kernels."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CSRC, TESTS = ROOT / "csrc", ROOT / "tests" / "csrc"
COMPILER = os.environ.get("CXX", "c++").split()

pytestmark = pytest.mark.skipif(
    shutil.which(COMPILER[0]) is None or platform.system() != "Linux",
    reason="needs a C++ compiler on Linux",
)


def build(folder: Path) -> Path:
    import pybind11
    from torch.utils import cpp_extension

    kernels = [f"-I{CSRC / 'cuda'}", f"-I{TESTS}", "-include", str(TESTS / "cuda_emulator.h")]
    torch_side = [f"-I{TESTS / 'emulated'}", f"-I{CSRC}"]
    for include in (
        *cpp_extension.include_paths(),
        pybind11.get_include(),
        sysconfig.get_paths()["include"],
    ):
        torch_side += ["-isystem", include]
    torch_side += ["-DTORCH_EXTENSION_NAME=esrgan_emulated", "-DESRGAN_CUDA_ARCHITECTURES=emulated"]

    def compile_one(source: Path) -> Path:
        target = folder / f"{source.stem}.o"
        more = ["-std=c++17"] if source.suffix == ".cu" else ["-std=c++20", *torch_side]
        command = [*COMPILER, "-O1", "-ftree-vectorize", "-fPIC", "-w", *more, *kernels]
        if source.name == "emulated_ops.cpp":
            command.append("-DESRGAN_EMULATOR_MAIN")
        command += ["-x", "c++", "-c", str(source), "-o", str(target)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=600)
        assert result.returncode == 0, result.stderr
        return target

    sources = [*sorted((CSRC / "cuda").glob("*.cu")), CSRC / "torch" / "cuda_bindings.cpp"]
    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compile_one, [TESTS / "emulated_ops.cpp", *sources]))
    library = folder / "esrgan_emulated.so"
    folders = [f"-L{path}" for path in cpp_extension.library_paths()]
    libraries = ["-lc10", "-ltorch_cpu", "-ltorch", "-ltorch_python"]
    command = [*COMPILER, "-shared", "-o", str(library), *map(str, objects), *folders, *libraries]
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
