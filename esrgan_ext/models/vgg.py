"""The convolutional part of VGG16 and VGG19 (arXiv 1409.1556), whose features the perceptual loss
compares. The weights, published by others, come from `esrgan_ext.weights.vgg`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Mean and deviation of ImageNet's RGB values in [0, 1], which torchvision's networks were trained
# with; and those of the Caffe originals: values in [0, 255] minus the channels' means.
TORCHVISION_MEAN, TORCHVISION_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CAFFE_MEAN = (123.68 / 255, 116.779 / 255, 103.939 / 255)
CAFFE_STD = (1 / 255, 1 / 255, 1 / 255)
# The Caffe originals' features are some ten times as large; SRGAN (arXiv 1609.04802, section 3.2)
# rescales them, and so the weights of the losses hold for either network.
CAFFE_FEATURE_SCALE = 1 / 12.75

VGG16_CONVOLUTIONS = (2, 2, 3, 3, 3)
VGG19_CONVOLUTIONS = (2, 2, 4, 4, 4)


@dataclass(frozen=True)
class VGGConfig:
    """Shape and input normalisation of a VGG network.

    Attributes
    ----------
    convolutions
        In each of the five blocks, which max pooling separates.
    widths
        Channels of each block.
    mean, std
        Mean and standard deviation of RGB in [0, 1]: the first convolution takes (x - mean) / std.
    feature_scale
        Factor on the features.
    """

    convolutions: tuple[int, ...] = VGG19_CONVOLUTIONS
    widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    mean: tuple[float, float, float] = TORCHVISION_MEAN
    std: tuple[float, float, float] = TORCHVISION_STD
    feature_scale: float = 1.0

    def __post_init__(self) -> None:
        if not self.convolutions or len(self.convolutions) != len(self.widths):
            raise ValueError("convolutions and widths must name as many blocks, at least one")
        if min(*self.convolutions, *self.widths) < 1 or min(self.std) <= 0:
            raise ValueError("convolutions, widths and std must be positive")


class VGGFeatures(nn.Module):
    """Features of the last convolution, by default before its activation.

    For VGG19 that is conv5_4 ("VGG54" of SRGAN and ESRGAN), for VGG16 conv5_3. ESRGAN compares
    features before the activation, because after it most of them are zero (section 3.3); SRGAN
    after it. The parameters take no gradients; gradients flow to the input.

    Parameters
    ----------
    config : VGGConfig
    before_activation : bool
        Leave out the last ReLU.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: VGGConfig | None = None, *, before_activation: bool = True) -> None:
        super().__init__()
        self.config = config or VGGConfig()
        self.before_activation = before_activation
        layers: list[nn.Module] = []
        channels = 3
        for block, (count, width) in enumerate(
            zip(self.config.convolutions, self.config.widths, strict=True)
        ):
            if block:
                layers.append(nn.MaxPool2d(2))
            for _ in range(count):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
        # Numbered as torchvision numbers them, so that the keys are those of its files.
        self.features = nn.Sequential(*(layers[:-1] if before_activation else layers))
        # Constants of the architecture, not weights: left out of state dicts.
        for name in ("mean", "std"):
            values = torch.tensor(getattr(self.config, name)).reshape(1, 3, 1, 1)
            self.register_buffer(name, values, persistent=False)
        self.eval().requires_grad_(False)

    @property
    def layer(self) -> str:
        """The usual name of what comes out: conv5_4, or relu5_4 after the activation."""
        kind = "conv" if self.before_activation else "relu"
        return f"{kind}{len(self.config.convolutions)}_{self.config.convolutions[-1]}"

    @property
    def stride(self) -> int:
        """Input pixels per feature along each axis, and the shortest side that can go in."""
        return int(2 ** (len(self.config.convolutions) - 1))

    def forward(self, x: Tensor) -> Tensor:
        """Features of a batch of images.

        Parameters
        ----------
        x : Tensor, shape (N, 3, H, W)
            RGB, nominally in [0, 1]; H and W at least `stride`.

        Returns
        -------
        Tensor, shape (N, widths[-1], H // stride, W // stride)

        Raises
        ------
        ValueError
            Another number of channels, or an image too small.
        """
        self._check(x)
        features = self.features((x - self.mean) / self.std)
        return features if self.config.feature_scale == 1 else features * self.config.feature_scale

    def blocks(self, x: Tensor) -> list[Tensor]:
        """Features of the last convolution of each block; those of the last are `forward`'s.

        Parameters
        ----------
        x : Tensor, shape (N, 3, H, W)
            As `forward` takes it.

        Returns
        -------
        list of Tensor, shape (N, widths[k], H // 2**k, W // 2**k)
            One for each block k, from 0.

        Raises
        ------
        ValueError
            Another number of channels, or an image too small.

        Examples
        --------
        >>> network = VGGFeatures(VGGConfig((1, 2), (4, 6)))
        >>> [tuple(features.shape) for features in network.blocks(torch.zeros(1, 3, 8, 8))]
        [(1, 4, 8, 8), (1, 6, 4, 4)]
        """
        self._check(x)
        x = (x - self.mean) / self.std
        found: list[Tensor] = []
        start = 0
        for block, convolutions in enumerate(self.config.convolutions):
            end = start + (block > 0) + 2 * convolutions
            # All but the last activation, which would overwrite what comes before it.
            x = self.features[start : end - 1](x)
            activated = F.relu(x)
            found.append((x if self.before_activation else activated) * self.config.feature_scale)
            x, start = activated, end
        return found

    def _check(self, x: Tensor) -> None:
        if x.ndim != 4 or x.shape[1] != 3 or min(x.shape[2:]) < self.stride:
            raise ValueError(
                f"VGG takes N,3,H,W with H and W at least {self.stride}, not {tuple(x.shape)}"
            )
