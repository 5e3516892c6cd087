"""SRResNet, the generator of SRGAN (arXiv 1609.04802), the baseline ESRGAN is compared with."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esrgan_ext.models.network import SRNetwork
from esrgan_ext.ops.eager import OnWork


@dataclass(frozen=True)
class SRResNetConfig:
    """Shape of an SRResNet: channels, features nf, residual blocks nb, scale (1, 2, 4 or 8).

    Examples
    --------
    >>> from esrgan_ext.models import SRResNetConfig
    >>> SRResNetConfig(scale=8).upsamplings
    3
    """

    in_channels: int = 3
    out_channels: int = 3
    nf: int = 64
    nb: int = 16
    scale: int = 4
    batch_norm: bool = True

    def __post_init__(self) -> None:
        for field in ("in_channels", "out_channels", "nf", "nb"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, got {getattr(self, field)}")
        if self.scale not in (1, 2, 4, 8):
            raise ValueError(f"scale must be 1, 2, 4 or 8, got {self.scale}")

    @property
    def upsamplings(self) -> int:
        """Number of x2 pixel-shuffle stages."""
        return int(math.log2(self.scale))


class ResidualBlock(nn.Module):
    """Convolution, BatchNorm, PReLU, convolution, BatchNorm, sum."""

    def __init__(self, nf: int, batch_norm: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(nf, nf, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(nf) if batch_norm else nn.Identity()
        self.act = nn.PReLU()
        self.conv2 = nn.Conv2d(nf, nf, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(nf) if batch_norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bn2(self.conv2(self.act(self.bn1(self.conv1(x)))))


class Upsampling(nn.Module):
    """Convolution to four times the channels, pixel shuffle by 2, PReLU."""

    def __init__(self, nf: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(nf, 4 * nf, 3, padding=1)
        self.act = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(F.pixel_shuffle(self.conv(x), 2))


class SRResNet(SRNetwork):
    """The SRGAN generator: 9x9 convolutions at both ends, nb residual blocks between.

    Parameters
    ----------
    config : SRResNetConfig

    Examples
    --------
    >>> import torch
    >>> from esrgan_ext.models import SRResNet, SRResNetConfig
    >>> SRResNet(SRResNetConfig(nf=16, nb=2)).eval()(torch.zeros(1, 3, 8, 9)).shape
    torch.Size([1, 3, 32, 36])
    """

    def __init__(self, config: SRResNetConfig | None = None) -> None:
        super().__init__()
        config = config or SRResNetConfig()
        self.config = config
        self.scale = config.scale
        self.in_channels, self.out_channels = config.in_channels, config.out_channels
        nf = config.nf
        self.conv_first = nn.Conv2d(config.in_channels, nf, 9, padding=4)
        self.act_first = nn.PReLU()
        self.body = nn.Sequential(*(ResidualBlock(nf, config.batch_norm) for _ in range(config.nb)))
        self.conv_body = nn.Conv2d(nf, nf, 3, padding=1)
        self.bn_body = nn.BatchNorm2d(nf) if config.batch_norm else nn.Identity()
        self.upsample = nn.Sequential(*(Upsampling(nf) for _ in range(config.upsamplings)))
        self.conv_last = nn.Conv2d(nf, config.out_channels, 9, padding=4)

    def plain_forward(self, x: Tensor) -> Tensor:
        return self._run(x, None)

    def _run(self, x: Tensor, on_work: OnWork | None) -> Tensor:
        def step(layer: nn.Module, x: Tensor) -> Tensor:
            y = layer(x)
            if on_work is not None:
                weights = sum(p.numel() for p in layer.parameters() if p.ndim == 4)
                # An upsampling stage convolves before it shuffles: at its input's size.
                on_work(weights * x.shape[0] * x.shape[2] * x.shape[3])
            return y

        features = self.act_first(step(self.conv_first, x))
        y = features
        for block in self.body:
            y = step(block, y)
        y = self.bn_body(step(self.conv_body, y)) + features
        for stage in self.upsample:
            y = step(stage, y)
        return step(self.conv_last, y)

    @torch.no_grad()
    def strips(self, x: Tensor, on_work: OnWork | None = None) -> Iterator[tuple[int, Tensor]]:
        if x.numel() == 0:
            height, width = x.shape[-2] * self.scale, x.shape[-1] * self.scale
            yield 0, x.new_empty((x.shape[0], self.out_channels, height, width))
            return
        yield 0, self._run(x.contiguous(memory_format=torch.channels_last), on_work)

    def macs(self, height: int, width: int) -> int:
        def count(*layers: nn.Module) -> int:
            return sum(p.numel() for m in layers for p in m.parameters() if p.ndim == 4)

        total = count(self.conv_first, self.body, self.conv_body)
        for k, stage in enumerate(self.upsample):
            total += count(stage) * 4**k
        total += count(self.conv_last) * 4**self.config.upsamplings
        return total * height * width

    def activation_bytes(self, height: int, width: int, itemsize: int) -> int:
        # The last upsampling stage: 4 * nf channels before the shuffle, nf after it and after
        # its activation, at the output's resolution.
        zoom = 4**self.config.upsamplings
        return height * width * itemsize * self.config.nf * max(6, 3 * zoom)

    @property
    def reach(self) -> int:
        return 4 + 2 * self.config.nb + 1 + self.config.upsamplings + 4
