"""Finds the compiled extension, or compiles it on first use.

It comes in two libraries. `load` returns the CPU kernels, which need no particular version of torch
or Python, and defines every operator's schema; `load_cuda` returns `esrgan_ext._C_cuda`, which adds
the CUDA implementation on machines that have a GPU. Both take what was built with the package, else
build `csrc/` into a cache folder, else return None after one warning that says how to fix it:
everything works without, only slower. How to build is `jit`'s business, what the operators compute
`csrc`'s, their fake kernels and gradients are in `registration`.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import threading
import warnings
from pathlib import Path
from types import ModuleType

import torch

from esrgan_ext.ops.build import jit, toolchain
from esrgan_ext.ops.build.cpu_library import CpuLibrary
from esrgan_ext.ops.build.toolchain import BuildError

_lock = threading.Lock()
_result: tuple[CpuLibrary | None, str] | None = None
_cuda_lock = threading.Lock()
_cuda_result: tuple[ModuleType | None, str] | None = None


def load() -> CpuLibrary | None:
    """Return the CPU kernels, building them if need be; None where there is none.

    Safe to call from any thread; the work is done once per process. Set ``ESRGAN_EXT=off`` to
    do without.

    Returns
    -------
    CpuLibrary or None
        Loading it registers ``torch.ops.esrgan_ext``.
    """
    global _result
    if _result is None:
        with _lock:
            if _result is None:
                _result = _find()
    return _result[0]


def load_cuda() -> ModuleType | None:
    """Return the module of the CUDA operators, building it if need be; None where there is none.

    Silent where torch has no CUDA or the machine no GPU. Where compiling fails there is one
    warning, and the CPU operators stay in use. Safe to call from any thread.

    Returns
    -------
    module or None
        With `build_info`; importing it adds CUDA to ``torch.ops.esrgan_ext``.
    """
    global _cuda_result
    if _cuda_result is None:
        with _cuda_lock:
            if _cuda_result is None:
                _cuda_result = _find_cuda()
    return _cuda_result[0]


def origin() -> str:
    """'prebuilt', 'JIT', or the reason why there is no extension."""
    load()
    assert _result is not None
    return _result[1]


def cuda_origin() -> str:
    """'prebuilt', 'JIT', or the reason why there are no CUDA operators."""
    load_cuda()
    assert _cuda_result is not None
    return _cuda_result[1]


def _find() -> tuple[CpuLibrary | None, str]:
    if os.environ.get("ESRGAN_EXT", "").lower() in ("off", "0", "no"):
        _warn("ESRGAN_EXT=off", "Unset ESRGAN_EXT to use the compiled kernels.")
        return None, "switched off by ESRGAN_EXT"
    try:
        module, how = _prebuilt(), "prebuilt"
        if module is None:
            module, how = CpuLibrary(jit.built_cpu(_sources())), "JIT"
        from esrgan_ext.ops import cpu_operators, registration

        cpu_operators.implement(module)
        registration.register()
    except BuildError as error:
        _warn(str(error), "ESRGAN_EXT=off silences this warning.")
        return None, str(error)
    except Exception as error:  # whatever a file system comes up with
        reason = _last_line(error)
        _warn(
            f"compiling the kernels failed ({type(error).__name__}: {reason})",
            "ESRGAN_EXT=off silences this warning.",
        )
        return None, f"compiling failed: {reason}"
    if how == "prebuilt" and _older_than_sources(module):
        warnings.warn(
            "esrgan_ext uses compiled kernels that are older than csrc/; "
            "`pip install -e .` compiles them anew.",
            RuntimeWarning,
            stacklevel=2,
        )
    isa_error = module.build_info()["isa_error"]
    if isa_error:
        warnings.warn(str(isa_error), RuntimeWarning, stacklevel=2)
    return module, how


def _find_cuda() -> tuple[ModuleType | None, str]:
    if torch.version.cuda is None:
        return None, "this torch was built without CUDA"
    if not torch.cuda.is_available():
        return None, "torch finds no CUDA device"
    if load() is None:  # has warned; the schemas are in there
        return None, f"no CPU operators: {origin()}"
    if os.environ.get("ESRGAN_EXT", "").lower() == "cpu":
        return None, "switched off by ESRGAN_EXT=cpu"
    capabilities = [torch.cuda.get_device_capability(k) for k in range(torch.cuda.device_count())]
    try:
        module, how = _prebuilt_cuda(capabilities), "prebuilt"
        if module is None:
            build = jit.cuda_build(_sources(), torch.version.cuda, capabilities)
            module, how = jit.built_cuda(build), "JIT"
    except BuildError as error:
        _warn_cuda(str(error), "")
        return None, str(error)
    except Exception as error:  # as above
        reason = _last_line(error)
        _warn_cuda(
            f"compiling the kernels failed ({type(error).__name__}: {reason})",
            "ESRGAN_EXT=cpu silences this warning.",
        )
        return None, f"compiling failed: {reason}"
    return module, how


def _last_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[-1]


def _warn(reason: str, remedy: str) -> None:
    message = f"esrgan_ext runs in plain PyTorch, several times slower on CPUs: {reason}."
    warnings.warn(f"{message} {remedy}".rstrip(), RuntimeWarning, stacklevel=2)


def _warn_cuda(reason: str, remedy: str) -> None:
    message = f"esrgan_ext runs in plain PyTorch on the GPU, slower than it could: {reason}."
    warnings.warn(f"{message} {remedy}".rstrip(), RuntimeWarning, stacklevel=2)


def _prebuilt() -> CpuLibrary | None:
    path = _package() / toolchain.CPU_LIBRARY
    if not path.is_file():
        return None
    try:
        return CpuLibrary(path)
    except BuildError:  # of another version, or for another machine
        return None


def _older_than_sources(module: CpuLibrary) -> bool:
    """Whether a checkout's sources changed since the module was built; an installation's do not."""
    folder = source_folder()
    if folder is None or folder.parent == _package():
        return False
    built = Path(module.__file__).stat().st_mtime
    return any(p.stat().st_mtime > built for p in toolchain.cpu_inputs(folder))


def _prebuilt_cuda(capabilities: list[tuple[int, int]]) -> ModuleType | None:
    """The module built with the package, where it has code for every device that can run it.

    Its architectures are read out of the file: loading it would register its operators, and
    those of a library that is compiled in its place then clash with them.
    """
    spec = importlib.util.find_spec("esrgan_ext._C_cuda")
    if spec is None or spec.origin is None:
        return None
    architectures = toolchain.architectures_in(Path(spec.origin))
    usable = [c for c in capabilities if c >= toolchain.OLDEST_CAPABILITY]
    if not usable or not all(toolchain.covers(architectures, c) for c in usable):
        return None
    try:
        return importlib.import_module("esrgan_ext._C_cuda")
    except ImportError:  # built for another torch
        return None


def _package() -> Path:
    return Path(__file__).resolve().parents[2]


def source_folder() -> Path | None:
    """The folder `csrc`: inside an installed package, or beside it in a checkout."""
    for folder in (_package() / "csrc", _package().parent / "csrc"):
        if (folder / "cpu" / "library.cpp").is_file():
            return folder
    return None


def _sources() -> Path:
    folder = source_folder()
    if folder is None:
        raise BuildError("the folder csrc is missing from this installation; reinstall esrgan-ext")
    return folder
