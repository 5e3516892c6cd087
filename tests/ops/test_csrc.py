"""Builds and runs the C++ tests of csrc/cpu under AddressSanitizer and UBSan."""

from __future__ import annotations

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CPU = ROOT / "csrc" / "cpu"
COMPILER = os.environ.get("CXX", "c++")

LIMIT = 900
"""Seconds for one file's compilation or one run: half a minute, on cores that others use."""

pytestmark = pytest.mark.timeout(2 * LIMIT)

FLAGS = ["-std=c++17", "-O1", "-g1", "-Wall", "-Wextra", "-Werror", "-pthread", f"-I{CPU}"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
COMMAND = [*COMPILER.split(), *FLAGS, *SANITIZERS]


def compile_one(source: Path, folder: Path) -> Path:
    target = folder / f"{source.stem}.o"
    command = [*COMMAND, "-c", str(source), "-o", str(target)]
    subprocess.run(command, check=True, timeout=LIMIT)
    return target


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The objects of csrc/cpu, which all programs are linked with."""
    if shutil.which(COMPILER.split()[0]) is None:
        pytest.skip("no C++ compiler")
    folder = tmp_path_factory.mktemp("kernels")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda source: compile_one(source, folder), CPU.glob("*.cpp")))


@pytest.fixture(scope="module", params=["test_network", "test_compact"])
def program(
    request: pytest.FixtureRequest, kernels: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("csrc")
    test = compile_one(ROOT / "tests" / "csrc" / f"{request.param}.cpp", folder)
    path = folder / request.param
    command = [*COMMAND, *map(str, [test, *kernels]), "-o", str(path)]
    subprocess.run(command, check=True, timeout=LIMIT)
    return path


@pytest.mark.parametrize("isa", ["avx512", "avx2", "baseline"])
def test_every_shape_is_right_and_clean(program: Path, isa: str) -> None:
    result = subprocess.run(
        [str(program)],
        env={**os.environ, "ESRGAN_CPU_ISA": isa},
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_compiles_as_cpp20(tmp_path: Path) -> None:
    if shutil.which(COMPILER.split()[0]) is None:
        pytest.skip("no C++ compiler")
    source = CPU / "network.cpp"
    command = [*COMPILER.split(), "-std=c++20", "-Wall", "-Wextra", "-Werror", "-c", str(source)]
    subprocess.run([*command, "-o", str(tmp_path / "network.o")], check=True, timeout=LIMIT)
