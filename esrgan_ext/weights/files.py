"""Reads weight files into plain state dicts: `.pth`, `.safetensors`, ncnn `.param` with `.bin`,
and packages of the BioImage.IO zoo.

No file can run code: pickles are read with ``torch.load(weights_only=True)``, and what that
refuses with `pickles`, where every object that is no tensor is an inert placeholder. Which network
the tensors belong to is found out in `layouts`.
"""

from __future__ import annotations

import json
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from esrgan_ext.errors import ModelError
from esrgan_ext.weights import ncnn
from esrgan_ext.weights.pickles import load_with_inert_objects
from esrgan_ext.weights.zoo import reading

TORCH_SUFFIXES = (".pth", ".pt", ".ckpt")
SUFFIXES = (*TORCH_SUFFIXES, ".safetensors", ".param", ".bin", ".zip")

# Under which key a training checkpoint keeps the generator, the one to prefer first:
# Real-ESRGAN's `params_ema` is the averaged network, which is the one to use.
WRAPPERS = (
    "params_ema", "net_g_ema", "generator_ema", "ema", "params", "net_g", "netG", "generator", "G",
    "state_dict", "model_state_dict", "model", "network", "net",
)  # fmt: skip

# Our own files say under this key what the tensors cannot (see `export`).
METADATA_KEY = "esrgan_ext"


# How torch.load words its refusal of objects that are not plain tensors. 147 and 149 are the
# operations STACK_GLOBAL and FRAME of newer pickles, which torch.save does not write.
_SIGNS_OF_OBJECTS = (
    "Unsupported global",
    "Unsupported class",
    "Trying to",
    "Unsupported operand 147",
    "Unsupported operand 149",
)


@dataclass(frozen=True)
class WeightsFile:
    """The content of a file of weights.

    Attributes
    ----------
    tensors : dict of str to Tensor
        As named in the file.
    metadata : dict
        Entries that `export.save_model` wrote beside the tensors, or that an ncnn graph states;
        else empty. Not trusted: it came with the file.
    scale : int or None
        That the package around the tensors states.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, Any] = field(default_factory=dict)
    scale: int | None = None


def read_weights_file(path: Path, *, shapes_only: bool = False) -> WeightsFile:
    """Read a weights file of any supported format.

    Parameters
    ----------
    path : Path
        `.pth`, `.pt`, `.ckpt`, `.safetensors`, one of a pair `.param` and `.bin`, or a package:
        a `.zip`, or the `rdf.yaml` of a folder.
    shapes_only : bool
        Leave the numbers in the file as far as the format allows; for tables of models.

    Returns
    -------
    WeightsFile
        Tensors on the CPU; with `shapes_only` they may be on the meta device or mapped files.

    Raises
    ------
    ModelError
        The file is missing, damaged, of another kind, or holds no tensors. The message names
        the file.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such file" if not path.exists() else f"{path}: not a file")
    _check_it_was_downloaded(path)
    if reading.is_package(path):
        return _read_package(path, shapes_only)
    suffix = path.suffix.lower()
    if suffix in (".param", ".bin"):
        param, binary = ncnn_pair(path)
        read = ncnn.read_shapes(param) if shapes_only else ncnn.read_ncnn(param, binary)
        state, config = read
        return WeightsFile(state, {"config": config})
    if suffix == ".safetensors":
        return _read_safetensors(path, shapes_only)
    if suffix in TORCH_SUFFIXES:
        return _read_torch(path, shapes_only)
    raise ModelError(
        f"{path}: {suffix or 'a file without suffix'} is not a weights format; "
        f"use one of {', '.join(SUFFIXES)}"
    )


def _read_package(path: Path, shapes_only: bool) -> WeightsFile:
    with reading.opened(path) as package:
        try:
            inner = _read_torch(package.weights, shapes_only)
        except ModelError as error:
            reason = str(error).removeprefix(f"{package.weights}: ")
            raise ModelError(f"{path}: its PyTorch weights: {reason}") from error
        return WeightsFile(
            inner.tensors, {**package.facts, "config": package.config}, package.scale
        )


def _check_it_was_downloaded(path: Path) -> None:
    """A web page or a Git LFS pointer under the weights' name says so at once."""
    try:
        with path.open("rb") as file:
            start = file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error
    if start.startswith(b"version https://git-lfs"):
        raise ModelError(
            f"{path}: a Git LFS pointer, a small text that stands for the weights. Download the "
            "file itself: `git lfs pull` in its repository, or the page's own download button"
        )
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml", b"<!--")):
        raise ModelError(
            f"{path}: a web page, not weights: what was saved is the page about the file, or an "
            "error. Download it again, by the link to the file itself"
        )


def ncnn_pair(path: Path) -> tuple[Path, Path]:
    """The `.param` and `.bin` of which `path` is one; ModelError where the other is missing."""
    param, binary = path.with_suffix(".param"), path.with_suffix(".bin")
    for part in (param, binary):
        if not part.is_file():
            raise ModelError(f"{path}: an ncnn model is two files, and {part.name} is missing")
    return param, binary


def _read_safetensors(path: Path, shapes_only: bool) -> WeightsFile:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            tensors = {
                key: torch.empty(file.get_slice(key).get_shape(), device="meta")
                if shapes_only
                else file.get_tensor(key)
                for key in file.keys()  # noqa: SIM118
            }
            text = (file.metadata() or {}).get(METADATA_KEY, "{}")
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path}: not a safetensors file, or a damaged one ({error})") from error
    if not tensors:
        raise ModelError(f"{path}: holds no tensors")
    try:
        metadata = json.loads(text)
    except json.JSONDecodeError:
        metadata = {}
    return WeightsFile(tensors, metadata if isinstance(metadata, dict) else {})


def _read_torch(path: Path, shapes_only: bool) -> WeightsFile:
    damaged = ModelError(f"{path}: not a PyTorch checkpoint, or a damaged one")
    try:
        mmap = shapes_only and zipfile.is_zipfile(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch comments on damaged files before it fails
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        if not any(sign in str(error) for sign in _SIGNS_OF_OBJECTS):
            raise damaged from error
        try:
            content = load_with_inert_objects(path, mmap=mmap)
        except Exception as other:  # as below
            raise damaged from other
    except Exception as error:  # a damaged archive or pickle can raise nearly anything
        raise damaged from error
    return _unwrap(content, path)


def _unwrap(content: object, path: Path) -> WeightsFile:
    if not isinstance(content, Mapping):
        raise ModelError(
            f"{path}: holds a {type(content).__name__}, expected a dictionary of tensors"
        )
    metadata = content.get(METADATA_KEY, {})
    inner = _innermost(content)
    tensors = {
        key: value.detach()  # a Parameter asks for gradients
        for key, value in inner.items()
        if isinstance(key, str) and isinstance(value, Tensor)
    }
    if not tensors:
        keys = ", ".join(str(key) for key in list(inner)[:4]) or "none"
        raise ModelError(f"{path}: holds no tensors; its keys are: {keys}")
    return WeightsFile(tensors, dict(metadata) if isinstance(metadata, Mapping) else {})


def _innermost(content: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """The generator's tensors in a training checkpoint, which may wrap them more than once."""
    for key in WRAPPERS:
        if isinstance(inner := content.get(key), Mapping) and _holds_tensors(inner):
            return _innermost(inner)
    return content


def _holds_tensors(content: Mapping[Any, Any]) -> bool:
    return any(
        isinstance(value, Tensor) or (isinstance(value, Mapping) and _holds_tensors(value))
        for value in content.values()
    )
