"""Keeps the finished part of a run beside its target, so that a killed run can continue.

``clip.mp4.unfinished`` holds what the run was asked for (`run.json`) and the finished segments. A
segment is written under a temporary name, flushed and renamed: what bears its name is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from esrgan_ext.errors import ResumeError

_SAMPLE = 1 << 20


def identity(path: Path) -> dict[str, Any]:
    """Identity of a file: its size, and a hash of its first and last megabyte."""
    size = path.stat().st_size
    digest = hashlib.sha256()
    with path.open("rb") as file:
        digest.update(file.read(_SAMPLE))
        file.seek(max(0, size - _SAMPLE))
        digest.update(file.read(_SAMPLE))
    return {"size": size, "sha256": digest.hexdigest()}


class ProgressFolder:
    """The folder of one run.

    Parameters
    ----------
    target : Path
        The file that the run makes.
    asked : dict
        Plain types: the source's identity and every option that the frames depend on.
    fresh : bool
        Discard what an earlier run left.

    Raises
    ------
    ResumeError
        An unfinished run with other options is there.
    """

    def __init__(self, target: Path, asked: dict[str, Any], *, fresh: bool = False) -> None:
        self.path = target.with_name(target.name + ".unfinished")
        if fresh and self.path.is_dir():
            shutil.rmtree(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        record = self.path / "run.json"
        text = json.dumps(asked, indent=1, sort_keys=True, default=str)
        if record.is_file():
            self._compare(record, json.loads(text))
        else:
            self._write(record, lambda part: part.write_text(text))
        for left in self.path.glob("*.part"):
            left.unlink()

    def _compare(self, record: Path, asked: dict[str, Any]) -> None:
        try:
            before = json.loads(record.read_text())
        except ValueError as error:
            raise ResumeError(
                f"{self.path}: its record is damaged; delete the folder, or give --overwrite"
            ) from error
        changed = sorted(k for k in {*before, *asked} if before.get(k) != asked.get(k))
        if changed:
            raise ResumeError(
                f"{self.path} is of a run with another {', '.join(changed)}: run that again, "
                "delete the folder, or give --overwrite to start over"
            )

    def segment(self, number: int) -> Path:
        """Where a segment is, or will be."""
        return self.path / f"{number:06}.segment"

    def finished(self, number: int) -> bool:
        """Whether a segment is there, whole."""
        return self.segment(number).is_file()

    def keep(self, number: int, write: Callable[[Path], Any]) -> None:
        """Have `write` write a segment, and give it its name when it is on the disk."""
        self._write(self.segment(number), write)

    @staticmethod
    def _write(path: Path, write: Callable[[Path], Any]) -> None:
        part = path.with_name(path.name + ".part")
        write(part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)

    def joined(self) -> Path:
        """Where the whole result is put together before it gets its name."""
        return self.path / "joined.part"

    def remove(self) -> None:
        """The run is finished."""
        shutil.rmtree(self.path)
