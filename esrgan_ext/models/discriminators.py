"""The discriminators: ESRGAN's for patches of one size, Real-ESRGAN's U-Net for any size.

Both return logits; the sigmoid is part of the losses.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

_SLOPE = 0.2  # of LeakyReLU, in both


@dataclass(frozen=True)
class VGGDiscriminatorConfig:
    """Shape of a VGG-style discriminator.

    Attributes
    ----------
    in_channels
        Channels of the images.
    nf
        Channels of the first convolution; the last ones have eight times as many.
    size
        Side of the patches, a multiple of 32.
    """

    in_channels: int = 3
    nf: int = 64
    size: int = 128

    def __post_init__(self) -> None:
        if self.in_channels < 1 or self.nf < 1:
            raise ValueError("in_channels and nf must be at least 1")
        if self.size < 32 or self.size % 32:
            raise ValueError(f"size must be a multiple of 32, not {self.size}")


class VGGDiscriminator(nn.Module):
    """ESRGAN's discriminator: five times halved, then two linear layers (arXiv 1809.00219).

    In SRGAN's (arXiv 1609.04802) form, with one more halving for patches of 128: each stage is
    a 3x3 convolution and a 4x4 convolution of stride 2, both with BatchNorm (not the very
    first) and LeakyReLU(0.2); 100 hidden units.

    Parameters
    ----------
    config : VGGDiscriminatorConfig
    """

    def __init__(self, config: VGGDiscriminatorConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or VGGDiscriminatorConfig()
        nf = config.nf
        layers: list[nn.Module] = []
        channels = config.in_channels
        for stage, width in enumerate((nf, 2 * nf, 4 * nf, 8 * nf, 8 * nf)):
            first = stage == 0
            layers.append(nn.Conv2d(channels, width, 3, padding=1, bias=first))
            if not first:
                layers.append(nn.BatchNorm2d(width))
            layers += [
                nn.LeakyReLU(_SLOPE, inplace=True),
                nn.Conv2d(width, width, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.LeakyReLU(_SLOPE, inplace=True),
            ]
            channels = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(channels * (config.size // 32) ** 2, 100),
            nn.LeakyReLU(_SLOPE, inplace=True),
            nn.Linear(100, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch: above zero where it looks real.

        Parameters
        ----------
        x : Tensor, shape (N, in_channels, size, size)
            Nominally in [0, 1].

        Returns
        -------
        Tensor, shape (N, 1)

        Raises
        ------
        ValueError
            Another size or number of channels.
        """
        expected = (self.config.in_channels, self.config.size, self.config.size)
        if x.ndim != 4 or tuple(x.shape[1:]) != expected:
            raise ValueError(
                f"this discriminator takes N,{','.join(map(str, expected))}, not {tuple(x.shape)}"
            )
        return self.classifier(self.features(x).flatten(1))


@dataclass(frozen=True)
class UNetDiscriminatorConfig:
    """Shape of a U-Net discriminator: channels of the images and of the first convolution."""

    in_channels: int = 3
    nf: int = 64

    def __post_init__(self) -> None:
        if self.in_channels < 1 or self.nf < 1:
            raise ValueError("in_channels and nf must be at least 1")


class UNetDiscriminator(nn.Module):
    """Real-ESRGAN's discriminator: a U-Net with spectral norm (arXiv 2107.10833, section 3.4).

    Three halvings by 4x4 convolutions of stride 2, three bilinear doublings with 3x3
    convolutions, sums across the U; every convolution but the first and the last has spectral
    norm (arXiv 1802.05957) and no bias, LeakyReLU(0.2) between.

    Parameters
    ----------
    config : UNetDiscriminatorConfig
    """

    def __init__(self, config: UNetDiscriminatorConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or UNetDiscriminatorConfig()
        nf = config.nf

        def down(channels: int) -> nn.Module:
            convolution = nn.Conv2d(channels, 2 * channels, 4, stride=2, padding=1, bias=False)
            return spectral_norm(convolution)

        def same(channels: int, width: int) -> nn.Module:
            return spectral_norm(nn.Conv2d(channels, width, 3, padding=1, bias=False))

        self.conv_first = nn.Conv2d(config.in_channels, nf, 3, padding=1)
        self.down = nn.ModuleList(down(width) for width in (nf, 2 * nf, 4 * nf))
        self.up = nn.ModuleList(same(2 * width, width) for width in (4 * nf, 2 * nf, nf))
        self.refine = nn.ModuleList(same(nf, nf) for _ in range(2))
        self.conv_last = nn.Conv2d(nf, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of each pixel: above zero where it looks real.

        Parameters
        ----------
        x : Tensor, shape (N, in_channels, H, W)
            Nominally in [0, 1]; H and W multiples of 8.

        Returns
        -------
        Tensor, shape (N, 1, H, W)

        Raises
        ------
        ValueError
            Another number of channels, or a side that is no multiple of 8.
        """
        wrong = x.ndim != 4 or x.shape[1] != self.config.in_channels
        if wrong or 0 in x.shape[2:] or any(side % 8 for side in x.shape[2:]):
            raise ValueError(
                f"this discriminator takes N,{self.config.in_channels},H,W with sides that are "
                f"multiples of 8, not {tuple(x.shape)}"
            )
        across = [_activated(self.conv_first(x))]
        for layer in self.down:
            across.append(_activated(layer(across[-1])))
        y = across.pop()
        for layer in self.up:
            y = F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=False)
            y = _activated(layer(y)) + across.pop()
        for layer in self.refine:
            y = _activated(layer(y))
        return self.conv_last(y)


def _activated(x: Tensor) -> Tensor:
    return F.leaky_relu(x, _SLOPE, inplace=True)
