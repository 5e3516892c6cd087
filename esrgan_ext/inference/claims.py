"""One GPU a process: a worker takes the first that no other worker on this machine has taken.

A claim is a lock on a file named after the GPU. The system lets go of it when the process ends,
however it ends, and no two workers have to know of each other.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from pathlib import Path

import torch
from filelock import FileLock, Timeout

_held: tuple[int, int, FileLock] | None = None  # process, GPU, lock


def claim_gpu(names: list[str] | None = None, folder: Path | None = None) -> int:
    """Take a GPU for the life of this process; asked again, it is the same one.

    Parameters
    ----------
    names : list of str, optional
        A name that is unique on the machine for each GPU; by default their UUIDs.
    folder : Path, optional
        Where the lock files are; by default one in the system's folder for temporary files.

    Returns
    -------
    int
        Its index. Where all are taken, GPUs are shared, with a warning.
    """
    global _held
    if _held is not None and _held[0] == os.getpid():
        return _held[1]
    if names is None:
        names = [
            str(torch.cuda.get_device_properties(k).uuid) for k in range(torch.cuda.device_count())
        ]
    if folder is None:
        folder = Path(tempfile.gettempdir()) / f"esrgan-gpus-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    for index, name in enumerate(names):
        lock = FileLock(folder / f"{name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        _held = (os.getpid(), index, lock)
        return index
    shared = os.getpid() % len(names)
    warnings.warn(
        f"all {len(names)} GPUs have a worker already; sharing GPU {shared}. As many workers as "
        "GPUs are fastest",
        RuntimeWarning,
        stacklevel=2,
    )
    return shared
