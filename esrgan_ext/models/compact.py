"""SRVGGNetCompact, Real-ESRGAN's small network for video and for CPUs (arXiv 2107.10833's code).

A chain of convolutions at the input's resolution, pixel shuffle, and the input enlarged by nearest
neighbour. The state dict uses Real-ESRGAN's names: `body.0` is the first convolution, `body.1` its
activation, and so on; the last convolution has the highest number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esrgan_ext.models.kernels import CpuKernels
from esrgan_ext.models.network import SRNetwork, records_operations
from esrgan_ext.ops import cpu, eager
from esrgan_ext.ops.cuda import FusedNetwork
from esrgan_ext.ops.eager import OnWork
from esrgan_ext.ops.torch_fused import TorchNetwork

Activation = Literal["prelu", "relu", "leakyrelu"]

# The slope that Real-ESRGAN gives this network's LeakyReLU (not RRDBNet's 0.2).
NEGATIVE_SLOPE = 0.1

# Rows of context for the last convolution (1) and the reduction (1) of a strip of the result.
TAIL_HALO = 2

# Pixels of the input in one strip of the result: 50 MB at x4.
TAIL_STRIP_PIXELS = 65_536

# The kernels compute in tiles of this side.
WINOGRAD_TILE = 4

# The free parameter of the cubic that ncnn, OpenCV and torch interpolate with.
CUBIC = -0.75


@dataclass(frozen=True)
class CompactConfig:
    """Shape of an SRVGGNetCompact.

    Attributes
    ----------
    in_channels : int
        Channels of the image, in and out.
    nf, num_conv : int
        Feature channels; convolutions from nf to nf, each with an activation.
    upsampling : int
        Factor of the pixel shuffle, 1 to 8.
    activation : {'prelu', 'relu', 'leakyrelu'}
        PReLU has a slope for each channel, LeakyReLU is 0.1.
    scale : int or None
        Output pixels per input pixel along each axis; `upsampling` if None. Where it is smaller
        (2 or 3 out of 4), the result is reduced by bicubic interpolation without antialiasing, as
        in the published realesr-animevideov3-x2 and -x3.

    Examples
    --------
    >>> from esrgan_ext.models import CompactConfig
    >>> CompactConfig(upsampling=4, scale=2).reduced  # the published realesr-animevideov3-x2
    True
    """

    in_channels: int = 3
    nf: int = 64
    num_conv: int = 16
    upsampling: int = 4
    activation: Activation = "prelu"
    scale: int = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        for field in ("in_channels", "nf"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, got {getattr(self, field)}")
        if self.num_conv < 0:
            raise ValueError(f"num_conv must not be negative, got {self.num_conv}")
        if not 1 <= self.upsampling <= 8:
            raise ValueError(f"upsampling must be 1 to 8, got {self.upsampling}")
        if self.activation not in get_args(Activation):
            raise ValueError(f"activation must be prelu, relu or leakyrelu, not {self.activation}")
        if self.scale is None:
            object.__setattr__(self, "scale", self.upsampling)
        if self.scale != self.upsampling and (self.upsampling != 4 or self.scale not in (2, 3)):
            raise ValueError(
                "scale must be that of the upsampling, or 2 or 3 where that is 4, "
                f"got {self.scale} and {self.upsampling}"
            )

    @property
    def out_channels(self) -> int:
        """Those of the input: the enlarged input is added to the result."""
        return self.in_channels

    @property
    def nb(self) -> int:
        """The figure that tables show as blocks."""
        return self.num_conv

    @property
    def reduced(self) -> bool:
        """Whether the pixel shuffle's result is larger than the network's."""
        return self.scale != self.upsampling

    @property
    def reach(self) -> int:
        """Pixels of the input around an output pixel that its rounding depends on.

        The kernels compute a tile of 4x4 pixels from its surroundings as a whole, so with every
        convolution but the first one more tile enters, at last 1 + 1 pixels, and the reduction adds
        one. Without rounding it is less: one pixel a convolution.
        """
        return WINOGRAD_TILE * (self.num_conv + 1) + 1 + int(self.reduced)


class SRVGGNetCompact(SRNetwork):
    """The compact generator.

    Parameters
    ----------
    config : CompactConfig

    Notes
    -----
    Convolution and activation, 1 + num_conv times; a convolution to in_channels * upsampling**2;
    pixel shuffle; plus the input enlarged by nearest neighbour.

    Examples
    --------
    >>> import torch
    >>> from esrgan_ext.models import CompactConfig, SRVGGNetCompact
    >>> SRVGGNetCompact(CompactConfig(nf=16, num_conv=2)).eval()(torch.zeros(1, 3, 8, 9)).shape
    torch.Size([1, 3, 32, 36])
    """

    # Windows begin where the kernels' tiles do: a pixel is then computed by the same operations
    # in a window as in the whole image, and tiles equal it to the bit.
    alignment = WINOGRAD_TILE

    def __init__(self, config: CompactConfig | None = None) -> None:
        super().__init__()
        config = config or CompactConfig()
        self.config = config
        self.scale = config.scale
        self.in_channels = self.out_channels = config.in_channels
        nf = config.nf
        body: list[nn.Module] = []
        for k in range(1 + config.num_conv):
            body += [nn.Conv2d(nf if k else config.in_channels, nf, 3, padding=1), self._act()]
        body.append(nn.Conv2d(nf, config.in_channels * config.upsampling**2, 3, padding=1))
        self.body = nn.ModuleList(body)
        self._constant: Tensor | None = None
        self._packed = cpu.PackedWeights()

    def _act(self) -> nn.Module:
        if self.config.activation == "prelu":
            return nn.PReLU(self.config.nf)
        return nn.LeakyReLU(NEGATIVE_SLOPE) if self.config.activation == "leakyrelu" else nn.ReLU()

    def convolutions(self) -> list[nn.Conv2d]:
        """All convolutions in order.

        Returns
        -------
        list of nn.Conv2d
            ``num_conv + 2``: the first, those between, the last.

        Examples
        --------
        >>> from esrgan_ext.models import CompactConfig, SRVGGNetCompact
        >>> len(SRVGGNetCompact(CompactConfig(num_conv=16)).convolutions())
        18
        """
        return [layer for layer in self.body if isinstance(layer, nn.Conv2d)]

    def plain_forward(self, x: Tensor) -> Tensor:
        y = x
        for layer in self.body:
            y = layer(y)
        factor = self.config.upsampling
        y = F.pixel_shuffle(y, factor) + F.interpolate(x, scale_factor=factor, mode="nearest")
        return reduced(y, self.scale) if self.config.reduced else y

    @torch.no_grad()
    def strips(self, x: Tensor, on_work: OnWork | None = None) -> Iterator[tuple[int, Tensor]]:
        n, _, height, width = x.shape
        if x.numel() == 0:
            yield 0, x.new_empty((n, self.out_channels, height * self.scale, width * self.scale))
            return
        if self.kernels.supports(x):
            yield from self.kernels.strips(x, on_work, n * self.macs(height, width))
            return
        y = x = x.contiguous(memory_format=torch.channels_last)
        for layer in self.body[:-1]:
            if isinstance(layer, nn.Conv2d):
                y = eager.conv3x3(y, layer.weight, layer.bias, on_work)
            elif self.config.activation == "prelu":
                y = layer(y)
            else:
                y = F.leaky_relu_(y, getattr(layer, "negative_slope", 0.0))
        rows = max(TAIL_HALO, TAIL_STRIP_PIXELS // max(1, n * width))
        for top in range(0, height, rows):
            bottom = min(top + rows, height)
            first, end = max(top - TAIL_HALO, 0), min(bottom + TAIL_HALO, height)
            counted = None
            if on_work is not None:  # the halo's rows are computed twice but count once
                counted = partial(_scaled, on_work, (bottom - top) / (end - first))
            strip = self._tail(y[:, :, first:end], x[:, :, first:end], counted)
            yield (
                top * self.scale,
                strip[:, :, (top - first) * self.scale : (bottom - first) * self.scale],
            )

    def forward(self, x: Tensor, on_work: OnWork | None = None) -> Tensor:
        inference = not records_operations()
        if torch.jit.is_tracing():  # where even a tensor's sides are tensors
            return super().forward(x, on_work)
        valid = x.ndim == 4 and x.shape[1] == self.in_channels and x.numel() > 0
        if on_work is None and inference and valid and self.kernels.supports(x):
            return self.kernels.run(x)
        return super().forward(x, on_work)

    def same_in_batches(self, x: Tensor) -> bool:
        return self.kernels.supports(x)

    def fused(self) -> FusedNetwork | None:
        if self.convolutions()[0].weight.device.type != "cuda":
            return None
        return TorchNetwork(self._shape(), self, self.strips)  # type: ignore[arg-type]

    @property
    def kernels(self) -> CpuKernels:
        """The compiled kernels for this network; on GPUs torch's convolutions run it."""
        return CpuKernels(self._shape(), self._kernel_parameters, self._packed)

    def _shape(self) -> cpu.CompactShape:
        c = self.config
        return cpu.CompactShape(c.in_channels, c.nf, c.num_conv, c.upsampling, c.scale)

    def _kernel_parameters(self) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        layers = self.convolutions()
        biases = [layer.bias for layer in layers if layer.bias is not None]
        return [layer.weight for layer in layers], biases, self._slopes()

    def _slopes(self) -> list[Tensor]:
        """A slope for each channel after each convolution but the last."""
        slopes: list[Tensor] = [layer.weight for layer in self.body if isinstance(layer, nn.PReLU)]
        if self.config.activation != "prelu":
            slope = NEGATIVE_SLOPE if self.config.activation == "leakyrelu" else 0.0
            slopes = [self._constant_slopes(slope)] * (1 + self.config.num_conv)
        return slopes

    def _constant_slopes(self, slope: float) -> Tensor:
        if self._constant is None:  # made once: packed weights go by addresses
            self._constant = torch.full((self.config.nf,), slope, dtype=torch.float32, device="cpu")
        return self._constant

    def _tail(self, y: Tensor, x: Tensor, on_work: OnWork | None) -> Tensor:
        last = self.convolutions()[-1]
        y = eager.conv3x3(y, last.weight, last.bias, on_work)
        factor = self.config.upsampling
        # The input repeated before the shuffle is the input enlarged by nearest neighbour after it.
        y = F.pixel_shuffle(y.add_(x.repeat_interleave(factor**2, 1)), factor)
        return reduced(y, self.scale) if self.config.reduced else y

    def macs(self, height: int, width: int) -> int:
        return height * width * sum(layer.weight.numel() for layer in self.convolutions())

    def activation_bytes(self, height: int, width: int, itemsize: int) -> int:
        # Two layers' features and one's activation; a strip of the result and what made it.
        config = self.config
        weight = self.convolutions()[0].weight
        if itemsize == weight.dtype.itemsize and self.kernels.supports(weight):
            return self._shape().working_bytes(height, width)
        rows = max(TAIL_HALO, TAIL_STRIP_PIXELS // max(1, width)) + 2 * TAIL_HALO
        strip = min(height, rows) * width * 4 * config.in_channels * config.upsampling**2
        return (height * width * 3 * config.nf + strip) * itemsize

    @property
    def reach(self) -> int:
        return self.config.reach


def _scaled(on_work: OnWork, factor: float, macs: int) -> None:
    on_work(round(macs * factor))


def _cubic(distance: float) -> float:
    """Keys' cubic convolution kernel."""
    d = abs(distance)
    if d <= 1:
        return (CUBIC + 2) * d**3 - (CUBIC + 3) * d**2 + 1
    return CUBIC * (d**3 - 5 * d**2 + 8 * d - 4)


def reduction_taps(scale: int) -> list[tuple[int, tuple[float, ...]]]:
    """Of 4 pixels, `scale` come out: for each, the first of the four pixels that it is made of
    (-1 is the one before the 4) and their weights."""
    taps = []
    for phase in range(scale):
        position = (phase + 0.5) * 4 / scale - 0.5
        first = math.floor(position) - 1
        taps.append((first, tuple(_cubic(position - first - k) for k in range(4))))
    return taps


def reduced(y: Tensor, scale: int) -> Tensor:
    """Reduce a result from four times to `scale` times the input's size.

    Bicubic as ncnn's Interp and `F.interpolate` do it (half-pixel centres, edges repeated, no
    antialiasing), with the same weights for every group of four pixels: computing positions in
    float32, as they do, would make tiles differ from the whole image.

    Parameters
    ----------
    y : Tensor, shape (N, C, 4 * h, 4 * w)
    scale : int
        2 or 3.

    Returns
    -------
    Tensor, shape (N, C, scale * h, scale * w)
    """
    padded = F.pad(y, (1, 1, 1, 1), mode="replicate")
    return _reduced_along(_reduced_along(padded, scale, 3), scale, 2)


def _reduced_along(padded: Tensor, scale: int, axis: int) -> Tensor:
    pixels = padded.unfold(axis, 6, 4)  # of each group of four, one before and one after
    phases = []
    for first, weights in reduction_taps(scale):
        taps = [pixels.select(-1, 1 + first + k) * weight for k, weight in enumerate(weights)]
        phases.append((taps[0] + taps[1]) + (taps[2] + taps[3]))
    return torch.stack(phases, axis + 1).flatten(axis, axis + 1)
