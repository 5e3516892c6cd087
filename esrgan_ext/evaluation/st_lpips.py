"""ST-LPIPS, a learned perceptual distance (Ghildyal and Liu, ECCV 2022, arXiv 2207.13686).

LPIPS (arXiv 1801.03924) on an AlexNet that was made shift-tolerant: the first convolution has
stride 1, and every reduction blurs before it drops pixels. Finding the published weights is left
to `perceptual`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Where the published file keeps each of our convolutions, and the linear heads.
_CONVOLUTIONS = ("net.slice1.0", "net.slice2.5", "net.slice3.9", "net.slice4.11", "net.slice5.13")
_HEADS = tuple(f"lin{layer}.model.1" for layer in range(5))

# Mean and deviation of ImageNet's RGB values, for images in [-1, 1] (LPIPS, version 0.1).
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)

MIN_SIDE = 21
"""The shortest side in pixels for which every reduction has enough pixels to reflect."""


class BlurPool(nn.Module):
    """Binomial blur [1 2 1] of both axes and every other pixel (arXiv 1904.11486).

    Padded by two reflected pixels on each side, one more than the filter needs: the published
    weights were trained so.
    """

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        taps = torch.tensor([0.25, 0.5, 0.25], dtype=x.dtype, device=x.device)
        kernel = (taps[:, None] * taps).expand(channels, 1, 3, 3)
        return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), kernel, stride=2, groups=channels)


class ShiftTolerantLPIPS(nn.Module):
    """The distance of two images: 0 for equal ones, higher the more different they look.

    Features after each of five activations are normalised along their channels, their squared
    differences weighted by a linear head, averaged over all positions, and summed.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(3, 64, 11, padding=2), BlurPool(), nn.ReLU()),
                nn.Sequential(
                    nn.MaxPool2d(3, 1), BlurPool(), nn.Conv2d(64, 192, 5, padding=2), nn.ReLU()
                ),
                nn.Sequential(
                    nn.MaxPool2d(3, 1), BlurPool(), nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()
                ),
                nn.Sequential(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
                nn.Sequential(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()),
            ]
        )
        self.heads = nn.ModuleList(
            nn.Conv2d(width, 1, 1, bias=False) for width in (64, 192, 384, 256, 256)
        )
        for name, values in (("shift", _SHIFT), ("scale", _SCALE)):
            buffer = torch.tensor(values, dtype=torch.float32, device="cpu").reshape(1, 3, 1, 1)
            self.register_buffer(name, buffer, persistent=False)
        self.eval().requires_grad_(False)

    def load_published(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the weights of the published file.

        Raises
        ------
        KeyError, ValueError
            A tensor is missing, or has another shape or values that are not finite.
        """
        layers = [m for m in self.layers.modules() if isinstance(m, nn.Conv2d)]
        for prefix, layer in zip((*_CONVOLUTIONS, *_HEADS), (*layers, *self.heads), strict=True):
            for name, parameter in layer.named_parameters():
                value = tensors[f"{prefix}.{name}"]
                if value.shape != parameter.shape or not value.isfinite().all():
                    raise ValueError(f"{prefix}.{name} has another shape, or values not finite")
                parameter.copy_(value)

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """The distance of each pair in a batch.

        Parameters
        ----------
        image, reference : Tensor, shape (N, 3, H, W)
            RGB in [0, 1]; H and W at least `MIN_SIDE`.

        Returns
        -------
        Tensor, shape (N,)
        """
        x, y = (((2 * z - 1) - self.shift) / self.scale for z in (image, reference))
        total = x.new_zeros(x.shape[0])
        for layer, head in zip(self.layers, self.heads, strict=True):
            x, y = layer(x), layer(y)
            total = total + head((_normalised(x) - _normalised(y)).square()).mean((1, 2, 3))
        return total


def _normalised(features: Tensor) -> Tensor:
    """Features of unit length at every position."""
    return features / (features.square().sum(1, keepdim=True).sqrt() + 1e-10)
