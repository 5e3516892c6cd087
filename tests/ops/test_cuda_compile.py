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
# The tensor-core convolutions; and what else runs for every image.
HOT = ("convolution_kernel", "head_kernel", "first_kernel")

pytestmark = pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")


@dataclass(frozen=True)
class Resources:
    """One kernel's line of `ptxas -v`; bytes a thread."""

    name: str
    stack: int
    spills: int
    registers: int


def compile_for(source: Path, architecture: str, folder: Path) -> list[Resources]:
    warnings = ["-Werror", "all-warnings", "-Xcompiler", "-Wall,-Wextra,-Werror", "-Xptxas", "-v"]
    command = ["nvcc", "-std=c++17", f"-I{ROOT / 'csrc'}", f"-I{CUDA}", f"-arch={architecture}"]
    output = folder / f"{source.stem}.{architecture}.o"
    result = subprocess.run(
        [*command, *warnings, "-c", str(source), "-o", str(output)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    report = re.findall(
        r"Compiling entry function '(\w+)'.*?"
        r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads.*?"
        r"Used (\d+) registers",
        result.stdout + result.stderr,
        re.DOTALL,
    )
    return [
        Resources(name, int(stack), int(stores) + int(loads), int(registers))
        for name, stack, stores, loads, registers in report
    ]


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], list[Resources]]:
    folder = tmp_path_factory.mktemp("cuda")
    jobs = [(source, architecture) for source in SOURCES for architecture in ARCHITECTURES]
    with ThreadPoolExecutor(2) as pool:
        results = pool.map(lambda job: compile_for(*job, folder), jobs)
        return {
            (source.name, architecture): report
            for (source, architecture), report in zip(jobs, results, strict=True)
        }


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_compiles_without_warnings_spills_or_local_memory(
    reports: dict[tuple[str, str], list[Resources]], architecture: str
) -> None:
    kernels = [
        kernel
        for (_, compiled_for), report in reports.items()
        if compiled_for == architecture
        for kernel in report
    ]
    hot = [kernel for kernel in kernels if any(name in kernel.name for name in HOT)]
    # For each of the four precisions conv_first, the head, and two sizes of convolution or one.
    assert len(hot) >= 4 * 4
    assert [kernel for kernel in hot if kernel.stack or kernel.spills] == []


def test_two_blocks_of_the_hot_kernel_fit_on_a_multiprocessor(
    reports: dict[tuple[str, str], list[Resources]],
) -> None:
    """65536 registers for twice 256 threads: 128 each."""
    large = [
        kernel
        for report in reports.values()
        for kernel in report
        if "convolution_kernel" in kernel.name and "TileILi4ELi2ELi1ELi4ELi3ELi3E" in kernel.name
    ]
    assert len(large) == 3 * len(ARCHITECTURES)
    assert max(kernel.registers for kernel in large) <= 128


@lru_cache
def text_of(path: Path) -> str:
    return path.read_text()


def test_kernels_know_nothing_of_torch() -> None:
    files = [p for p in CUDA.iterdir() if p.suffix in (".h", ".cuh", ".cu")]
    assert len(files) > 10
    for path in files:
        includes = re.findall(r'#include [<"]([^>"]+)[>"]', text_of(path))
        assert not [name for name in includes if re.match(r"(torch|ATen|c10|pybind11)/", name)]


def test_only_one_header_contains_instructions() -> None:
    """What the emulator cannot stand in for, it cannot test."""
    for path in CUDA.iterdir():
        if path.name not in ("ptx.cuh", "runtime.h"):
            assert not re.search(r"\basm\b|__shared__|cudaLaunch|<<<|threadIdx", text_of(path)), (
                path
            )
