"""Compiles every CUDA source by itself for every architecture, and reads the resource report."""

from __future__ import annotations

import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CUDA = ROOT / "csrc" / "cuda"
SOURCES = sorted(CUDA.glob("*.cu"))
ARCHITECTURES = ["sm_80", "sm_86", "sm_89", "sm_90a", "sm_100", "sm_120"]
# Nothing in the sources tells these from 8.0: their machine code is made of the same PTX.
FAMILY = {"sm_86": "sm_80", "sm_89": "sm_80"}
# The tensor-core convolutions; and what else runs for every image.
HOT = ("convolution_kernel", "wgmma_kernel", "head_kernel", "first_kernel")

pytestmark = pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")


@dataclass(frozen=True)
class Resources:
    """One kernel's line of `ptxas -v`; bytes a thread."""

    name: str
    architecture: str
    stack: int
    spills: int
    registers: int


def compile_for_all(source: Path, folder: Path) -> list[Resources]:
    """One compilation for all architectures: the front end is the larger part of its time."""
    warnings = ["-Werror", "all-warnings", "-Xcompiler", "-Wall,-Wextra,-Werror", "-Xptxas", "-v"]
    command = ["nvcc", "-std=c++17", f"-I{ROOT / 'csrc'}", f"-I{CUDA}"]
    for architecture in ARCHITECTURES:
        virtual = FAMILY.get(architecture, architecture).replace("sm", "compute")
        command += ["-gencode", f"arch={virtual},code={architecture}"]
    output = folder / f"{source.stem}.o"
    result = subprocess.run(
        [*command, *warnings, "-c", str(source), "-o", str(output)], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    report = re.findall(
        r"Compiling entry function '(\w+)' for '(\w+)'.*?"
        r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads.*?"
        r"Used (\d+) registers",
        result.stdout + result.stderr,
        re.DOTALL,
    )
    return [
        Resources(name, architecture, int(stack), int(stores) + int(loads), int(registers))
        for name, architecture, stack, stores, loads, registers in report
    ]


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> list[Resources]:
    folder = tmp_path_factory.mktemp("cuda")
    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(lambda source: compile_for_all(source, folder), SOURCES))
    return [kernel for report in reports for kernel in report]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_compiles_without_warnings_spills_or_local_memory(
    kernels: list[Resources], architecture: str
) -> None:
    hot = [
        kernel
        for kernel in kernels
        if kernel.architecture == architecture and any(name in kernel.name for name in HOT)
    ]
    # For each of the four precisions conv_first, the head, upsampling and 3x3; wgmma for two.
    assert len(hot) >= 4 * 4 + 2
    assert [kernel for kernel in hot if kernel.stack or kernel.spills] == []


@pytest.mark.timeout(1800)
def test_two_blocks_of_the_hot_kernel_fit_on_a_multiprocessor(kernels: list[Resources]) -> None:
    """65536 registers for twice 256 threads: 128 each."""
    large = [k for k in kernels if "TileILi4ELi2ELi1ELi4ELi3ELi3E" in k.name]
    assert len(large) == 3 * len(ARCHITECTURES)
    assert max(kernel.registers for kernel in large) <= 128


@pytest.mark.timeout(1800)
def test_wgmma_is_compiled_where_it_exists_and_nowhere_else(kernels: list[Resources]) -> None:
    """168 registers for 384 threads; elsewhere an empty body."""
    for kernel in kernels:
        if "wgmma_kernel" in kernel.name:
            assert (kernel.registers == 168) == (kernel.architecture == "sm_90a"), kernel
            assert kernel.registers in range(33) or kernel.architecture == "sm_90a"


@lru_cache
def text_of(path: Path) -> str:
    return path.read_text()


def test_kernels_know_nothing_of_torch() -> None:
    files = [p for p in CUDA.iterdir() if p.suffix in (".h", ".cuh", ".cu")]
    assert len(files) > 10
    for path in files:
        includes = re.findall(r'#include [<"]([^>"]+)[>"]', text_of(path))
        assert not [name for name in includes if re.match(r"(torch|ATen|c10|pybind11)/", name)]


def test_only_the_headers_that_the_emulator_replaces_contain_instructions() -> None:
    """What the emulator cannot stand in for, it cannot test."""
    for path in CUDA.iterdir():
        if path.name not in ("ptx.cuh", "ptx90.cuh", "runtime.h", "tensor_map.h"):
            assert not re.search(r"\basm\b|__shared__|cudaLaunch|<<<|threadIdx", text_of(path)), (
                path
            )
