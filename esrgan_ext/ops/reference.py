"""The operators in plain torch: the definition of correct that every kernel is compared with.

Each function is differentiable, takes any memory format and any floating dtype, and says
nothing about speed; `eager` holds the pure-torch path that inference falls back to.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def dense_block(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    negative_slope: float = 0.2,
    residual_scale: float = 0.2,
) -> Tensor:
    """Residual dense block of the RRDB generator (arXiv 1809.00219, figure 4).

    Five 3x3 convolutions with zero padding. Convolution k sees x and the outputs of all
    earlier ones; the first four are followed by LeakyReLU; the result is
    ``residual_scale * conv5 + x``.

    Parameters
    ----------
    x : Tensor, shape (N, nf, H, W)
        Floating point, any memory format.
    weights : five Tensors, OIHW
        ``(gc, nf + k * gc, 3, 3)`` for k = 0..3, then ``(nf, nf + 4 * gc, 3, 3)``.
    biases : five Tensors
        ``(gc,)`` four times, then ``(nf,)``.
    negative_slope : float
        Slope of LeakyReLU below zero.
    residual_scale : float
        Factor on the fifth convolution before x is added.

    Returns
    -------
    Tensor, shape (N, nf, H, W)
    """
    features = [x]
    for weight, bias in zip(weights[:4], biases[:4], strict=True):
        y = F.conv2d(torch.cat(features, 1), weight, bias, padding=1)
        features.append(F.leaky_relu(y, negative_slope))
    return F.conv2d(torch.cat(features, 1), weights[4], biases[4], padding=1) * residual_scale + x


def upsample_conv(x: Tensor, weight: Tensor, bias: Tensor, negative_slope: float = 0.2) -> Tensor:
    """Nearest-neighbour x2 upsampling, 3x3 convolution with zero padding, LeakyReLU.

    Parameters
    ----------
    x : Tensor, shape (N, C, H, W)
    weight : Tensor, shape (O, C, 3, 3)
    bias : Tensor, shape (O,)
    negative_slope : float

    Returns
    -------
    Tensor, shape (N, O, 2H, 2W)
    """
    x = F.interpolate(x, scale_factor=2, mode="nearest")
    return F.leaky_relu(F.conv2d(x, weight, bias, padding=1), negative_slope)


def rrdbnet(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    rrdbs: int,
    upsamplings: int,
    negative_slope: float = 0.2,
    residual_scale: float = 0.2,
) -> Tensor:
    """The whole generator (arXiv 1809.00219, figure 4; xinntao/ESRGAN, RRDBNet_arch.py).

    conv_first; `rrdbs` times three dense blocks around a scaled residual; conv_body and the skip
    over the trunk; `upsamplings` times `upsample_conv`; conv_hr, LeakyReLU; conv_last.

    Parameters
    ----------
    x : Tensor, shape (N, in_channels, H, W)
        Pixel-unshuffled already, where the network does that.
    weights, biases : Tensors
        Parameters of the 3x3 convolutions, in the order above: ``15 * rrdbs + upsamplings + 4`` of
        each.
    rrdbs, upsamplings : int
    negative_slope, residual_scale : float

    Returns
    -------
    Tensor, shape (N, out_channels, H * 2**upsamplings, W * 2**upsamplings)
    """
    layers = iter(zip(weights, biases, strict=True))

    def conv(y: Tensor) -> Tensor:
        weight, bias = next(layers)
        return F.conv2d(y, weight, bias, padding=1)

    features = conv(x)
    y = features
    for _ in range(rrdbs):
        z = y
        for _ in range(3):
            block = [next(layers) for _ in range(5)]
            z = dense_block(
                z, [w for w, _ in block], [b for _, b in block], negative_slope, residual_scale
            )
        y = z * residual_scale + y
    y = conv(y) + features
    for _ in range(upsamplings):
        weight, bias = next(layers)
        y = upsample_conv(y, weight, bias, negative_slope)
    y = F.leaky_relu(conv(y), negative_slope)
    return conv(y)
