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
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import torch

from esrgan_ext.ops.build import toolchain
from esrgan_ext.ops.build.toolchain import BuildError, CudaToolkit

_FINISHED = "finished"  # written last: a folder without it holds an interrupted build
_under_way: str | None = None  # the notice of the build that runs


@dataclass(frozen=True)
class Recipe:
    """How torch's builder makes one library.

    Attributes
    ----------
    name : str
        Of the library and of the module in it.
    sources : list of Path
    key : str
        Names the folder of the build.
    notice : str
        What to tell the user who waits.
    cxx_flags, nvcc_flags : list of str
    toolkit : CudaToolkit or None
    """

    name: str
    sources: list[Path]
    key: str
    notice: str
    cxx_flags: list[str]
    nvcc_flags: list[str] = field(default_factory=list)
    toolkit: CudaToolkit | None = None


def cuda_recipe(csrc: Path, torch_cuda: str, capabilities: Sequence[tuple[int, int]]) -> Recipe:
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
    cxx_flags, nvcc_flags = toolchain.cuda_flags(architectures)
    machine = [*_version(compiler), torch_cuda, toolkit.version_text, *cxx_flags, *nvcc_flags]
    return Recipe(
        name="esrgan_ext_C_cuda",
        sources=toolchain.cuda_sources(csrc),
        key="cuda-" + _key(csrc, toolchain.cuda_inputs(csrc), machine),
        notice=(
            f"compiling the CUDA kernels for {', '.join(architectures)} (once, a minute or two)"
        ),
        cxx_flags=cxx_flags,
        nvcc_flags=nvcc_flags,
        toolkit=toolkit,
    )


def built_cpu(csrc: Path) -> Path:
    """The library with the CPU operators, out of the cache or compiled now.

    Raises
    ------
    BuildError
        If there is no C++ compiler, it fails, or the cache folder cannot be written.
    """
    build = cache_folder() / cpu_key(csrc)
    library = build / toolchain.CPU_LIBRARY
    if not (build / _FINISHED).is_file():
        with _building(build) as finished:
            if not finished:
                notice = "compiling the CPU kernels for this machine (once, about half a minute)"
                with _notice(notice):
                    toolchain.compile_cpu(csrc, library, build)
                _finish(build)
    return library


def cpu_key(csrc: Path) -> str:
    """Names the build of the CPU operators: neither torch nor Python is part of it."""
    flags = [*toolchain.CPU_FLAGS, *toolchain.CPU_LINK_FLAGS]
    machine = [*_version(toolchain.find_compiler()), *flags]
    return f"cpu-{platform.machine()}-{_digest(csrc, toolchain.cpu_inputs(csrc), machine)}"


def built_cuda(recipe: Recipe) -> ModuleType:
    """The module that a recipe makes, out of the cache or compiled now.

    Raises
    ------
    BuildError
        If the compiler fails or the cache folder cannot be written.
    Exception
        Whatever the file system comes up with.
    """
    build = cache_folder() / recipe.key
    if not (build / _FINISHED).is_file():
        with _building(build) as finished:
            if not finished:
                return _compile(recipe, build)
    return _import(recipe.name, build / f"{recipe.name}.so")


@contextlib.contextmanager
def _building(build: Path) -> Iterator[bool]:
    """Hold the folder of a build; yields whether another process has finished it meanwhile."""
    try:
        build.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(build, error) from error
    with _exclusive(build / "building"):
        yield (build / _FINISHED).is_file()


def _finish(build: Path) -> None:
    (build / _FINISHED).write_text(time.strftime("%Y-%m-%d %H:%M:%S\n"))


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


def _compile(recipe: Recipe, build: Path) -> ModuleType:
    (build / "lock").unlink(missing_ok=True)  # torch's own, left behind by a killed process
    scripts = Path(sys.executable).parent  # ninja's wheel puts its program there
    path = os.environ.get("PATH", "")
    # Each source by itself, as many at once as there are cores: ninja's default.
    with (
        _notice(recipe.notice),
        _environment("PATH", f"{path}{os.pathsep}{scripts}"),
        _cuda_home(recipe.toolkit),
    ):
        # Imported here: it takes a second, and only the first start of all needs it.
        from torch.utils import cpp_extension

        cuda = recipe.toolkit is not None
        try:
            module = cpp_extension.load(
                name=recipe.name,
                sources=[str(p) for p in recipe.sources],
                extra_cflags=recipe.cxx_flags,
                extra_cuda_cflags=recipe.nvcc_flags if cuda else None,
                extra_ldflags=_link_flags(recipe.toolkit, build) if cuda else None,
                build_directory=str(build),
                with_cuda=cuda,
                verbose=False,
            )
        except RuntimeError as error:  # has the compiler's output in it, at the end ninja's
            log = build / "log.txt"
            log.write_text(str(error))
            reason = toolchain.first_error(str(error).partition("\n")[2] or str(error))
            raise BuildError(f"the compiler failed: {reason} (all of it: {log})") from error
    _finish(build)
    return module


def _link_flags(toolkit: CudaToolkit | None, build: Path) -> list[str]:
    """What lets the linker find the CUDA runtime where only pip's packages are.

    Those have libcudart.so.13 in `lib`, but no libcudart.so, and torch looks in `lib64` alone.
    """
    assert toolkit is not None
    folders = [toolkit.home / "lib64", toolkit.home / "lib"]
    if any((folder / "libcudart.so").exists() for folder in folders):
        return [f"-L{folder}" for folder in folders if folder.is_dir()]
    for folder in folders:
        for library in sorted(folder.glob("libcudart.so.*")):
            link = build / "libcudart.so"
            link.unlink(missing_ok=True)
            link.symlink_to(library)
            return [f"-L{build}"]
    return []


@contextlib.contextmanager
def _cuda_home(toolkit: CudaToolkit | None) -> Iterator[None]:
    """Make torch use this toolkit, whether its build module was imported before or not."""
    if toolkit is None:
        yield
        return
    home = str(toolkit.home)
    with _environment("CUDA_HOME", home):
        from torch.utils import cpp_extension

        before = cpp_extension.CUDA_HOME
        cpp_extension.CUDA_HOME = home
        try:
            yield
        finally:
            cpp_extension.CUDA_HOME = before


def _import(name: str, library: Path) -> ModuleType:
    loader = importlib.machinery.ExtensionFileLoader(name, str(library))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def under_way() -> str | None:
    """What is being compiled at this moment, for windows to show; None where nothing is."""
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
