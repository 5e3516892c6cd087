"""The user's own weight files: in `./models` and in the folders of `ESRGAN_MODEL_DIR`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# A .bin is found through its .param.
LISTED_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".param")


def user_folders() -> list[Path]:
    """`./models` and the folders of `ESRGAN_MODEL_DIR`, those that exist."""
    listed = os.environ.get("ESRGAN_MODEL_DIR", "").split(os.pathsep)
    folders = [Path("models"), *(Path(folder).expanduser() for folder in listed if folder)]
    return [folder for folder in folders if folder.is_dir()]


def user_files() -> Iterator[Path]:
    """Weight files in the user's folders, in the order in which they are searched."""
    for folder in user_folders():
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in LISTED_SUFFIXES and path.is_file():
                yield path
