"""Recognises an RRDBNet in an ncnn graph and names its convolutions.

Weights in a `.bin` carry no names: they follow each other in the order of the graph's layers.
So the graph is evaluated symbolically and compared, convolution by convolution, with the one
an RRDBNet has; only then do the numbers get their names. What the parameters of a layer mean is
in ncnn's wiki, "operation param weight table".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from esrgan_ext.errors import ModelError
from esrgan_ext.weights.ncnn_param import Layer

# The symbolic value of a blob is one of
#   Sum     {leaf: factor}, where a leaf is ("conv" | "lrelu", index of the convolution)
#           or ("input", 0): everything that is a weighted sum of convolutions' results
#   tuple   the concatenation of Sums along channels
#   ("up", Sum)         nearest x2 upsampling
#   ("unshuffle", 2|4, Sum)
Leaf = tuple[str, int]


@dataclass(frozen=True)
class Convolution:
    """A 3x3 convolution of the graph: its shape and what goes in."""

    layer: str
    in_channels: int
    out_channels: int
    input: object
    activated: bool


class Sum(dict[Leaf, float]):
    """A weighted sum of leaves; equal to another up to float32 rounding of the factors."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sum) or self.keys() != other.keys():
            return False
        return all(math.isclose(f, other[leaf], rel_tol=1e-4) for leaf, f in self.items())

    def plus(self, other: Sum, mine: float = 1.0, theirs: float = 1.0) -> Sum:
        result = Sum({leaf: mine * factor for leaf, factor in self.items()})
        for leaf, factor in other.items():
            result[leaf] = result.get(leaf, 0.0) + theirs * factor
        return result


def name_convolutions(layers: Sequence[Layer], source: str) -> list[tuple[str, tuple[int, int]]]:
    """Give the convolutions of an RRDBNet's graph their canonical names.

    Parameters
    ----------
    layers : sequence of Layer
    source : str
        Name of the file for messages.

    Returns
    -------
    list of (name, (out_channels, in_channels))
        In the order of the graph, which is the order of the weights in the `.bin`.

    Raises
    ------
    ModelError
        The graph is not an RRDBNet: the message names the first layer that differs.
    """
    graph = _Graph(source)
    for layer in layers:
        graph.add(layer)
    unshuffle, ups = graph.unshuffle, graph.upsamplings
    blocks, rest = divmod(len(graph.convolutions) - 4 - ups, 15)
    if blocks < 1 or rest:
        raise ModelError(
            f"{source}: {len(graph.convolutions)} convolutions with {ups} upsamplings are not an "
            "RRDBNet (it has 15 a block, 4 and one for each upsampling)"
        )
    expected = _expected_convolutions(blocks, ups, unshuffle)
    for (name, wanted_input, activated), found in zip(expected, graph.convolutions, strict=True):
        if found.input != wanted_input or found.activated != activated:
            raise ModelError(
                f"{source}: not an RRDBNet: layer {found.layer} stands where {name} should be, "
                f"but its {'activation' if found.input == wanted_input else 'input'} differs"
            )
    if graph.last_value != Sum({("conv", len(graph.convolutions) - 1): 1.0}):
        raise ModelError(f"{source}: not an RRDBNet: the output is not that of its last layer")
    return [
        (name, (conv.out_channels, conv.in_channels))
        for (name, _, _), conv in zip(expected, graph.convolutions, strict=True)
    ]


def _expected_convolutions(blocks: int, ups: int, unshuffle: int) -> list[tuple[str, object, bool]]:
    """Name, symbolic input and whether LeakyReLU follows, for each convolution of an RRDBNet."""
    found: list[tuple[str, object, bool]] = []

    def conv(name: str, value: object, activated: bool = False) -> Sum:
        found.append((name, value, activated))
        return Sum({("lrelu" if activated else "conv", len(found) - 1): 1.0})

    image = Sum({("input", 0): 1.0})
    first = x = conv("conv_first", ("unshuffle", unshuffle, image) if unshuffle > 1 else image)
    for block in range(blocks):
        entry = x
        for dense in (1, 2, 3):
            parts = [x]
            for k in range(1, 5):
                value = tuple(parts) if len(parts) > 1 else parts[0]
                parts.append(conv(f"body.{block}.rdb{dense}.conv{k}", value, True))
            fifth = conv(f"body.{block}.rdb{dense}.conv5", tuple(parts))
            x = fifth.plus(x, 0.2)
        x = x.plus(entry, 0.2)
    y = conv("conv_body", x).plus(first)
    for k in range(1, ups + 1):
        y = conv(f"conv_up{k}", ("up", y), True)
    conv("conv_last", conv("conv_hr", y, True))
    return found


