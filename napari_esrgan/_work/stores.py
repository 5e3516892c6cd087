"""Where results on disk are, and which of them nobody needs any more. No Qt, no napari.

A store is the user's: nothing here is deleted unless asked for.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import psutil

_NAME = re.compile(r"esrgan-(\d+)-.*\.zarr")


def default_folder() -> Path:
    """In the user's cache folder (`ESRGAN_CACHE_DIR`): a temporary one may be memory itself."""
    if chosen := os.environ.get("ESRGAN_CACHE_DIR"):
        return Path(chosen).expanduser() / "napari-results"
    from platformdirs import user_cache_path

    return user_cache_path("esrgan-ext", appauthor=False) / "napari-results"


def make_store(folder: Path | None) -> Path:
    """A new empty folder for a store, named after this process; None is the default folder."""
    folder = folder or default_folder()
    folder.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=f"esrgan-{os.getpid()}-", suffix=".zarr", dir=folder))


def unused_stores(folder: Path | None, shown: Iterable[str]) -> list[Path]:
    """Stores that no layer shows.

    Parameters
    ----------
    folder : Path or None
        None is the default folder.
    shown : iterable of str
        Stores of this process that are in use. Those of other processes that still run are
        never unused.
    """
    folder = folder or default_folder()
    if not folder.is_dir():
        return []
    kept = {Path(path).resolve() for path in shown}
    found = []
    for path in sorted(folder.iterdir()):
        match = _NAME.fullmatch(path.name)
        if match is None or not path.is_dir() or path.resolve() in kept:
            continue
        process = int(match[1])
        if process == os.getpid() or not psutil.pid_exists(process):
            found.append(path)
    return found


def size_of(store: Path) -> int:
    """Bytes on disk."""
    return sum(file.stat().st_size for file in store.rglob("*") if file.is_file())


def delete(stores: Iterable[Path]) -> None:
    """Delete stores.

    Raises
    ------
    OSError
        If one cannot be.
    """
    for store in stores:
        shutil.rmtree(store)
