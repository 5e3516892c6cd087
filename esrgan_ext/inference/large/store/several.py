"""A store of several images: one group each, "0", "1", ..., as bioformats2raw lays them out
(ngff.openmicroscopy.org, "bioformats2raw.layout"). It grows beside its place and is renamed when
all images are there."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import zarr

from esrgan_ext.errors import ResumeError
from esrgan_ext.inference.files import replacing

_PLAN = "images.json"


def begun(target: Path) -> list[Any]:
    """Identity of an unfinished collection's images; empty where there is none."""
    try:
        found = json.loads((_folder(target) / _PLAN).read_text())
    except (FileNotFoundError, ValueError):
        return []
    return [one if isinstance(one, dict) else None for one in found] if found else []


def begin(target: Path, identities: list[dict[str, Any]], overwrite: bool) -> Path:
    """The folder in which the images grow, made or found as an earlier run left it.

    Raises
    ------
    ResumeError
        The earlier run was given something else.
    """
    folder = _folder(target)
    if overwrite and folder.exists():
        shutil.rmtree(folder)
    plan = folder / _PLAN
    asked = json.loads(json.dumps(identities))
    if plan.exists():
        try:
            found = json.loads(plan.read_text())
        except ValueError:
            found = None
        if found != asked:
            raise ResumeError(
                f"{folder}: an unfinished result is there, made by another model, from another "
                "source or with other options. Give the same to continue it, or overwrite it"
            )
    with replacing(plan) as part:
        part.write_text(json.dumps(asked))
    return folder


def _folder(target: Path) -> Path:
    return target.with_name(f"{target.name}.images.unfinished")


def finish(folder: Path, target: Path, images: int, version: str) -> None:
    """Say which images there are, and give the collection its name."""
    (folder / _PLAN).unlink(missing_ok=True)
    series = [str(number) for number in range(images)]
    kind: Literal[2, 3] = 3 if version == "0.5" else 2
    root = zarr.open_group(str(folder), mode="a", zarr_format=kind)
    beside = root.require_group("OME")
    if version == "0.5":
        root.attrs["ome"] = {"version": version, "bioformats2raw.layout": 3}
        beside.attrs["ome"] = {"version": version, "series": series}
    else:
        root.attrs["bioformats2raw.layout"] = 3
        beside.attrs["series"] = series
    replaced = target.with_name(f"{target.name}.replaced")
    if target.exists():
        os.replace(target, replaced)
    os.replace(folder, target)
    with suppress(OSError):
        shutil.rmtree(replaced)
