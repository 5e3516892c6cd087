"""Recognises an SRVGGNetCompact in an ncnn graph and names its numbers.

As `ncnn_graph` does for an RRDBNet: every blob gets a symbolic value, and whatever such a network
does not compute is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from esrgan_ext.errors import ModelError
from esrgan_ext.weights.ncnn_graph import conv3x3_channels
from esrgan_ext.weights.ncnn_param import Layer

# The slope that Real-ESRGAN gives this network's LeakyReLU.
_LEAKY_SLOPE = 0.1

# The factor of the last Interp (bicubic), and the scale that four-fold upsampling then comes to.
_REDUCTIONS = {0.5: 2, 0.75: 3}
_NEAREST, _BICUBIC = 1, 3


@dataclass(frozen=True)
class Value:
    """The role of a blob: the image, features after layer `index`, or a stage of the result."""

    kind: str
    index: int = 0


IMAGE = Value("image")


def is_compact(layers: Sequence[Layer]) -> bool:
    """Whether a graph is to be read here: it shuffles pixels, which no RRDBNet does."""
    return any(layer.type == "PixelShuffle" for layer in layers)


@dataclass
class CompactGraph:
    """The numbers of the network in the order of the `.bin`, and what they do not tell.

    Attributes
    ----------
    records : list of (str, tuple of int)
        Names and shapes of weights and slopes; a bias follows each weight.
    config : dict
        `activation` and `scale`, for `layouts.canonical`.
    """

    source: str
    records: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    _values: dict[str, Value] = field(default_factory=dict)
    _channels: int | None = None
    _shuffle: int = 0

    def fail(self, layer: Layer, reason: str) -> ModelError:
        return ModelError(f"{self.source}: not an SRVGGNetCompact: layer {layer.name}: {reason}")

    def add(self, layer: Layer) -> Value:
        evaluate: Callable[[Layer, list[Value]], Value] | None = {
            "Input": self._input,
            "Split": self._pass_on,
            "Noop": self._pass_on,
            "Convolution": self._convolution,
            "PReLU": self._prelu,
            "ReLU": self._relu,
            "PixelShuffle": self._pixel_shuffle,
            "Interp": self._interp,
            "BinaryOp": self._sum,
            "Eltwise": self._sum,
        }.get(layer.type)
        if evaluate is None:
            raise self.fail(layer, f"its type {layer.type} does not occur in one")
        missing = [blob for blob in layer.inputs if blob not in self._values]
        if missing:
            raise self.fail(layer, f"its input {missing[0]} is computed nowhere before it")
        if not layer.outputs or (layer.type != "Input" and not layer.inputs):
            raise self.fail(layer, "it has no input or no output")
        value = evaluate(layer, [self._values[blob] for blob in layer.inputs])
        for blob in layer.outputs:
            self._values[blob] = value
        return value

    def _input(self, layer: Layer, inputs: list[Value]) -> Value:
        return IMAGE

    def _pass_on(self, layer: Layer, inputs: list[Value]) -> Value:
        return inputs[0]

    def _convolution(self, layer: Layer, inputs: list[Value]) -> Value:
        try:
            outputs, channels = conv3x3_channels(layer, self._channels)
        except ValueError as error:
            raise self.fail(layer, str(error)) from None
        last = 2 * (sum(len(shape) == 4 for _, shape in self.records) - 1)
        expected = IMAGE if last < 0 else Value("activated", last)
        if inputs[0] != expected:
            raise self.fail(layer, "its input is not the activation before it")
        index = last + 2
        self.records.append((f"body.{index}", (outputs, channels, 3, 3)))
        self._channels = outputs
        kind, slope = layer.integer(9), layer.array(10)
        if kind == 0:
            return Value("convolved", index)
        if kind not in (1, 2) or (kind == 2 and len(slope) != 1):
            raise self.fail(layer, "its activation is none of PReLU, ReLU and LeakyReLU")
        return self._activated(layer, index, slope[0] if kind == 2 else 0.0)

    def _activated(self, layer: Layer, index: int, slope: float) -> Value:
        if slope != 0 and not math.isclose(slope, _LEAKY_SLOPE, rel_tol=1e-4):
            raise self.fail(layer, f"the slope of its LeakyReLU is {slope:g}, not {_LEAKY_SLOPE}")
        self._state(layer, "leakyrelu" if slope else "relu")
        return Value("activated", index)

    def _state(self, layer: Layer, activation: str) -> None:
        if self.config.setdefault("activation", activation) != activation:
            raise self.fail(layer, "another activation than that of the layers before")

    def _prelu(self, layer: Layer, inputs: list[Value]) -> Value:
        if inputs[0].kind != "convolved" or layer.integer(0) != self._channels:
            raise self.fail(layer, "not a PReLU with a slope a channel right after a convolution")
        self._state(layer, "prelu")
        self.records.append((f"body.{inputs[0].index + 1}", (layer.integer(0),)))
        return Value("activated", inputs[0].index)

    def _relu(self, layer: Layer, inputs: list[Value]) -> Value:
        if inputs[0].kind != "convolved":
            raise self.fail(layer, "not right after a convolution")
        return self._activated(layer, inputs[0].index, layer.real(0))

    def _pixel_shuffle(self, layer: Layer, inputs: list[Value]) -> Value:
        if inputs[0].kind != "convolved" or layer.integer(1) or self._shuffle:
            raise self.fail(layer, "not the pixel shuffle of the last convolution")
        self._shuffle = layer.integer(0)
        return Value("shuffled")

    def _interp(self, layer: Layer, inputs: list[Value]) -> Value:
        kind, factor = layer.integer(0), layer.real(1)
        if factor != layer.real(2) or layer.integer(3) or layer.integer(4) or layer.integer(6):
            raise self.fail(layer, "not an interpolation by one factor with half-pixel centres")
        if kind == _NEAREST and inputs[0] == IMAGE and factor == int(factor):
            return Value("enlarged", int(factor))
        if kind == _BICUBIC and inputs[0].kind == "summed" and factor in _REDUCTIONS:
            if self._shuffle != 4:
                raise self.fail(layer, "only the result of four-fold upsampling may be reduced")
            self.config["scale"] = _REDUCTIONS[factor]
            return Value("reduced")
        raise self.fail(
            layer, "neither the image enlarged by nearest neighbour nor the sum reduced by bicubic"
        )

    def _sum(self, layer: Layer, inputs: list[Value]) -> Value:
        plain = layer.type == "Eltwise" and layer.integer(0) == 1 and set(layer.array(1)) <= {1.0}
        plain |= layer.type == "BinaryOp" and layer.integer(0) == layer.integer(1) == 0
        if not plain or sorted((v.kind, v.index) for v in inputs) != [
            ("enlarged", self._shuffle),
            ("shuffled", 0),
        ]:
            raise self.fail(layer, "not the sum of pixel shuffle and enlarged image")
        self.config.setdefault("scale", self._shuffle)
        return Value("summed")


def read_compact(layers: Sequence[Layer], source: str) -> CompactGraph:
    """Name the numbers of an SRVGGNetCompact's graph.

    Parameters
    ----------
    layers : sequence of Layer
    source : str
        Name of the file for messages.

    Raises
    ------
    ModelError
        The graph is another one: the message names the first layer that differs.
    """
    graph = CompactGraph(source)
    value = IMAGE
    for layer in layers:
        value = graph.add(layer)
    if value.kind not in ("summed", "reduced"):
        raise ModelError(
            f"{source}: not an SRVGGNetCompact: its last layer does not give the result"
        )
    return graph
