"""Object files that tests compile, kept by content.

What several tests need is compiled once, whichever process comes first, and a later run with the
same sources compiles nothing. `ESRGAN_TEST_CACHE` names the folder (default: in the user's cache).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import torch
from platformdirs import user_cache_path

from tests.conftest import ROOT

COMPILER = os.environ.get("CXX", "c++").split()

LIMIT = 900
"""Seconds for one file: half a minute, on cores that others use."""

_KEPT_SECONDS = 7 * 24 * 3600


def has_compiler() -> bool:
    return shutil.which(COMPILER[0]) is not None


def objects(
    sources: Iterable[Path],
    flags: list[str],
    inputs: Iterable[Path],
    compiler: list[str] = COMPILER,
) -> list[Path]:
    """Compile sources, two at a time. What the compiler said lies beside each object, in `.log`.

    Parameters
    ----------
    sources : iterable of Path
    flags : list of str
        All but the source and the object.
    inputs : iterable of Path
        Every file that the objects may depend on, headers included; the compiler's and torch's
        own aside, whose versions count.
    compiler : list of str
        Another than the C++ compiler; it may run that one, whose version counts as well.
    """
    command = [*compiler, *flags]
    contents = _digest(command, compiler, tuple(inputs))
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda source: _object(source, command, contents), sources))


def _object(source: Path, command: list[str], contents: str) -> Path:
    name = f"{source.name} {contents}".encode() + source.read_bytes()
    target = folder() / f"{source.stem}-{hashlib.sha256(name).hexdigest()[:24]}.o"
    log = target.with_suffix(".log")
    with target.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.is_file() and log.is_file():
            for path in (target, log):
                path.touch()  # used today
            return target
        made = target.with_suffix(".made")
        done = subprocess.run(
            [*command, "-c", str(source), "-o", str(made)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT,
        )
        assert done.returncode == 0, done.stdout
        log.write_text(done.stdout)
        made.rename(target)
    return target


@cache
def _digest_of_files(paths: tuple[Path, ...]) -> bytes:
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.digest()


@cache
def _version(compiler: tuple[str, ...]) -> str:
    return subprocess.run([*compiler, "--version"], capture_output=True, text=True).stdout


def _digest(command: list[str], compiler: list[str], inputs: tuple[Path, ...]) -> str:
    # The same sources in another checkout are the same sources.
    said = [word.replace(str(ROOT), "ROOT") for word in command]
    versions = [_version(tuple(words)) for words in (compiler, COMPILER)]
    facts = "\0".join([*said, *COMPILER, *versions, torch.__version__])
    return hashlib.sha256(facts.encode() + _digest_of_files(inputs)).hexdigest()


@cache
def folder() -> Path:
    """Where things are kept from run to run."""
    chosen = os.environ.get("ESRGAN_TEST_CACHE")
    found = Path(chosen) if chosen else user_cache_path("esrgan-ext", appauthor=False) / "tests"
    found.mkdir(parents=True, exist_ok=True)
    for path in found.iterdir():
        if path.is_file() and time.time() - path.stat().st_mtime > _KEPT_SECONDS:
            path.unlink(missing_ok=True)
    return found
