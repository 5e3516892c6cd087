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
UNCHECKED_SUMS = ["-fno-sanitize=signed-integer-overflow"]
"""For the slowest of three builds of the same loops, whose sums the two others check: with these
checks it takes 54 seconds of a processor to compile and run, without them 36."""


@pytest.fixture(scope="module", params=["test_network", "test_compact"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    slowest = CPU / "isa_baseline.cpp"
    others = [p for p in sorted(CPU.glob("*.cpp")) if p != slowest]
    inputs = [*CPU.glob("*.h"), *TESTS.glob("*.h")]
    made = objects([*others, TESTS / f"{request.param}.cpp"], [*FLAGS, *SANITIZERS], inputs)
    made += objects([slowest], [*FLAGS, *SANITIZERS, *UNCHECKED_SUMS], inputs)
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
