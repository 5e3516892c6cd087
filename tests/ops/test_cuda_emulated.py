"""Runs the CUDA kernels on the host, in an emulator, against the definition in float64."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import pytest

from tests.compiled import COMPILER, has_compiler, objects
from tests.conftest import ROOT

CUDA, TESTS = ROOT / "csrc" / "cuda", ROOT / "tests" / "csrc"
FLAGS = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-fPIC"]
INCLUDES = [f"-I{CUDA}", f"-I{TESTS}", "-include", str(TESTS / "cuda_emulator.h")]
FAST = ["-O2", "-ftree-vectorize"]
INPUTS = [p for folder in (CUDA, TESTS) for p in folder.iterdir() if p.suffix in (".h", ".cuh")]

pytestmark = [
    pytest.mark.skipif(
        not has_compiler() or platform.system() != "Linux", reason="needs a C++ compiler on Linux"
    ),
    pytest.mark.timeout(1800),  # a machine that others use as well may take its time to compile
]


def kernels(flags: list[str]) -> list[Path]:
    """The objects of the same .cu files that nvcc compiles."""
    return objects(
        sorted(CUDA.glob("*.cu")), [*FLAGS, *flags, *INCLUDES, "-x", "c++"],
        [*INPUTS, *CUDA.glob("*.cu")],
    )  # fmt: skip


def build(folder: Path, flags: list[str]) -> Path:
    """The test program."""
    main = [*FLAGS, *flags, *INCLUDES, "-DESRGAN_EMULATOR_MAIN"]
    made = [*objects([TESTS / "test_cuda.cpp"], main, INPUTS), *kernels(flags)]
    program = folder / "test_cuda"
    subprocess.run([*COMPILER, *flags, *map(str, made), "-o", str(program)], check=True)
    return program


def run(program: Path, group: str) -> None:
    result = subprocess.run([str(program), group], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "all right" in result.stdout


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("emulated"), FAST)


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    return build(tmp_path_factory.mktemp("sanitized"), ["-O0", *sanitizers])


@pytest.mark.parametrize("group", ["layout", "errors", "shapes", "tiles", "wgmma", "pixels"])
def test_networks_equal_the_definition(program: Path, group: str) -> None:
    run(program, group)


def test_is_clean_under_sanitizers(sanitized: Path) -> None:
    run(sanitized, "small")


MISTAKES = {
    "race": "race:",
    "early": "before its copy was waited for",
    "unwritten": "uninitialized shared memory",
    "outside": "outside of any memory",
    "diverge": "lanes diverge",
    "barrier": "deadlock",
    "unfenced": "TMA stores what was not fenced for it",
    "changed": "shared memory changed while TMA could still read it",
    "unwaited": "memory touched before earlier launches had ended",
    "chained": "memory touched before earlier launches had ended",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_emulator_finds_mistakes(program: Path, mistake: str) -> None:
    """Tests that cannot fail show nothing: each of these kernels has one mistake."""
    result = subprocess.run([str(program), mistake], capture_output=True, text=True)
    assert result.returncode == 3
    assert MISTAKES[mistake] in result.stderr
