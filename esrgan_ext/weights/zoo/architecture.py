"""The networks in plain PyTorch, for programs that know nothing else of them.

This file is complete in itself: a model package carries a copy of it, and a program that runs the
package calls one of the three classes with the arguments that `rdf.yaml` gives and loads the
weights into it. Input is N,C,H,W, nominally in [0, 1]; output N,C,scale*H,scale*W.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn


def _conv(inputs, outputs, side=3, bias=True):
    return nn.Conv2d(inputs, outputs, side, padding=side // 2, bias=bias)


class _DenseBlock(nn.Module):
    """Five densely connected convolutions (ESRGAN, arXiv 1809.00219, figure 4)."""

    def __init__(self, nf, gc, plus):
        super().__init__()
        self.conv1 = _conv(nf, gc)
        self.conv2 = _conv(nf + gc, gc)
        self.conv3 = _conv(nf + 2 * gc, gc)
        self.conv4 = _conv(nf + 3 * gc, gc)
        self.conv5 = _conv(nf + 4 * gc, nf)
        self.conv1x1 = _conv(nf, gc, 1, bias=False) if plus else None

    def forward(self, x):
        x1 = F.leaky_relu(self.conv1(x), 0.2)
        x2 = F.leaky_relu(self.conv2(torch.cat((x, x1), 1)), 0.2)
        if self.conv1x1 is not None:  # ESRGAN+ (arXiv 2001.08073)
            x2 = x2 + self.conv1x1(x)
        x3 = F.leaky_relu(self.conv3(torch.cat((x, x1, x2), 1)), 0.2)
        x4 = F.leaky_relu(self.conv4(torch.cat((x, x1, x2, x3), 1)), 0.2)
        if self.conv1x1 is not None:
            x4 = x4 + x2
        return self.conv5(torch.cat((x, x1, x2, x3, x4), 1)) * 0.2 + x


class _RRDB(nn.Module):
    def __init__(self, nf, gc, plus):
        super().__init__()
        self.rdb1 = _DenseBlock(nf, gc, plus)
        self.rdb2 = _DenseBlock(nf, gc, plus)
        self.rdb3 = _DenseBlock(nf, gc, plus)

    def forward(self, x):
        return self.rdb3(self.rdb2(self.rdb1(x))) * 0.2 + x


def _mirrored(image, multiple, axis):
    """Pad an axis at its end to a multiple by reflection; without branches, so it can be traced."""
    size = image.shape[axis]
    below = (multiple - size % multiple) % multiple
    index = torch.arange(size + below, device=image.device)
    last = torch.ones_like(index[:1]) * size - 1
    mirrored = 2 * last - index
    mirrored = torch.where(last - below >= 0, mirrored, last)  # too short: repeat the last
    return image.index_select(axis, torch.where(index > last, mirrored, index))


class RRDBNet(nn.Module):
    """The generator of ESRGAN and Real-ESRGAN."""

    def __init__(self, in_channels, out_channels, nf, nb, gc, scale, unshuffle=1, plus=False):
        super().__init__()
        self.scale, self.unshuffle = scale, unshuffle
        self.upsamplings = int(math.log2(scale * unshuffle))
        self.conv_first = _conv(in_channels * unshuffle**2, nf)
        self.body = nn.Sequential(*(_RRDB(nf, gc, plus) for _ in range(nb)))
        self.conv_body = _conv(nf, nf)
        for k in range(self.upsamplings):
            setattr(self, f"conv_up{k + 1}", _conv(nf, nf))
        self.conv_hr = _conv(nf, nf)
        self.conv_last = _conv(nf, out_channels)

    def forward(self, x):
        height, width = x.shape[2], x.shape[3]
        if self.unshuffle > 1:
            x = _mirrored(_mirrored(x, self.unshuffle, 2), self.unshuffle, 3)
            x = F.pixel_unshuffle(x, self.unshuffle)
        features = self.conv_first(x)
        y = self.conv_body(self.body(features)) + features
        for k in range(self.upsamplings):
            y = F.interpolate(y, scale_factor=2.0, mode="nearest")
            y = F.leaky_relu(getattr(self, f"conv_up{k + 1}")(y), 0.2)
        y = self.conv_last(F.leaky_relu(self.conv_hr(y), 0.2))
        if self.unshuffle > 1:
            y = y[:, :, : height * self.scale, : width * self.scale]
        return y


class _ResidualBlock(nn.Module):
    def __init__(self, nf, batch_norm):
        super().__init__()
        self.conv1 = _conv(nf, nf)
        self.bn1 = nn.BatchNorm2d(nf) if batch_norm else nn.Identity()
        self.act = nn.PReLU()
        self.conv2 = _conv(nf, nf)
        self.bn2 = nn.BatchNorm2d(nf) if batch_norm else nn.Identity()

    def forward(self, x):
        return x + self.bn2(self.conv2(self.act(self.bn1(self.conv1(x)))))


class _Upsampling(nn.Module):
    def __init__(self, nf):
        super().__init__()
        self.conv = _conv(nf, 4 * nf)
        self.act = nn.PReLU()

    def forward(self, x):
        return self.act(F.pixel_shuffle(self.conv(x), 2))


class SRResNet(nn.Module):
    """The generator of SRGAN (arXiv 1609.04802)."""

    def __init__(self, in_channels, out_channels, nf, nb, scale, batch_norm=True):
        super().__init__()
        self.conv_first = _conv(in_channels, nf, 9)
        self.act_first = nn.PReLU()
        self.body = nn.Sequential(*(_ResidualBlock(nf, batch_norm) for _ in range(nb)))
        self.conv_body = _conv(nf, nf)
        self.bn_body = nn.BatchNorm2d(nf) if batch_norm else nn.Identity()
        self.upsample = nn.Sequential(*(_Upsampling(nf) for _ in range(int(math.log2(scale)))))
        self.conv_last = _conv(nf, out_channels, 9)

    def forward(self, x):
        features = self.act_first(self.conv_first(x))
        y = self.bn_body(self.conv_body(self.body(features))) + features
        return self.conv_last(self.upsample(y))


def _activation(name, nf):
    if name == "prelu":
        return nn.PReLU(nf)
    return nn.LeakyReLU(0.1) if name == "leakyrelu" else nn.ReLU()


class SRVGGNetCompact(nn.Module):
    """Real-ESRGAN's compact generator."""

    def __init__(self, in_channels, nf, num_conv, upsampling, activation="prelu", scale=None):
        super().__init__()
        self.upsampling, self.scale = upsampling, scale or upsampling
        layers = []
        for k in range(1 + num_conv):
            layers += [_conv(in_channels if k == 0 else nf, nf), _activation(activation, nf)]
        layers.append(_conv(nf, in_channels * upsampling**2))
        self.body = nn.ModuleList(layers)

    def forward(self, x):
        y = x
        for layer in self.body:
            y = layer(y)
        y = F.pixel_shuffle(y, self.upsampling)
        y = y + F.interpolate(x, scale_factor=float(self.upsampling), mode="nearest")
        if self.scale != self.upsampling:
            y = F.interpolate(y, scale_factor=self.scale / self.upsampling, mode="bicubic")
        return y
