"""The networks as BasicSR, ESRGAN (2018) and SRGAN publish them: their structure, names and order
of operations, written down anew in plain torch."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn


def conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, 1, 1)


class ResidualDenseBlock(nn.Module):
    def __init__(self, nf: int, gc: int, slope: float) -> None:
        super().__init__()
        self.slope = slope
        for k in range(1, 5):
            self.add_module(f"conv{k}", conv(nf + (k - 1) * gc, gc))
        self.conv5: nn.Module = conv(nf + 4 * gc, nf)

    def forward(self, x):
        features = [x]
        for k in range(1, 5):
            y = getattr(self, f"conv{k}")(torch.cat(features, 1))
            features.append(F.leaky_relu(y, self.slope))
        return self.conv5(torch.cat(features, 1)) * 0.2 + x


class RRDB(nn.Module):
    def __init__(self, nf: int, gc: int, slope: float, names=("rdb1", "rdb2", "rdb3")) -> None:
        super().__init__()
        self.names = names
        for name in names:
            self.add_module(name, ResidualDenseBlock(nf, gc, slope))

    def forward(self, x):
        y = x
        for name in self.names:
            y = getattr(self, name)(y)
        return y * 0.2 + x


class BasicSRRRDBNet(nn.Module):
    """basicsr.archs.rrdbnet_arch.RRDBNet."""

    def __init__(self, scale=4, nf=32, nb=1, gc=16, slope=0.2) -> None:
        super().__init__()
        self.scale, self.slope = scale, slope
        self.conv_first = conv(3 * {4: 1, 2: 4, 1: 16}[scale], nf)
        self.body = nn.Sequential(*(RRDB(nf, gc, slope) for _ in range(nb)))
        self.conv_body = conv(nf, nf)
        self.conv_up1, self.conv_up2 = conv(nf, nf), conv(nf, nf)
        self.conv_hr, self.conv_last = conv(nf, nf), conv(nf, 3)

    def forward(self, x):
        if self.scale < 4:
            x = F.pixel_unshuffle(x, 4 // self.scale)
        y = self.conv_first(x)
        y = y + self.conv_body(self.body(y))
        for up in (self.conv_up1, self.conv_up2):
            y = F.leaky_relu(up(F.interpolate(y, scale_factor=2, mode="nearest")), self.slope)
        return self.conv_last(F.leaky_relu(self.conv_hr(y), self.slope))


class ESRGANRRDBNet(nn.Module):
    """RRDBNet of ESRGAN's test code: the layout that papers after it use."""

    def __init__(self, nf=32, nb=1, gc=16) -> None:
        super().__init__()
        self.conv_first = conv(3, nf)
        names = ("RDB1", "RDB2", "RDB3")
        self.RRDB_trunk = nn.Sequential(*(RRDB(nf, gc, 0.2, names) for _ in range(nb)))
        self.trunk_conv, self.upconv1, self.upconv2 = conv(nf, nf), conv(nf, nf), conv(nf, nf)
        self.HRconv, self.conv_last = conv(nf, nf), conv(nf, 3)

    def forward(self, x):
        y = self.conv_first(x)
        y = y + self.trunk_conv(self.RRDB_trunk(y))
        for up in (self.upconv1, self.upconv2):
            y = F.leaky_relu(up(F.interpolate(y, scale_factor=2, mode="nearest")), 0.2)
        return self.conv_last(F.leaky_relu(self.HRconv(y), 0.2))


class _Shortcut(nn.Module):
    def __init__(self, sub: nn.Module) -> None:
        super().__init__()
        self.sub = sub

    def forward(self, x):
        return x + self.sub(x)


class _OldDenseBlock(ResidualDenseBlock):
    def __init__(self, nf: int, gc: int) -> None:
        nn.Module.__init__(self)
        for k in range(1, 5):
            layers = (conv(nf + (k - 1) * gc, gc), nn.LeakyReLU(0.2))
            self.add_module(f"conv{k}", nn.Sequential(*layers))
        self.conv5: nn.Module = nn.Sequential(conv(nf + 4 * gc, nf))

    def forward(self, x):
        features = [x]
        for k in range(1, 5):
            features.append(getattr(self, f"conv{k}")(torch.cat(features, 1)))
        return self.conv5(torch.cat(features, 1)) * 0.2 + x


class _OldRRDB(RRDB):
    def __init__(self, nf: int, gc: int) -> None:
        nn.Module.__init__(self)
        self.names = ("RDB1", "RDB2", "RDB3")
        for name in self.names:
            self.add_module(name, _OldDenseBlock(nf, gc))


class OldRRDBNet(nn.Module):
    """The network of 2018, `model.1.sub.0.RDB1.conv1.0`: what ComfyUI's loader builds too."""

    def __init__(self, nf=32, nb=1, gc=16) -> None:
        super().__init__()
        trunk = nn.Sequential(*(_OldRRDB(nf, gc) for _ in range(nb)), conv(nf, nf))
        layers: list[nn.Module] = [conv(3, nf), _Shortcut(trunk)]
        for _ in range(2):
            layers += [nn.Upsample(scale_factor=2), conv(nf, nf), nn.LeakyReLU(0.2)]
        layers += [conv(nf, nf), nn.LeakyReLU(0.2), conv(nf, 3)]
        self.model = nn.Sequential(*layers)

    def forward(self, x):
        return self.model(x)


class SRVGGNetCompact(nn.Module):
    """realesrgan.archs.srvgg_arch.SRVGGNetCompact."""

    def __init__(self, nf=32, num_conv=2, scale=4, act="prelu") -> None:
        super().__init__()
        self.scale = scale
        kinds: dict[str, Callable[[], nn.Module]] = {
            "prelu": lambda: nn.PReLU(nf, 0.25),
            "relu": nn.ReLU,
            "leakyrelu": lambda: nn.LeakyReLU(0.1),
            "other": lambda: nn.LeakyReLU(0.3),
        }
        layers: list[nn.Module] = [conv(3, nf), kinds[act]()]
        for _ in range(num_conv):
            layers += [conv(nf, nf), kinds[act]()]
        self.body = nn.ModuleList([*layers, conv(nf, 3 * scale**2)])

    def forward(self, x):
        y = x
        for layer in self.body:
            y = layer(y)
        return F.pixel_shuffle(y, self.scale) + F.interpolate(x, scale_factor=self.scale)


class Descriptor:
    """In the shape of spandrel's ImageModelDescriptor."""

    def __init__(self, model: nn.Module, scale: int) -> None:
        self._model, self.scale = model, scale
        self.tags = ["64nf"]

    @property
    def model(self) -> nn.Module:
        return self._model

    @torch.inference_mode()
    def __call__(self, image):
        return self._model(image).clamp_(0, 1)

    def to(self, device):
        self._model.to(device)
        return self
