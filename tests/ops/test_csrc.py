"""Builds and runs the C++ tests of csrc/cpu under AddressSanitizer and UBSan."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.compiled import COMPILER, LIMIT, has_compiler, objects
from tests.conftest import ROOT

CPU, TESTS = ROOT / "csrc" / "cpu", ROOT / "tests" / "csrc"

pytestmark = [
    pytest.mark.timeout(2 * LIMIT),
    pytest.mark.skipif(not has_compiler(), reason="no C++ compiler"),
]

FLAGS = ["-std=c++17", "-O1", "-g1", "-Wall", "-Wextra", "-Werror", "-pthread", f"-I{CPU}"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
IN_KERNELS = ["-fno-sanitize=signed-integer-overflow"]
"""Checking every index of the innermost loops takes longer than all else together. Addresses are
checked there, and the sizes that indices come from in the other files."""


@pytest.fixture(scope="module", params=["test_network", "test_compact"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    kernels = set(CPU.glob("isa_*.cpp"))
    others = [*(set(CPU.glob("*.cpp")) - kernels), TESTS / f"{request.param}.cpp"]
    inputs = [*CPU.glob("*.h"), *TESTS.glob("*.h")]
    made = objects(sorted(kernels), [*FLAGS, *SANITIZERS, *IN_KERNELS], inputs)
    made += objects(sorted(others), [*FLAGS, *SANITIZERS], inputs)
    path = tmp_path_factory.mktemp("csrc") / request.param
    command = [*COMPILER, "-pthread", *SANITIZERS, *map(str, made), "-o", str(path)]
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


def test_compiles_as_cpp20() -> None:
    flags = ["-std=c++20", "-Wall", "-Wextra", "-Werror"]
    objects([CPU / "network.cpp"], flags, CPU.glob("*.h"))
