"""Compiles every CUDA source by itself for every architecture, and reads the resource report."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pytest

from tests.compiled import objects
from tests.conftest import ROOT

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


@pytest.fixture(scope="module")
def compiled() -> list[Path]:
    """An object file of each source for all architectures, kept by content.

    One compilation for all: the front end is the larger part of its time.
    """
    flags = ["-std=c++17", f"-I{ROOT / 'csrc'}", f"-I{CUDA}"]
    flags += ["-Werror", "all-warnings", "-Xcompiler", "-Wall,-Wextra,-Werror", "-Xptxas", "-v"]
    for architecture in ARCHITECTURES:
        virtual = FAMILY.get(architecture, architecture).replace("sm", "compute")
        flags += ["-gencode", f"arch={virtual},code={architecture}"]
    inputs = [path for path in CUDA.iterdir() if path.is_file()]
    return objects(SOURCES, flags, inputs, ["nvcc"])


def resources(object_file: Path) -> list[Resources]:
    """What the assembler said of its kernels."""
    report = re.findall(
        r"Compiling entry function '(\w+)' for '(\w+)'.*?"
        r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads.*?"
        r"Used (\d+) registers",
        object_file.with_suffix(".log").read_text(),
        re.DOTALL,
    )
    return [
        Resources(name, architecture, int(stack), int(stores) + int(loads), int(registers))
        for name, architecture, stack, stores, loads, registers in report
    ]


@pytest.fixture(scope="module")
def kernels(compiled: list[Path]) -> list[Resources]:
    return [kernel for object_file in compiled for kernel in resources(object_file)]


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


def disassembler() -> str | None:
    """cuobjdump: on the PATH, beside nvcc, or in pip's package of it."""
    beside = [Path(path, "nvidia/cu13/bin/cuobjdump") for path in sys.path]
    if (nvcc := shutil.which("nvcc")) is not None:
        beside.append(Path(nvcc).resolve().with_name("cuobjdump"))
    found = shutil.which("cuobjdump") or next((str(p) for p in beside if p.is_file()), None)
    return found


def machine_code(object_file: Path, architecture: str) -> dict[str, list[str]]:
    """The instructions of each kernel, without their predicates."""
    command = [disassembler(), "--dump-sass", "--gpu-architecture", architecture, object_file]
    # It runs nvdisasm, which lies beside it or on the PATH.
    path = f"{Path(str(command[0])).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    dump = subprocess.run(
        list(map(str, command)),
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    code: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in dump.stdout.splitlines():
        if function := re.match(r"\s*Function : (\S+)", line):
            lines = code.setdefault(function[1], [])
        elif instruction := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?(.*?)\s*;", line):
            lines.append(instruction[1])
    return code


def registers(operands: str) -> set[int]:
    return {int(number) for number in re.findall(r"\bR(\d+)\b", operands)}


def loads_used_early(code: list[str], window: int) -> tuple[int, list[tuple[str, str]]]:
    """The number of global loads, and those with a use among the next `window` instructions."""
    loads, early = 0, []
    for at, load in enumerate(code):
        found = re.match(r"(LDG\S*) (?:U?P\w+, )?R(\d+),", load)
        if not found:
            continue
        loads += 1
        width = 4 if ".128" in found[1] else 2 if ".64" in found[1] else 1
        loaded = {int(found[2]) + i for i in range(width)}
        for use in code[at + 1 : at + 1 + window]:
            name, _, operands = use.partition(" ")
            # The first operand is where the result goes, except of what stores.
            sources = operands if name.startswith(("ST", "RED")) else operands.partition(",")[2]
            if loaded & registers(sources):
                early.append((load, use))
    return loads, early


@pytest.mark.timeout(1800)
@pytest.mark.skipif(disassembler() is None, reason="cuobjdump is not installed")
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("kind", ["mma", "wgmma"])
@pytest.mark.parametrize("number", ["f16", "bf16"])
def test_epilogues_ask_for_what_they_read_ahead_of_its_use(
    compiled: list[Path], number: str, kind: str, architecture: str
) -> None:
    """A load from global memory takes hundreds of cycles; one used at once is all of them lost."""
    if kind == "wgmma" and architecture != "sm_90a":
        pytest.skip("wgmma is of compute capability 9.0")
    name = {"mma": "convolution_kernel", "wgmma": "wgmma_kernel"}[kind]
    code = machine_code(compiled[SOURCES.index(CUDA / f"{kind}_{number}.cu")], architecture)
    trunk = {kernel: lines for kernel, lines in code.items() if name in kernel}
    assert len(trunk) >= 2
    for kernel, lines in trunk.items():
        loads, early = loads_used_early(lines, 8)
        # mma: residuals of 8 pixels and their biases; wgmma: biases, the rest comes by TMA.
        assert loads >= (32 if kind == "mma" else 2), kernel
        assert early == [], kernel


def test_loads_that_are_used_at_once_are_found() -> None:
    code = ["LDG.E.64 R4, desc[UR4][R2.64]", "IMAD R9, R8, R8, RZ", "FADD R8, R8, R5", "EXIT"]
    assert loads_used_early(code, 2) == (1, [(code[0], code[2])])
    assert loads_used_early(code, 1) == (1, [])
    assert loads_used_early(["LDG.E R5, [R2.64]", "STG.E [R2.64], R5"], 8)[1] != []
    assert loads_used_early(["LDG.E R5, [R2.64]", "MOV R5, R6"], 8)[1] == []


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
