"""Finds the compiled extension, or compiles it on first use.

`load` returns the module `esrgan_ext._C` as it was built with the package, else builds `csrc/`
into a cache folder, else returns None after one warning that says how to fix it: everything
works without, only slower. What the operators compute is `csrc`'s business, their fake kernels
and gradients are in `registration`.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.machinery
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import torch

_BUILD_NAME = "esrgan_ext_C"
_FINISHED = "finished"  # written last: a folder without it holds an interrupted build
_CXX_FLAGS = ["-O3", "-DNDEBUG"]

_lock = threading.Lock()
_result: tuple[ModuleType | None, str] | None = None


class BuildError(Exception):
    """The extension cannot be built here; the message says why."""


def load() -> ModuleType | None:
    """Return the compiled module, building it if need be; None where there is none.

    Safe to call from any thread; the work is done once per process. Set ``ESRGAN_EXT=off`` to
    do without.

    Returns
    -------
    module or None
        With `build_info` and `fingerprint`; importing it registers ``torch.ops.esrgan_ext``.
    """
    global _result
    if _result is None:
        with _lock:
            if _result is None:
                _result = _find()
    return _result[0]


def origin() -> str:
    """'prebuilt', 'JIT', or the reason why there is no extension."""
    load()
    assert _result is not None
    return _result[1]


def _find() -> tuple[ModuleType | None, str]:
    if os.environ.get("ESRGAN_EXT", "").lower() in ("off", "0", "no"):
        _warn("ESRGAN_EXT=off", "Unset ESRGAN_EXT to use the compiled kernels.")
        return None, "switched off by ESRGAN_EXT"
    try:
        module, how = _prebuilt(), "prebuilt"
        if module is None:
            module, how = _built_on_first_use(), "JIT"
        from esrgan_ext.ops import registration

        registration.register()
    except BuildError as error:
        _warn(str(error), "")
        return None, str(error)
    except Exception as error:  # whatever a compiler or a file system comes up with
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        _warn(
            f"compiling them failed ({type(error).__name__}: {reason})",
            "A C++17 compiler (g++ 12 or later, clang 15 or later) is needed; set CXX to choose "
            "one, and ESRGAN_EXT=off to silence this warning.",
        )
        return None, f"compiling failed: {reason}"
    isa_error = module.build_info()["isa_error"]
    if isa_error:
        warnings.warn(isa_error, RuntimeWarning, stacklevel=2)
    return module, how


def _warn(reason: str, remedy: str) -> None:
    message = f"esrgan_ext runs in plain PyTorch, several times slower on CPUs: {reason}."
    warnings.warn(f"{message} {remedy}".rstrip(), RuntimeWarning, stacklevel=2)


def _prebuilt() -> ModuleType | None:
    try:
        return importlib.import_module("esrgan_ext._C")
    except ModuleNotFoundError:
        return None
    except ImportError:  # built for another torch: its symbols are missing
        return None


def source_folder() -> Path | None:
    """The folder `csrc`: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "csrc", package.parent / "csrc"):
        if (folder / "ops.cpp").is_file():
            return folder
    return None


def sources(folder: Path) -> list[Path]:
    """The files to compile."""
    return sorted([*folder.glob("*.cpp"), *(folder / "cpu").glob("*.cpp")])


def cache_folder() -> Path:
    """Where builds are kept: under `ESRGAN_CACHE_DIR`, else the user's cache folder."""
    chosen = os.environ.get("ESRGAN_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser() / "extension"
    from platformdirs import user_cache_path  # imported here: it costs start-up time

    return user_cache_path("esrgan-ext", appauthor=False) / "extension"


def _built_on_first_use() -> ModuleType:
    folder = source_folder()
    if folder is None:
        raise BuildError("the folder csrc is missing from this installation; reinstall esrgan-ext")
    compiler = os.environ.get("CXX", "c++")
    if shutil.which(compiler.split()[0]) is None:
        raise BuildError(
            f"there is no C++ compiler ({compiler}); install g++ (Debian, Ubuntu: "
            "apt install g++) or set CXX, and the next start compiles the kernels"
        )
    build = cache_folder() / _key(folder, compiler)
    library = build / f"{_BUILD_NAME}.so"
    if not (build / _FINISHED).is_file():
        try:
            build.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BuildError(
                f"the cache folder {build} cannot be written ({error.strerror}); set "
                "ESRGAN_CACHE_DIR to a folder that can"
            ) from error
        with _exclusive(build / "building"):
            if not (build / _FINISHED).is_file():  # another process may have been faster
                return _compile(folder, build)
    return _import(library)


def _key(folder: Path, compiler: str) -> str:
    """Names a build: everything that its machine code depends on."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".cpp", ".h")):
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    version = subprocess.run([*compiler.split(), "--version"], capture_output=True, text=True)
    for part in (
        torch.__version__,
        sys.implementation.cache_tag,
        platform.machine(),
        version.stdout,
        *_CXX_FLAGS,
    ):
        digest.update(str(part).encode() + b"\0")
    return f"torch{torch.__version__}-{platform.machine()}-{digest.hexdigest()[:16]}"


@contextlib.contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """Hold a lock that the system releases even when its process dies."""
    import fcntl

    try:
        file = path.open("w")
    except OSError as error:
        raise BuildError(
            f"the cache folder {path.parent} cannot be written ({error.strerror}); set "
            "ESRGAN_CACHE_DIR to a folder that can"
        ) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _compile(folder: Path, build: Path) -> ModuleType:
    # Imported here: it takes a second, and only the first start of all needs it.
    from torch.utils import cpp_extension

    (build / "lock").unlink(missing_ok=True)  # torch's own, left behind by a killed process
    scripts = Path(sys.executable).parent  # ninja's wheel puts its program there
    path = os.environ.get("PATH", "")
    with _notice(), _environment("PATH", f"{path}{os.pathsep}{scripts}"):
        module = cpp_extension.load(
            name=_BUILD_NAME,
            sources=[str(p) for p in sources(folder)],
            extra_cflags=_CXX_FLAGS,
            build_directory=str(build),
            verbose=False,
        )
    (build / _FINISHED).write_text(time.strftime("%Y-%m-%d %H:%M:%S\n"))
    return module


def _import(library: Path) -> ModuleType:
    loader = importlib.machinery.ExtensionFileLoader(_BUILD_NAME, str(library))
    spec = importlib.util.spec_from_loader(_BUILD_NAME, loader)
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


@contextlib.contextmanager
def _notice() -> Iterator[None]:
    """Say once, on stderr, why the first start takes a while; with a spinner on a terminal."""
    text = "esrgan_ext: compiling the CPU kernels for this machine (once, about half a minute)"
    if sys.stderr is None or not sys.stderr.isatty():
        if sys.stderr is not None:
            print(text, file=sys.stderr, flush=True)
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(text):
        yield
