"""Parses ncnn's `.param`: a graph of layers as text (ncnn wiki, "param and model file structure").

What the layers mean is up to `ncnn_graph`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from esrgan_ext.errors import ModelError

MAGIC = "7767517"
ARRAY_KEY = -23300  # key -23300-k holds an array for parameter k

Value = int | float | tuple[int | float, ...]


@dataclass(frozen=True)
class Layer:
    """One line of a `.param` file."""

    type: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    params: Mapping[int, Value]

    def integer(self, key: int, default: int = 0) -> int:
        value = self.params.get(key, default)
        return int(value) if isinstance(value, int | float) else default

    def real(self, key: int, default: float = 0.0) -> float:
        value = self.params.get(key, default)
        return float(value) if isinstance(value, int | float) else default

    def array(self, key: int) -> tuple[float, ...]:
        value = self.params.get(key, ())
        return tuple(float(v) for v in value) if isinstance(value, tuple) else (float(value),)


def parse_param(text: str, source: str) -> list[Layer]:
    """Parse the text of a `.param` file.

    Parameters
    ----------
    text : str
    source : str
        Name of the file for messages.

    Returns
    -------
    list of Layer
        In the file's order, which ncnn requires to be one the graph can be run in.

    Raises
    ------
    ModelError
        Wrong magic number, counts that do not match, or a malformed line.
    """
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if not lines or lines[0] != [MAGIC]:
        raise ModelError(f"{source}: not an ncnn .param file (it does not begin with {MAGIC})")
    try:
        layer_count, blob_count = (int(word) for word in lines[1])
    except (IndexError, ValueError) as error:
        raise ModelError(f"{source}: line 2 must hold the counts of layers and blobs") from error
    layers = [
        _parse_layer(words, f"{source}, line {number}") for number, words in enumerate(lines[2:], 3)
    ]
    blobs = {blob for layer in layers for blob in layer.outputs}
    if len(layers) != layer_count or len(blobs) != blob_count:
        raise ModelError(
            f"{source}: {layer_count} layers and {blob_count} blobs are announced but "
            f"{len(layers)} and {len(blobs)} found; the file is truncated or edited"
        )
    return layers


def _parse_layer(words: Sequence[str], where: str) -> Layer:
    try:
        kind, name, inputs, outputs = words[0], words[1], int(words[2]), int(words[3])
        first_param = 4 + inputs + outputs
        if inputs < 0 or outputs < 0 or first_param > len(words):
            raise ValueError("too few words")
        params = dict(_parse_parameter(word) for word in words[first_param:])
    except (IndexError, ValueError) as error:
        raise ModelError(f"{where}: not a valid layer ({error})") from error
    blobs = tuple(words[4:first_param])
    return Layer(kind, name, blobs[:inputs], blobs[inputs:], params)


def _parse_parameter(word: str) -> tuple[int, Value]:
    key_text, separator, text = word.partition("=")
    if not separator:
        raise ValueError(f"{word!r} is not key=value")
    key = int(key_text)
    if key > ARRAY_KEY:
        return key, _number(text)
    length, *items = text.split(",")
    if int(length) != len(items):
        raise ValueError(f"{word!r} announces {length} items")
    return ARRAY_KEY - key, tuple(_number(item) for item in items)


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text!r} is not a finite number")
    return number
