"""RRDBNet, the generator of ESRGAN (arXiv 1809.00219), as a plain nn.Module.

The state dict uses Real-ESRGAN's names (`conv_first`, `body.0.rdb1.conv1`, `conv_body`,
`conv_up1`, ..., `conv_hr`, `conv_last`); other layouts are converted in `esrgan_ext.weights`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esrgan_ext.models.kernels import RRDBNetKernels
from esrgan_ext.models.network import SRNetwork, pad_to_multiple, records_operations
from esrgan_ext.ops import cpu, cuda, eager, grouped, packed, reference
from esrgan_ext.ops.eager import OnWork

NEGATIVE_SLOPE = 0.2
RESIDUAL_SCALE = 0.2

# Rows of context that the convolutions after the trunk need on each side of a strip, in
# low-resolution pixels: at most one for conv_body and one for each of conv_up*, fewer than
# one each for conv_hr and conv_last at the output's resolution (x1 has no finer one: 1 + 2).
TAIL_HALO = 4

# The tail's activations take 16 times the pixels of the trunk's at x4. A strip of this many
# low-resolution pixels keeps them at about 140 MB (64 channels, float32, two layers alive).
TAIL_STRIP_PIXELS = 16_384


@dataclass(frozen=True)
class RRDBNetConfig:
    """Shape of an RRDBNet.

    Attributes
    ----------
    in_channels, out_channels : int
        Channels of the image.
    nf, nb, gc : int
        Feature channels, number of RRDBs, growth channels of a dense block.
    scale : int
        Output pixels per input pixel along each axis: 1, 2, 4 or 8.
    unshuffle : int
        The input is pixel-unshuffled by this factor first (Real-ESRGAN x2: 2, x1: 4).
    plus : bool
        ESRGAN+ (arXiv 2001.08073): a bias-free 1x1 convolution in each dense block.

    Examples
    --------
    >>> from esrgan_ext.models import RRDBNetConfig
    >>> RRDBNetConfig().nb, RRDBNetConfig(nb=6).nb  # Real-ESRGAN x4plus and its anime model
    (23, 6)
    """

    in_channels: int = 3
    out_channels: int = 3
    nf: int = 64
    nb: int = 23
    gc: int = 32
    scale: int = 4
    unshuffle: int = 1
    plus: bool = False

    def __post_init__(self) -> None:
        for field in ("in_channels", "out_channels", "nf", "nb", "gc"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, got {getattr(self, field)}")
        if self.scale not in (1, 2, 4, 8) or self.unshuffle not in (1, 2, 4):
            raise ValueError(
                "scale must be 1, 2, 4 or 8 and unshuffle 1, 2 or 4, "
                f"got {self.scale} and {self.unshuffle}"
            )

    @property
    def upsamplings(self) -> int:
        """Number of x2 upsampling convolutions."""
        return int(math.log2(self.scale * self.unshuffle))


def _scaled(on_work: OnWork, factor: float, macs: int) -> None:
    on_work(round(macs * factor))


def _cropped(y: Tensor, height: int, width: int) -> Tensor:
    """Without what padding to a multiple of the unshuffling factor has added below and right."""
    return y.narrow(2, 0, height).narrow(3, 0, width)


def conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


class ResidualDenseBlock(nn.Module):
    """Five densely connected convolutions; see `esrgan_ext.ops.reference.dense_block`."""

    def __init__(self, nf: int, gc: int, plus: bool) -> None:
        super().__init__()
        self.conv1 = conv(nf, gc)
        self.conv2 = conv(nf + gc, gc)
        self.conv3 = conv(nf + 2 * gc, gc)
        self.conv4 = conv(nf + 3 * gc, gc)
        self.conv5 = conv(nf + 4 * gc, nf)
        self.conv1x1 = nn.Conv2d(nf, gc, 1, bias=False) if plus else None
        self._regrouped: packed.Kept[eager.DenseBlockWeights] = packed.Kept()

    def weights_and_biases(self) -> tuple[list[Tensor], list[Tensor]]:
        """The five convolutions' parameters in order."""
        layers = (self.conv1, self.conv2, self.conv3, self.conv4, self.conv5)
        return [c.weight for c in layers], [c.bias for c in layers if c.bias is not None]

    def forward(self, x: Tensor) -> Tensor:
        if self.conv1x1 is not None:
            return self._plus(x)
        weights, biases = self.weights_and_biases()
        return reference.dense_block(x, weights, biases, NEGATIVE_SLOPE, RESIDUAL_SCALE)

    def _plus(self, x: Tensor) -> Tensor:
        """ESRGAN+: x enters the second output, the second output enters the fourth."""
        assert self.conv1x1 is not None
        x1 = F.leaky_relu(self.conv1(x), NEGATIVE_SLOPE)
        x2 = F.leaky_relu(self.conv2(torch.cat((x, x1), 1)), NEGATIVE_SLOPE) + self.conv1x1(x)
        x3 = F.leaky_relu(self.conv3(torch.cat((x, x1, x2), 1)), NEGATIVE_SLOPE)
        x4 = F.leaky_relu(self.conv4(torch.cat((x, x1, x2, x3), 1)), NEGATIVE_SLOPE) + x2
        return self.conv5(torch.cat((x, x1, x2, x3, x4), 1)) * RESIDUAL_SCALE + x

    def infer(self, x: Tensor, on_work: OnWork | None) -> Tensor:
        """`forward` without gradients, with progress."""
        if self.conv1x1 is not None:
            y = self._plus(x)
            if on_work is not None:
                on_work(self.macs_per_pixel() * x.shape[0] * x.shape[2] * x.shape[3])
            return y
        if x.dtype in (torch.float16, torch.bfloat16):
            weights, biases = self.weights_and_biases()
            return eager.dense_block_buffered(
                x, weights, biases, NEGATIVE_SLOPE, RESIDUAL_SCALE, on_work
            )
        return eager.dense_block(
            x, self._regrouped_weights(), NEGATIVE_SLOPE, RESIDUAL_SCALE, on_work
        )

    def _regrouped_weights(self) -> eager.DenseBlockWeights:
        """The regrouped weights, made anew when any parameter was replaced or written to."""
        weights, biases = self.weights_and_biases()
        if any(p.is_inference() for p in [*weights, *biases]):  # these keep no version to compare
            return eager.DenseBlockWeights(weights, biases)
        key = packed.versions([*weights, *biases])
        return self._regrouped.get(key, lambda: eager.DenseBlockWeights(weights, biases))

    def macs_per_pixel(self) -> int:
        return sum(p.numel() for p in self.parameters() if p.ndim == 4)