class _Graph:
    """Evaluates layers symbolically; refuses what no RRDBNet contains."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.values: dict[str, object] = {}
        self.channels: dict[str, int | None] = {}
        self.convolutions: list[Convolution] = []
        self.upsamplings = 0
        self.unshuffle = 1
        self.last_value: object = None

    def fail(self, layer: Layer, reason: str) -> ModelError:
        return ModelError(f"{self.source}: not an RRDBNet: layer {layer.name}: {reason}")

    def add(self, layer: Layer) -> None:
        evaluate = {
            "Input": self._input,
            "Split": self._pass_on,
            "Noop": self._pass_on,
            "Convolution": self._convolution,
            "ReLU": self._relu,
            "Concat": self._concat,
            "Eltwise": self._eltwise,
            "BinaryOp": self._binary,
            "Interp": self._interp,
            "Reorg": self._reorg,
        }.get(layer.type)
        if evaluate is None:
            raise self.fail(layer, f"its type {layer.type} does not occur in one")
        missing = [blob for blob in layer.inputs if blob not in self.values]
        if missing:
            raise self.fail(layer, f"its input {missing[0]} is computed nowhere before it")
        if not layer.outputs or (layer.type != "Input" and not layer.inputs):
            raise self.fail(layer, "it has no input or no output")
        value, channels = evaluate(layer, [self.values[blob] for blob in layer.inputs])
        for blob in layer.outputs:
            self.values[blob], self.channels[blob] = value, channels
        self.last_value = value

    def _input(self, layer: Layer, inputs: list[object]) -> tuple[object, int | None]:
        return Sum({("input", 0): 1.0}), None

    def _pass_on(self, layer: Layer, inputs: list[object]) -> tuple[object, int | None]:
        return inputs[0], self.channels[layer.inputs[0]]

    def _convolution(self, layer: Layer, inputs: list[object]) -> tuple[object, int | None]:
        try:
            outputs, channels = conv3x3_channels(layer, self.channels[layer.inputs[0]])
        except ValueError as error:
            raise self.fail(layer, str(error)) from None
        activation, slope = layer.integer(9), layer.array(10)
        if activation not in (0, 2) or (activation == 2 and not _is_slope(slope[:1])):
            raise self.fail(layer, "its activation is not LeakyReLU with slope 0.2")
        index, activated = len(self.convolutions), activation == 2
        self.convolutions.append(Convolution(layer.name, channels, outputs, inputs[0], activated))
        return Sum({("lrelu" if activated else "conv", index): 1.0}), outputs

    def _relu(self, layer: Layer, inputs: list[object]) -> tuple[object, int | None]:
        index = len(self.convolutions) - 1
        if not _is_slope((layer.real(0),)) or inputs[0] != Sum({("conv", index): 1.0}):
            raise self.fail(layer, "not a LeakyReLU with slope 0.2 right after a convolution")
        conv = self.convolutions[index]
        self.convolutions[index] = replace(conv, activated=True)
        return Sum({("lrelu", index): 1.0}), conv.out_channels

    def _concat(self, layer: Layer, inputs: list[object]) -> tuple[object, int | None]:
        parts: list[object] = []
        for value in inputs:  # (x, a), b is the same as x, a, b
            parts.extend(value if type(value) is tuple and value[0] != "up" else [value])
        counts = [self.channels[blob] for blob in layer.inputs]
        if layer.integer(0) != 0 or not all(isinstance(part, Sum) for part in parts):
            raise self.fail(layer, "not a concatenation of features along the channels")
        if None in counts:
            raise self.fail(layer, "the image itself is concatenated")
        return tuple(parts), sum(count or 0 for count in counts)

    def _eltwise(self, layer: Layer, inputs: list[object]) -> tuple[object, int | None]:
        factors = layer.array(1) or (1.0,) * len(inputs)
        if layer.integer(0) != 1 or len(inputs) != 2 or len(factors) != 2:
            raise self.fail(layer, "not a weighted sum of two inputs")
        return self._sum(layer, inputs, factors)

    def _binary(self, layer: Layer, inputs: list[object]) -> tuple[object, int | None]:
        operation, scalar = layer.integer(0), layer.integer(1)
        if operation == 0 and not scalar and len(inputs) == 2:
            return self._sum(layer, inputs, (1.0, 1.0))
        if operation == 2 and scalar and isinstance(inputs[0], Sum):
            return inputs[0].plus(Sum(), layer.real(2)), self.channels[layer.inputs[0]]
        raise self.fail(layer, "neither a sum of two inputs nor a multiplication by a number")

    def _sum(
        self, layer: Layer, inputs: list[object], factors: Sequence[float]
    ) -> tuple[object, int | None]:
        a, b = inputs
        counts = [self.channels[blob] for blob in layer.inputs]
        if not isinstance(a, Sum) or not isinstance(b, Sum) or counts[0] != counts[1]:
            raise self.fail(layer, "it adds what has different shapes")
        return a.plus(b, *factors), counts[0]

    def _interp(self, layer: Layer, inputs: list[object]) -> tuple[object, int | None]:
        nearest_x2 = layer.integer(0) == 1 and layer.real(1) == layer.real(2) == 2.0
        fixed_size = layer.integer(3) or layer.integer(4)
        if not nearest_x2 or fixed_size or not isinstance(inputs[0], Sum):
            raise self.fail(layer, "not a nearest-neighbour upsampling by 2")
        self.upsamplings += 1
        return ("up", inputs[0]), self.channels[layer.inputs[0]]

    def _reorg(self, layer: Layer, inputs: list[object]) -> tuple[object, int | None]:
        factor = layer.integer(0)
        if factor not in (2, 4) or layer.integer(1) != 0 or self.unshuffle != 1:
            raise self.fail(layer, "not a pixel unshuffle by 2 or 4")
        self.unshuffle = factor
        return ("unshuffle", factor, inputs[0]), None


def conv3x3_channels(layer: Layer, before: int | None) -> tuple[int, int]:
    """Output and input channels of a 3x3 convolution.

    Parameters
    ----------
    layer : Layer
    before : int or None
        Channels of its input, where known.

    Raises
    ------
    ValueError
        It is another kind of convolution, or its number of weights is impossible.
    """
    outputs, kernel = layer.integer(0), layer.integer(1)
    pads = [layer.integer(4, 0)]
    pads += [layer.integer(key, pads[0]) for key in (14, 15, 16)]
    regular = (
        kernel == layer.integer(11, kernel) == 3
        and layer.integer(2, 1) == layer.integer(12, layer.integer(2, 1)) == 1
        and layer.integer(3, 1) == layer.integer(13, layer.integer(3, 1)) == 1
        and pads == [1, 1, 1, 1]
        and layer.real(18) == 0.0
        and layer.integer(5) == 1
    )
    if not regular:
        raise ValueError("not a 3x3 convolution with bias, stride 1 and padding 1")
    if layer.integer(8):
        raise ValueError("int8 weights are not supported, only fp32 and fp16")
    channels, rest = divmod(layer.integer(6), 9 * max(outputs, 1))
    if outputs < 1 or channels < 1 or rest or (before is not None and before != channels):
        raise ValueError("its number of weights does not fit its input and output")
    return outputs, channels


def _is_slope(values: Sequence[float]) -> bool:
    return len(values) == 1 and math.isclose(values[0], 0.2, rel_tol=1e-4)
