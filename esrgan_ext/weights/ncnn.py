"""Reads weights out of ncnn's `.param` (the graph as text) and `.bin` (the numbers)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from esrgan_ext.errors import ModelError
from esrgan_ext.weights.ncnn_compact import is_compact, read_compact
from esrgan_ext.weights.ncnn_graph import name_convolutions
from esrgan_ext.weights.ncnn_param import parse_param

FLAG_FP32 = 0
FLAG_FP16 = 0x01306B47

Record = tuple[str, tuple[int, ...]]
"""A convolution's name and OIHW shape, or that of a PReLU and its slopes."""


def read_ncnn(param: Path, binary: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a network.

    Parameters
    ----------
    param, binary : Path
        The two files.

    Returns
    -------
    dict of str to Tensor
        Canonical names in network order; float32, contiguous, OIHW.
    dict
        Parts of the configuration that the graph states and the tensors do not.

    Raises
    ------
    ModelError
        A file is missing, damaged or truncated, has bytes left over, holds numbers in a format
        other than fp32 and fp16, or the graph is neither an RRDBNet nor an SRVGGNetCompact.
    """
    records, config = _records(param)
    return read_weights(binary, records), config


def read_shapes(param: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The result of `read_ncnn` on the meta device: no numbers are read."""
    records, config = _records(param)
    state: dict[str, Tensor] = {}
    for name, shape in records:
        state[f"{name}.weight"] = torch.empty(shape, device="meta")
        if len(shape) == 4:
            state[f"{name}.bias"] = torch.empty(shape[0], device="meta")
    return state, config


def _records(param: Path) -> tuple[Sequence[Record], dict[str, Any]]:
    layers = parse_param(read_text(param), param.name)
    if is_compact(layers):
        compact = read_compact(layers, param.name)
        return compact.records, compact.config
    named = name_convolutions(layers, param.name)
    return [(name, (outputs, inputs, 3, 3)) for name, (outputs, inputs) in named], {}


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except UnicodeDecodeError as error:
        raise ModelError(f"{path}: not an ncnn .param file (it is not text)") from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error


def read_weights(path: Path, records: Sequence[Record]) -> dict[str, Tensor]:
    """Read the numbers of a `.bin`: per convolution a flag, the weights and the fp32 biases, and
    fp32 slopes."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error
    reader = _Reader(path, data)
    state: dict[str, Tensor] = {}
    for name, shape in records:
        if len(shape) == 1:
            state[f"{name}.weight"] = torch.from_numpy(reader.floats(shape[0], name))
            continue
        weights = reader.flagged(math.prod(shape), name).reshape(shape)
        state[f"{name}.weight"] = torch.from_numpy(weights)
        state[f"{name}.bias"] = torch.from_numpy(reader.floats(shape[0], name))
    reader.finish()
    return state


class _Reader:
    """Takes numbers off a `.bin` file, one record after the other."""

    def __init__(self, path: Path, data: bytes) -> None:
        self.path, self.data, self.position = path, data, 0

    def take(self, count: int, name: str) -> bytes:
        end = self.position + count
        if end > len(self.data):
            raise ModelError(
                f"{self.path}: truncated: {len(self.data)} bytes, and {name} ends at {end}"
            )
        piece = self.data[self.position : end]
        self.position = end
        return piece

    def floats(self, count: int, name: str) -> np.ndarray:
        return np.frombuffer(self.take(4 * count, name), "<f4").astype(np.float32)

    def flagged(self, count: int, name: str) -> np.ndarray:
        flag = int.from_bytes(self.take(4, name), "little")
        if flag == FLAG_FP32:
            return self.floats(count, name)
        if flag != FLAG_FP16:
            raise ModelError(
                f"{self.path}: {name} is stored in a format with flag 0x{flag:08X}; only fp32 (0) "
                f"and fp16 (0x{FLAG_FP16:08X}) are supported. Either the file does not belong to "
                "its .param or it is quantized"
            )
        padded = self.take((2 * count + 3) // 4 * 4, name)  # records are aligned to 4 bytes
        return np.frombuffer(padded, "<f2", count).astype(np.float32)

    def finish(self) -> None:
        rest = len(self.data) - self.position
        if rest:
            raise ModelError(
                f"{self.path}: {rest} bytes are left over after the last layer; the file does not "
                "belong to its .param"
            )
