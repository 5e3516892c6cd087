"""Finding and building the extension, and doing without."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from esrgan_ext.ops.build import jit, library, toolchain
from esrgan_ext.ops.build.cpu_library import CpuLibrary
from esrgan_ext.ops.build.toolchain import BuildError

RUN = """
import sys
import warnings
import torch
if "jit" in sys.argv:  # as in an installation that was built without torch
    from esrgan_ext.ops.build import library
    library._prebuilt = lambda: None
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from esrgan_ext import ops
    from tests.conftest import make_network
    network = make_network(nf=32, gc=16)
    x = torch.rand(1, 3, 9, 7)
    with torch.inference_mode():
        difference = (network(x) - network.plain_forward(x)).abs().max().item()
        network(x)
assert difference < 1e-5, difference
print(ops.backend(), len(caught))
for warning in caught:
    print(warning.message)
"""


def process(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Run a network in a process of its own; with the argument "jit" no prebuilt one is found."""
    return subprocess.Popen(
        [sys.executable, "-c", RUN, *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def answer(running: subprocess.Popen[str]) -> tuple[list[str], str]:
    """The backend, the number of warnings and their texts; and what went to stderr."""
    out, err = running.communicate(timeout=280)
    assert running.returncode == 0, err
    return out.splitlines(), err


def start(*arguments: str, **environment: str) -> list[str]:
    return answer(process(*arguments, **environment))[0]


def test_switched_off_by_the_environment() -> None:
    first, warning = start(ESRGAN_EXT="off")
    assert first == "reference 1"
    assert "ESRGAN_EXT" in warning


def test_without_a_compiler(tmp_path: Path) -> None:
    first, warning = start("jit", ESRGAN_CACHE_DIR=str(tmp_path), CXX="no-such-compiler")
    assert first == "reference 1"
    assert "no-such-compiler" in warning
    assert "apt install g++" in warning


def test_with_a_failing_compiler(tmp_path: Path) -> None:
    first, warning, *_ = start("jit", ESRGAN_CACHE_DIR=str(tmp_path), CXX="false")
    assert first == "reference 1"
    assert "compiler" in warning


def test_with_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("a file where a folder should be")
    first, warning = start("jit", ESRGAN_CACHE_DIR=str(blocked))
    assert first == "reference 1"
    assert "ESRGAN_CACHE_DIR" in warning


@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "c++")) is None, reason="no C++ compiler")
def test_two_processes_that_start_at_once_compile_once_and_later_ones_not(tmp_path: Path) -> None:
    compiler = tmp_path / "compiler"  # optimises little: the wheel's test builds the fast kernels
    compiler.write_text(f'#!/bin/sh\nexec {os.environ.get("CXX", "c++")} "$@" -O1\n')
    compiler.chmod(0o755)
    environment = {"ESRGAN_CACHE_DIR": str(tmp_path), "CXX": str(compiler)}
    both = [process("jit", **environment) for _ in range(2)]
    notices = []
    for running in both:
        (first, *_), err = answer(running)
        assert first.startswith("cpu-")
        notices.append("compiling the CPU kernels" in err)
    assert sum(notices) == 1
    (first, *_), err = answer(process("jit", **environment))
    assert first.startswith("cpu-")
    assert "compiling" not in err


def test_the_key_depends_on_sources_but_not_on_torch(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "ops.cpp").write_text("int a;")
    key = jit.cpu_key(tmp_path)
    (tmp_path / "cpu" / "ops.cpp").write_text("int b;")
    changed = jit.cpu_key(tmp_path)
    monkeypatch.setattr(torch, "__version__", "9.9.9")
    assert key != changed
    assert jit.cpu_key(tmp_path) == changed


@pytest.mark.parametrize(
    ("folder", "age", "older"),
    [("csrc", 10, True), ("csrc", -10, False), ("esrgan_ext/csrc", 10, False)],
)
def test_a_checkout_notices_that_its_sources_changed(
    tmp_path: Path, monkeypatch, folder: str, age: float, older: bool
) -> None:
    source = tmp_path / folder / "cpu" / "library.cpp"
    source.parent.mkdir(parents=True)
    built = tmp_path / "_C.so"
    for path in (source, built):
        path.touch()
    os.utime(source, (built.stat().st_mtime + age,) * 2)
    monkeypatch.setattr(library, "__file__", str(tmp_path / "esrgan_ext/ops/build/library.py"))
    module = ModuleType("_C")
    module.__file__ = str(built)
    assert library._older_than_sources(module) == older


def test_build_information_is_complete() -> None:
    module = library.load()
    if module is None:
        pytest.skip("no compiled extension")
    info = module.build_info()
    assert info["isa"] in ("avx512", "avx2", "baseline")
    assert info["standard"] == 17
    assert info["compiler"].split()[0] in ("gcc", "clang")


def test_a_failed_build_names_the_first_error_and_the_log(tmp_path: Path) -> None:
    compiler = tmp_path / "compiler"
    compiler.write_text(
        "#!/bin/sh\n[ $1 = --version ] && exit\necho 'In file included from x.h:1:'\n"
        "echo 'x.h:7:10: fatal error: Python.h: No such file or directory' >&2\necho 'stopped.'\n"
        "exit 1\n"
    )
    compiler.chmod(0o755)
    first, warning = start("jit", ESRGAN_CACHE_DIR=str(tmp_path), CXX=str(compiler))
    assert first == "reference 1"
    assert "x.h:7:10: fatal error: Python.h" in warning
    assert "apt install python3-dev" in warning
    log = Path(warning.split("all of it: ")[1].split(")")[0])
    assert "stopped." in log.read_text()


@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "c++")) is None, reason="no C++ compiler")
def test_any_character_in_the_path_of_sources_and_cache(tmp_path: Path) -> None:
    folder = tmp_path / 'my esrgan\'s $HOME für "alles"'
    csrc = folder / "csrc" / "cpu"
    csrc.mkdir(parents=True)
    (csrc / "one.cpp").write_text(
        'extern "C" __attribute__((visibility("default"))) int answer() { return 42; }'
    )
    built = folder / "a cache; $(x)" / "lib.so"
    toolchain.compile_cpu(folder / "csrc", built, built.parent)
    assert ctypes.CDLL(str(built)).answer() == 42


def test_a_library_of_another_version_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "esrgan_cpu.so"
    other.write_bytes(b"not a library")
    with pytest.raises(BuildError, match="cannot be used"):
        CpuLibrary(other)


def test_starting_imports_no_compiler_of_torch() -> None:
    """torch._dynamo alone takes as long as a small photo."""
    program = (
        "import sys, torch; before = set(sys.modules)\n"
        "import esrgan_ext.ops, esrgan_ext.inference.upscaler, esrgan_ext.cli, esrgan_ext.weights\n"
        "esrgan_ext.ops.backend()\n"
        "heavy = ('torch._dynamo', 'torch._inductor', 'triton', 'sympy')\n"
        "print([m for m in set(sys.modules) - before if m.startswith(heavy)])"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"
