"""The record in an unfinished result: its plan, and which chunks are on disk.

Both lie beside the pixels in a folder that is named as unfinished. The plan is one JSON file;
the record of chunks is one log a process, a line a chunk, written and flushed after the chunk's
pixels are. Whatever is cut off counts as not done.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from esrgan_ext.inference.files import replacing

PLAN, LOCK = "plan.json", "lock"
RECORDS, PIXELS, REPLACED = FOLDERS = ("done", "image.zarr", "replaced.zarr")

# A line ends with this word: one that does not was cut off.
_END = "done"


def unfinished(target: Path) -> Path:
    """The folder in which a result grows."""
    return target.with_name(f"{target.name}.unfinished")


def write_plan(folder: Path, plan: dict[str, Any]) -> None:
    """Write the plan, all or nothing, and see it onto the disk."""
    with replacing(folder / PLAN) as part, open(part, "w") as file:
        json.dump(plan, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(folder)


def read_plan(folder: Path) -> dict[str, Any] | None:
    """The plan of an unfinished result; None where it was never written."""
    try:
        plan = json.loads((folder / PLAN).read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return plan if isinstance(plan, dict) else None


_guard = threading.Lock()
_logs: dict[tuple[str, int], BinaryIO] = {}


def record(folder: str, level: int, number: int) -> None:
    """Say that a chunk is on disk; it is, as far as the system can tell, when this returns.

    Raises
    ------
    OSError
        The line could not be written; the chunk then counts as not done.
    """
    key = (folder, os.getpid())
    with _guard:
        log = _logs.get(key)
        if log is None:
            place = Path(folder) / RECORDS
            place.mkdir(exist_ok=True)
            log = open(place / f"{secrets.token_hex(8)}.log", "ab", buffering=0)  # noqa: SIM115
            _logs[key] = log
            sync_folder(place)
        try:
            log.write(f"{level} {number} {_END}\n".encode())
            os.fsync(log.fileno())
        except OSError:
            # Half a line may be there: what follows goes to a log of its own.
            del _logs[key]
            with suppress(OSError):
                log.close()
            raise


def forget(folder: str) -> None:
    """Close this process's log of a result."""
    with _guard:
        log = _logs.pop((folder, os.getpid()), None)
    if log is not None:
        log.close()


def recorded(folder: Path) -> dict[int, list[int]]:
    """Numbers of the chunks on disk, by level, as often as they were recorded."""
    done: dict[int, list[int]] = {}
    for path in sorted((folder / RECORDS).glob("*.log")):
        for line in path.read_text().splitlines():
            words = line.split()
            if len(words) == 3 and words[2] == _END and words[0].isdigit() and words[1].isdigit():
                done.setdefault(int(words[0]), []).append(int(words[1]))
    return done


def sync_folder(folder: Path) -> None:
    """See a folder's entries onto the disk: a file's own flush does not name it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_files(paths: list[Path]) -> None:
    """See files and their names onto the disk.

    Raises
    ------
    OSError
        One is not there.
    """
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    for parent in {path.parent for path in paths}:
        sync_folder(parent)
