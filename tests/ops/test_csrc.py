"""Builds and runs the C++ tests of csrc/cpu under AddressSanitizer and UBSan."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMPILER = os.environ.get("CXX", "c++")


@pytest.fixture(scope="module", params=["test_network", "test_compact"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which(COMPILER.split()[0]) is None:
        pytest.skip("no C++ compiler")
    path = tmp_path_factory.mktemp("csrc") / request.param
    test = ROOT / "tests" / "csrc" / f"{request.param}.cpp"
    sources = [test, *(ROOT / "csrc" / "cpu").glob("*.cpp")]
    flags = ["-std=c++17", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread"]
    sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    command = [*COMPILER.split(), *flags, *sanitizers, f"-I{ROOT / 'csrc' / 'cpu'}"]
    subprocess.run([*command, *map(str, sources), "-o", str(path)], check=True, timeout=240)
    return path


@pytest.mark.parametrize("isa", ["avx512", "avx2", "baseline"])
def test_every_shape_is_right_and_clean(program: Path, isa: str) -> None:
    result = subprocess.run(
        [str(program)],
        env={**os.environ, "ESRGAN_CPU_ISA": isa},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_compiles_as_cpp20(tmp_path: Path) -> None:
    if shutil.which(COMPILER.split()[0]) is None:
        pytest.skip("no C++ compiler")
    source = ROOT / "csrc" / "cpu" / "network.cpp"
    command = [*COMPILER.split(), "-std=c++20", "-Wall", "-Wextra", "-Werror", "-c", str(source)]
    subprocess.run([*command, "-o", str(tmp_path / "network.o")], check=True, timeout=120)