class RRDB(nn.Module):
    """Residual in residual dense block: three dense blocks and a scaled residual."""

    def __init__(self, nf: int, gc: int, plus: bool) -> None:
        super().__init__()
        self.rdb1 = ResidualDenseBlock(nf, gc, plus)
        self.rdb2 = ResidualDenseBlock(nf, gc, plus)
        self.rdb3 = ResidualDenseBlock(nf, gc, plus)

    def forward(self, x: Tensor) -> Tensor:
        return self.rdb3(self.rdb2(self.rdb1(x))) * RESIDUAL_SCALE + x

    def infer(self, x: Tensor, on_work: OnWork | None) -> Tensor:
        y = x
        for block in (self.rdb1, self.rdb2, self.rdb3):
            y = block.infer(y, on_work)
        return torch.add(x, y, alpha=RESIDUAL_SCALE)


class RRDBNet(SRNetwork):
    """The RRDB generator without BatchNorm.

    Parameters
    ----------
    config : RRDBNetConfig

    Notes
    -----
    conv_first; nb RRDBs and conv_body around a skip; x2 nearest upsampling with a convolution
    and LeakyReLU, log2(scale * unshuffle) times; conv_hr, LeakyReLU, conv_last.

    Examples
    --------
    >>> import torch
    >>> from esrgan_ext.models import RRDBNet, RRDBNetConfig
    >>> network = RRDBNet(RRDBNetConfig(nf=32, nb=2, gc=16, scale=2))
    >>> network(torch.zeros(1, 3, 8, 9)).shape
    torch.Size([1, 3, 16, 18])
    """

    def __init__(self, config: RRDBNetConfig | None = None) -> None:
        super().__init__()
        config = config or RRDBNetConfig()
        self.config = config
        self.scale, self.alignment = config.scale, config.unshuffle
        self.in_channels, self.out_channels = config.in_channels, config.out_channels
        nf = config.nf
        self.conv_first = conv(config.in_channels * config.unshuffle**2, nf)
        self.body = nn.Sequential(*(RRDB(nf, config.gc, config.plus) for _ in range(config.nb)))
        self._body_weights = sum(p.numel() for p in self.body.parameters() if p.ndim == 4)
        self.conv_body = conv(nf, nf)
        for k in range(1, config.upsamplings + 1):
            self.add_module(f"conv_up{k}", conv(nf, nf))
        self.conv_hr = conv(nf, nf)
        self.conv_last = conv(nf, config.out_channels)
        self._packed = cpu.PackedWeights()
        self._packed_for_cuda = cuda.PackedWeights()

    def upsampling_convolutions(self) -> list[nn.Conv2d]:
        """conv_up1, conv_up2, ... in order.

        Returns
        -------
        list of nn.Conv2d
            One for each doubling of the sides.

        Examples
        --------
        >>> from esrgan_ext.models import RRDBNet, RRDBNetConfig
        >>> len(RRDBNet(RRDBNetConfig(nb=1, scale=4)).upsampling_convolutions())
        2
        """
        return [getattr(self, f"conv_up{k}") for k in range(1, self.config.upsamplings + 1)]

    def _unshuffled(self, x: Tensor) -> Tensor:
        factor = self.config.unshuffle
        return F.pixel_unshuffle(pad_to_multiple(x, factor), factor) if factor > 1 else x

    def plain_forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        features = self.conv_first(self._unshuffled(x))
        y = self.conv_body(self.body(features)) + features
        for up in self.upsampling_convolutions():
            y = reference.upsample_conv(y, up.weight, up.bias, NEGATIVE_SLOPE)  # type: ignore[arg-type]
        y = self.conv_last(F.leaky_relu(self.conv_hr(y), NEGATIVE_SLOPE))
        if self.config.unshuffle > 1:  # what padding added goes again
            y = y[..., : height * self.scale, : width * self.scale]
        return y

    @torch.no_grad()
    def strips(self, x: Tensor, on_work: OnWork | None = None) -> Iterator[tuple[int, Tensor]]:
        height, width = x.shape[-2] * self.scale, x.shape[-1] * self.scale
        if x.numel() == 0:
            yield 0, x.new_empty((x.shape[0], self.out_channels, height, width))
            return
        x = self._unshuffled(x)
        kernels = self.kernels
        if kernels.supports(x):
            macs = self.macs(height // self.scale, width // self.scale) * x.shape[0]
            for top, part in kernels.strips(x, on_work, macs):
                useful_rows = min(part.shape[2], height - top)
                if useful_rows > 0:
                    yield top, _cropped(part, useful_rows, width)
            return
        x = x.contiguous(memory_format=torch.channels_last)
        features = eager.conv3x3(x, self.conv_first.weight, self.conv_first.bias, on_work)
        y = features
        for block in self.body:
            y = block.infer(y, on_work)  # type: ignore[operator]
        y = eager.conv3x3(y, self.conv_body.weight, self.conv_body.bias, on_work).add_(features)
        del features, x
        zoom = 2**self.config.upsamplings
        trunk_rows, trunk_width = y.shape[2:]
        rows = max(TAIL_HALO, TAIL_STRIP_PIXELS // max(1, y.shape[0] * trunk_width))
        for top in range(0, trunk_rows, rows):
            bottom = min(top + rows, trunk_rows)
            first = max(top - TAIL_HALO, 0)
            window = y[:, :, first : bottom + TAIL_HALO]
            # The halo's rows are computed twice but count as work once.
            useful = (bottom - top) / window.shape[2]
            counted = None if on_work is None else partial(_scaled, on_work, useful)
            strip = self._tail(window, counted)
            strip = strip[:, :, (top - first) * zoom : (bottom - first) * zoom, :width]
            strip = strip[:, :, : max(0, height - top * zoom)]
            if strip.shape[2]:
                yield top * zoom, strip

    def forward(self, x: Tensor, on_work: OnWork | None = None) -> Tensor:
        inference = not records_operations()
        if torch.jit.is_tracing():  # where even a tensor's sides are tensors
            return super().forward(x, on_work)
        valid = x.ndim == 4 and x.shape[1] == self.in_channels and x.numel() > 0
        if on_work is None and inference and valid:
            unshuffled, kernels = self._unshuffled(x), self.kernels
            if kernels.supports(unshuffled):  # they write the result in one piece
                y = kernels.run(unshuffled)
                return _cropped(y, x.shape[2] * self.scale, x.shape[3] * self.scale)
        trains = torch.is_grad_enabled() and not torch.compiler.is_compiling() and valid
        if trains and x.device.type == "cpu" and x.dtype == torch.float32 and not self.config.plus:
            return self._grouped_forward(x)
        return super().forward(x, on_work)

    def _grouped_forward(self, x: Tensor) -> Tensor:
        """`plain_forward` as a CPU trains it fastest.

        Measured on two AVX2 cores (nf 32, gc 16, nb 3, patches of 24): 1.5 times as fast as the
        concatenations of the definition. The fused dense block's forward is faster still, but its
        backward pass computes the features again, which costs more than that gains.
        """
        height, width = x.shape[-2:]
        features = self.conv_first(self._unshuffled(x))
        y = features
        for block in self.body:
            skip = y
            for rdb in (block.rdb1, block.rdb2, block.rdb3):
                weights, biases = rdb.weights_and_biases()  # type: ignore[operator, union-attr]
                y = grouped.dense_block(y, weights, biases, NEGATIVE_SLOPE, RESIDUAL_SCALE)
            y = torch.add(skip, y, alpha=RESIDUAL_SCALE)
        y = self.conv_body(y) + features
        for up in self.upsampling_convolutions():
            y = grouped.upsample_conv(y, up.weight, up.bias, NEGATIVE_SLOPE)  # type: ignore[arg-type]
        y = self.conv_last(F.leaky_relu(self.conv_hr(y), NEGATIVE_SLOPE))
        return y[..., : height * self.scale, : width * self.scale]

    @property
    def kernels(self) -> RRDBNetKernels:
        """The compiled kernels for this network."""
        c = self.config
        channels = c.in_channels * c.unshuffle**2
        shape = cpu.NetworkShape(channels, c.out_channels, c.nf, c.gc, c.nb, c.upsamplings)
        return RRDBNetKernels(
            shape, self._convolutions, self._packed, self._packed_for_cuda, c.plus
        )

    def _convolutions(self) -> tuple[list[Tensor], list[Tensor]]:
        """Weights and biases of every convolution in order."""
        layers = [m for m in self.modules() if isinstance(m, nn.Conv2d)]
        return [c.weight for c in layers], [c.bias for c in layers if c.bias is not None]

    def same_in_batches(self, x: Tensor) -> bool:
        return self.kernels.supports(self._unshuffled(x))

    def fused(self) -> cuda.FusedNetwork | None:
        return None if self.config.unshuffle > 1 else self.kernels.fused(self.conv_first.weight)

    def _tail(self, y: Tensor, on_work: OnWork | None) -> Tensor:
        for up in self.upsampling_convolutions():
            y = eager.upsample_conv(y, up.weight, up.bias, NEGATIVE_SLOPE, on_work)  # type: ignore[arg-type]
        y = eager.conv3x3(y, self.conv_hr.weight, self.conv_hr.bias, on_work)
        y = F.leaky_relu_(y, NEGATIVE_SLOPE)
        return eager.conv3x3(y, self.conv_last.weight, self.conv_last.bias, on_work)

    def macs(self, height: int, width: int) -> int:
        factor = self.config.unshuffle
        pixels = -(-height // factor) * -(-width // factor)
        trunk = self.conv_first.weight.numel() + self.conv_body.weight.numel()
        trunk += self._body_weights
        tail, zoom = 0, 1
        for up in self.upsampling_convolutions():
            zoom *= 4
            tail += up.weight.numel() * zoom
        tail += (self.conv_hr.weight.numel() + self.conv_last.weight.numel()) * zoom
        return pixels * (trunk + tail)

    def activation_bytes(self, height: int, width: int, itemsize: int) -> int:
        config = self.config
        pixels = -(-height // config.unshuffle) * -(-width // config.unshuffle)
        weight = self.conv_first.weight
        if itemsize == weight.dtype.itemsize and self.kernels.supports(weight):
            rows, columns = -(-height // config.unshuffle), -(-width // config.unshuffle)
            return self.kernels.working_bytes(weight, rows, columns)
        # While x's share of a dense block is added up: the skip over the trunk, over the RRDB and
        # over the block, the sums, one partial sum, and one contiguous output of gc channels.
        trunk = 3 * config.nf + 2 * (config.nf + 4 * config.gc) + config.gc
        zoom = 4**config.upsamplings
        # Two layers at full resolution and the strip that comes out, for a strip and its halo.
        rows = max(TAIL_HALO, TAIL_STRIP_PIXELS // max(1, width)) + 2 * TAIL_HALO
        strip_pixels = min(pixels, rows * -(-width // config.unshuffle))
        tail = strip_pixels * zoom * (2 * config.nf + 2 * config.out_channels)
        return (pixels * trunk + tail) * itemsize

    @property
    def reach(self) -> int:
        # One pixel each for conv_first and conv_body, five for each of the three dense blocks of
        # an RRDB, and at most four low-resolution pixels for what follows the trunk.
        return (2 + 15 * self.config.nb + TAIL_HALO) * self.config.unshuffle
