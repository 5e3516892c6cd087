"""The operators arranged for training on a CPU: differentiable, and without concatenations.

Same results as `reference` up to the order of summation, at fewer bytes moved; autograd does the
rest. Not meant for half precision, where the partial sums would be rounded more often.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

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
    """`reference.dense_block` as five convolutions, each of everything that reads one input.

    The share of x in all five convolutions of the definition is one convolution with ``4*gc + nf``
    outputs, the share of the first output in the other four is the next, and so on: the widths suit
    the vector units better than the growth channels alone, forwards and backwards, and x is not
    copied five times.

    Parameters
    ----------
    x : Tensor, shape (N, nf, H, W)
        Channels-last is fastest.
    weights, biases : five Tensors each
        As in `reference.dense_block`.
    """
    nf, gc = weights[4].shape[0], weights[0].shape[0]
    bounds = [0, nf, nf + gc, nf + 2 * gc, nf + 3 * gc, nf + 4 * gc]
    by_input = [
        torch.cat([w[:, lo:hi] for w in weights[source:]])
        for source, (lo, hi) in enumerate(pairwise(bounds))
    ]
    widths = [gc, gc, gc, gc, nf]
    sums = list(F.conv2d(x, by_input[0], torch.cat(list(biases)), padding=1).split(widths, 1))
    for k in range(4):
        y = F.leaky_relu(sums[k], negative_slope)
        parts = F.conv2d(y, by_input[k + 1], padding=1).split(widths[k + 1 :], 1)
        sums[k + 1 :] = [total + part for total, part in zip(sums[k + 1 :], parts, strict=True)]
    return torch.add(x, sums[4], alpha=residual_scale)


def upsample_conv(x: Tensor, weight: Tensor, bias: Tensor, negative_slope: float = 0.2) -> Tensor:
    """`reference.upsample_conv` computed before the upsampling, at 4/9 of the multiplications.

    After nearest-neighbour upsampling a 3x3 window sees only 2x2 different pixels, so each of the
    four phases of the output is a 2x2 convolution of x with sums of the kernel's rows and columns.

    Parameters
    ----------
    x : Tensor, shape (N, C, H, W)
    weight : Tensor, shape (O, C, 3, 3)
    bias : Tensor, shape (O,)

    Returns
    -------
    Tensor, shape (N, O, 2 * H, 2 * W)
    """
    n, _, height, width = x.shape
    outputs = weight.shape[0]
    rows = (
        torch.stack((weight[:, :, 0], weight[:, :, 1] + weight[:, :, 2]), 2),
        torch.stack((weight[:, :, 0] + weight[:, :, 1], weight[:, :, 2]), 2),
    )
    kernels = [
        kernel
        for r in rows
        for kernel in (
            torch.stack((r[..., 0], r[..., 1] + r[..., 2]), 3),
            torch.stack((r[..., 0] + r[..., 1], r[..., 2]), 3),
        )
    ]
    y = F.conv2d(x, torch.cat(kernels), bias.repeat(4), padding=1)
    y = F.leaky_relu(y, negative_slope).permute(0, 2, 3, 1)  # N, H+1, W+1, 4*O
    phases = [
        y[:, a : a + height, b : b + width, (2 * a + b) * outputs : (2 * a + b + 1) * outputs]
        for a in (0, 1)
        for b in (0, 1)
    ]
    shuffled = torch.stack(phases, 3).view(n, height, width, 2, 2, outputs)
    shuffled = shuffled.permute(0, 1, 3, 2, 4, 5).reshape(n, 2 * height, 2 * width, outputs)
    return shuffled.permute(0, 3, 1, 2)  # channels-last
