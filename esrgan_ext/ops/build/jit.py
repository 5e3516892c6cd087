"""Compiles on first use into a cache folder, once, however many processes start at the same time.

A build is named by everything that its machine code depends on. What to compile, and with what,
is `toolchain`'s business; when, and what to do where it fails, `library`'s.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.machinery
import importlib.util
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch

from esrgan_ext.ops.build import toolchain
from esrgan_ext.ops.build.toolchain import BuildError, CudaToolkit

_FINISHED = "finished"  # written last: a folder without it holds an interrupted build
_CUDA_MODULE = "esrgan_ext_C_cuda"
_under_way: str | None = None  # the notice of the build that runs


@dataclass(frozen=True)
class Build:
    """How the CUDA operators are made for this machine.

    Attributes
    ----------
    csrc : Path
    key : str
        Names the folder of the build.
    architectures : tuple of str
        As `toolchain.architectures_for` gives them.
    toolkit : CudaToolkit
    """

    csrc: Path
    key: str
    architectures: tuple[str, ...]
    toolkit: CudaToolkit


def cuda_build(csrc: Path, torch_cuda: str, capabilities: Sequence[tuple[int, int]]) -> Build:
    """How to build the CUDA operators for devices of these compute capabilities.

    Raises
    ------
    BuildError
        If there is no compiler, no nvcc that fits torch's CUDA version, or no device that the
        kernels support.
    """
    compiler = toolchain.find_compiler()
    toolkit = toolchain.find_toolkit(torch_cuda)
    architectures = toolchain.architectures_for(capabilities, toolkit.architectures)
    flags = [*toolchain.TORCH_FLAGS, *toolchain.NVCC_FLAGS, *architectures]
    machine = [*_version(compiler), torch_cuda, toolkit.version_text, *flags]
    key = "cuda-" + _key(csrc, toolchain.cuda_inputs(csrc), machine)
    return Build(csrc, key, architectures, toolkit)


def built_cpu(csrc: Path) -> Path:
    """The library with the CPU operators, out of the cache or compiled now.

    Raises
    ------
    BuildError
        If there is no C++ compiler, it fails, or the cache folder cannot be written.
    """
    folder = cache_folder() / cpu_key(csrc)
    library = folder / toolchain.CPU_LIBRARY
    if not (folder / _FINISHED).is_file():
        with _building(folder) as finished:
            if not finished:
                notice = "compiling the CPU kernels for this machine (once, about half a minute)"
                with _notice(notice):
                    toolchain.compile_cpu(csrc, library, folder)
                _finish(folder)
    return library


def cpu_key(csrc: Path) -> str:
    """Names the build of the CPU operators: neither torch nor Python is part of it."""
    flags = [*toolchain.CPU_FLAGS, *toolchain.CPU_LINK_FLAGS]
    machine = [*_version(toolchain.find_compiler()), *flags]
    return f"cpu-{platform.machine()}-{_digest(csrc, toolchain.cpu_inputs(csrc), machine)}"


def built_cuda(build: Build) -> ModuleType:
    """The module that a build makes, out of the cache or compiled now.

    Raises
    ------
    BuildError
        If the compiler fails or the cache folder cannot be written.
    Exception
        Whatever the file system comes up with.
    """
    folder = cache_folder() / build.key
    library = folder / f"{_CUDA_MODULE}.so"
    if not (folder / _FINISHED).is_file():
        with _building(folder) as finished:
            if not finished:
                names = ", ".join(build.architectures)
                with _notice(f"compiling the CUDA kernels for {names} (once, a minute or two)"):
                    toolchain.compile_cuda(
                        build.csrc,
                        library,
                        folder,
                        module=_CUDA_MODULE,
                        toolkit=build.toolkit,
                        architectures=build.architectures,
                        torch=Path(torch.__file__).parent,
                    )
                _finish(folder)
    return _import(_CUDA_MODULE, library)


@contextlib.contextmanager
def _building(folder: Path) -> Iterator[bool]:
    """Hold the folder of a build; yields whether another process has finished it meanwhile."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error
    with _exclusive(folder / "building"):
        yield (folder / _FINISHED).is_file()


def _finish(folder: Path) -> None:
    (folder / _FINISHED).write_text(time.strftime("%Y-%m-%d %H:%M:%S\n"))


def cache_folder() -> Path:
    """Where builds are kept: under `ESRGAN_CACHE_DIR`, else the user's cache folder."""
    chosen = os.environ.get("ESRGAN_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser() / "extension"
    from platformdirs import user_cache_path  # imported here: it costs start-up time

    return user_cache_path("esrgan-ext", appauthor=False) / "extension"


def _version(compiler: list[str]) -> list[str]:
    run = subprocess.run([*compiler, "--version"], capture_output=True, text=True)
    return [run.stdout]


def _key(folder: Path, files: Sequence[Path], machine: Sequence[str]) -> str:
    """Names a build against torch: everything that its machine code depends on."""
    facts = [torch.__version__, str(sys.implementation.cache_tag), *machine]
    return f"torch{torch.__version__}-{platform.machine()}-{_digest(folder, files, facts)}"


def _digest(folder: Path, files: Sequence[Path], facts: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    for part in facts:
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:16]


def _unwritable(folder: Path, error: OSError) -> BuildError:
    return BuildError(
        f"the cache folder {folder} cannot be written ({error.strerror}); set "
        "ESRGAN_CACHE_DIR to a folder that can"
    )


@contextlib.contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """Hold a lock that the system releases even when its process dies."""
    import fcntl

    try:
        file = path.open("w")
    except OSError as error:
        raise _unwritable(path.parent, error) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _import(name: str, library: Path) -> ModuleType:
    loader = importlib.machinery.ExtensionFileLoader(name, str(library))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def under_way() -> str | None:
    """Notice of the build that runs at this moment, for windows to show; None where none does."""
    return _under_way


@contextlib.contextmanager
def _notice(text: str) -> Iterator[None]:
    """Say once, on stderr, why the first start takes a while; with a spinner on a terminal."""
    global _under_way
    _under_way = text
    try:
        with _on_stderr(f"esrgan_ext: {text}"):
            yield
    finally:
        _under_way = None


@contextlib.contextmanager
def _on_stderr(text: str) -> Iterator[None]:
    if sys.stderr is None or not sys.stderr.isatty():
        if sys.stderr is not None:
            print(text, file=sys.stderr, flush=True)
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(text):
        yield
