"""Checkpoints that a killed run is taken up from: complete or not there at all."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from esrgan_ext.errors import TrainingError, first_line
from esrgan_ext.inference.files import replacing

FORMAT = 1


def save(path: Path, content: dict[str, Any]) -> None:
    """Write to a temporary name, flush to the disk, rename."""
    with replacing(path) as part, part.open("wb") as file:
        torch.save({"format": FORMAT, **content}, file)
        file.flush()
        os.fsync(file.fileno())


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint; no code in it runs.

    Raises
    ------
    TrainingError
        The file is missing, damaged or of another format.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise TrainingError(f"{path}: no such checkpoint") from error
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise TrainingError(f"{path}: cannot be read: {first_line(error)}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise TrainingError(f"{path} is not a training checkpoint (a model? use --init for those)")
    return content
