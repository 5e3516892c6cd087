"""The ESRGAN generator as its first release and its second one spell it: what `state_dict()`
of these modules returns is what checkpoints of the old and the new layout contain.

Written down from the published layouts with plain torch modules, so that the converters are
compared with something that does not know the canonical names.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, 1, 1)


def _lrelu() -> nn.LeakyReLU:
    return nn.LeakyReLU(0.2)


class OldDenseBlock(nn.Module):
    def __init__(self, nf: int, gc: int, plus: bool) -> None:
        super().__init__()
        self.conv1x1 = nn.Conv2d(nf, gc, 1, bias=False) if plus else None
        self.conv1 = nn.Sequential(_conv(nf, gc), _lrelu())
        self.conv2 = nn.Sequential(_conv(nf + gc, gc), _lrelu())
        self.conv3 = nn.Sequential(_conv(nf + 2 * gc, gc), _lrelu())
        self.conv4 = nn.Sequential(_conv(nf + 3 * gc, gc), _lrelu())
        self.conv5 = nn.Sequential(_conv(nf + 4 * gc, nf))

    def forward(self, x: Tensor) -> Tensor:
        x1 = self.conv1(x)
        x2 = self.conv2(torch.cat([x, x1], 1))
        if self.conv1x1 is not None:
            x2 = x2 + self.conv1x1(x)
        x3 = self.conv3(torch.cat([x, x1, x2], 1))
        x4 = self.conv4(torch.cat([x, x1, x2, x3], 1))
        if self.conv1x1 is not None:
            x4 = x4 + x2
        return self.conv5(torch.cat([x, x1, x2, x3, x4], 1)) * 0.2 + x


class OldBlock(nn.Module):
    def __init__(self, nf: int, gc: int, plus: bool) -> None:
        super().__init__()
        self.RDB1 = OldDenseBlock(nf, gc, plus)
        self.RDB2 = OldDenseBlock(nf, gc, plus)
        self.RDB3 = OldDenseBlock(nf, gc, plus)

    def forward(self, x: Tensor) -> Tensor:
        return self.RDB3(self.RDB2(self.RDB1(x))) * 0.2 + x


class Shortcut(nn.Module):
    def __init__(self, sub: nn.Module) -> None:
        super().__init__()
        self.sub = sub

    def forward(self, x: Tensor) -> Tensor:
        return x + self.sub(x)


class OldNetwork(nn.Module):
    """2018: everything in one nn.Sequential, so keys are `model.<index>`."""

    def __init__(
        self,
        inputs: int = 3,
        outputs: int = 3,
        nf: int = 8,
        nb: int = 2,
        gc: int = 4,
        ups: int = 2,
        plus: bool = False,
    ) -> None:
        super().__init__()
        upsampling = [
            layer
            for _ in range(ups)
            for layer in (nn.Upsample(scale_factor=2, mode="nearest"), _conv(nf, nf), _lrelu())
        ]
        trunk = nn.Sequential(*(OldBlock(nf, gc, plus) for _ in range(nb)), _conv(nf, nf))
        self.model = nn.Sequential(
            _conv(inputs, nf),
            Shortcut(trunk),
            *upsampling,
            _conv(nf, nf),
            _lrelu(),
            _conv(nf, outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class NewDenseBlock(nn.Module):
    def __init__(self, nf: int, gc: int) -> None:
        super().__init__()
        for k in range(5):
            self.add_module(f"conv{k + 1}", _conv(nf + k * gc, gc if k < 4 else nf))

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for k in range(1, 5):
            conv = getattr(self, f"conv{k}")
            features.append(F.leaky_relu(conv(torch.cat(features, 1)), 0.2))
        return self.conv5(torch.cat(features, 1)) * 0.2 + x  # type: ignore[operator]


class NewBlock(nn.Module):
    def __init__(self, nf: int, gc: int) -> None:
        super().__init__()
        self.RDB1, self.RDB2, self.RDB3 = (NewDenseBlock(nf, gc) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.RDB3(self.RDB2(self.RDB1(x))) * 0.2 + x


class NewNetwork(nn.Module):
    """2019: named layers; also RealSR and BSRGAN."""

    def __init__(
        self,
        inputs: int = 3,
        outputs: int = 3,
        nf: int = 8,
        nb: int = 2,
        gc: int = 4,
        ups: int = 2,
    ) -> None:
        super().__init__()
        self.conv_first = _conv(inputs, nf)
        self.RRDB_trunk = nn.Sequential(*(NewBlock(nf, gc) for _ in range(nb)))
        self.trunk_conv = _conv(nf, nf)
        self.ups = ups
        for k in range(1, ups + 1):
            self.add_module(f"upconv{k}", _conv(nf, nf))
        self.HRconv = _conv(nf, nf)
        self.conv_last = _conv(nf, outputs)

    def forward(self, x: Tensor) -> Tensor:
        first = self.conv_first(x)
        y = first + self.trunk_conv(self.RRDB_trunk(first))
        for k in range(1, self.ups + 1):
            y = F.interpolate(y, scale_factor=2, mode="nearest")
            y = F.leaky_relu(getattr(self, f"upconv{k}")(y), 0.2)
        return self.conv_last(F.leaky_relu(self.HRconv(y), 0.2))
