"""The operators in pure torch, arranged for inference without the compiled extension.

Compared with `reference`: no concatenation, convolutions cut into strips of rows so that a
caller hears of progress (and can stop) several times a second, and in-place activations.
Nothing here is differentiable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

OnWork = Callable[[int], None]
"""Called with the multiply-accumulates done since the last call; may raise to stop the work."""

# A strip of about this many multiply-accumulates takes 0.05 s on two AVX-512 cores (oneDNN runs
# 3x3 convolutions there at 100 to 180 GMAC/s) and under 0.5 s on a tenth of that.
# On a GPU kernels only enqueue, and strips would leave most of the multiprocessors idle.
CPU_STRIP_MACS = 5_000_000_000


def conv3x3(x: Tensor, weight: Tensor, bias: Tensor | None, on_work: OnWork | None) -> Tensor:
    """3x3 convolution with zero padding, in strips of rows on the CPU.

    Parameters
    ----------
    x : Tensor, shape (N, C, H, W)
    weight : Tensor, shape (O, C, 3, 3)
    bias : Tensor, shape (O,), or None
    on_work : callable or None

    Returns
    -------
    Tensor, shape (N, O, H, W)
    """
    n, channels, height, width = x.shape
    outputs = weight.shape[0]
    row_macs = max(1, n * width * 9 * channels * outputs)
    rows = max(1, CPU_STRIP_MACS // row_macs)
    if on_work is None or x.device.type != "cpu" or rows >= height:
        y = F.conv2d(x, weight, bias, padding=1)
        if on_work is not None:
            on_work(row_macs * height)
        return y
    y = x.new_empty((n, outputs, height, width)).contiguous(memory_format=torch.channels_last)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        window = x[:, :, max(top - 1, 0) : bottom + 1]
        # Zeros stand above the first row and below the last one of the image only.
        above, below = int(top == 0), int(bottom == height)
        if above or below:
            window = F.pad(window, (0, 0, above, below))
        y[:, :, top:bottom] = F.conv2d(window, weight, bias, padding=(0, 1))
        on_work(row_macs * (bottom - top))
    return y


class DenseBlockWeights:
    """The five convolutions of a dense block regrouped by their input.

    The share of x in all five convolutions is one convolution with ``4*gc + nf`` outputs, the
    share of the first output in the other four is another, and so on. The sums replace the
    concatenations of the definition, at the same number of multiplications.
    """

    def __init__(self, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> None:
        nf, gc = weights[4].shape[0], weights[0].shape[0]
        bounds = [0, nf, nf + gc, nf + 2 * gc, nf + 3 * gc, nf + 4 * gc]
        self.nf, self.gc = nf, gc
        self.bias = torch.cat([b.detach() for b in biases])
        self.by_input = [
            torch.cat([w.detach()[:, lo:hi] for w in weights[source:]]).contiguous(
                memory_format=torch.channels_last
            )
            for source, (lo, hi) in enumerate(pairwise(bounds))
        ]


def dense_block(
    x: Tensor,
    packed: DenseBlockWeights,
    negative_slope: float = 0.2,
    residual_scale: float = 0.2,
    on_work: OnWork | None = None,
) -> Tensor:
    """`reference.dense_block` as five convolutions whose outputs are summed up by consumer.

    Differs from the definition by the order of summation only: 1e-6 relative in float32.
    For half precision `dense_block_buffered` rounds less often.
    """
    gc = packed.gc
    sums = conv3x3(x, packed.by_input[0], packed.bias, on_work)
    for k in range(4):
        y = F.leaky_relu(sums[:, k * gc : (k + 1) * gc], negative_slope)
        y = y.contiguous(memory_format=torch.channels_last)
        sums[:, (k + 1) * gc :] += conv3x3(y, packed.by_input[k + 1], None, on_work)
    return torch.add(x, sums[:, 4 * gc :], alpha=residual_scale)


def dense_block_buffered(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    negative_slope: float = 0.2,
    residual_scale: float = 0.2,
    on_work: OnWork | None = None,
) -> Tensor:
    """`reference.dense_block` on one buffer of ``nf + 4*gc`` channels, each output written once.

    Every sum stays inside one convolution, so half precision rounds once per convolution
    as the definition does.
    """
    nf, gc = weights[4].shape[0], weights[0].shape[0]
    n, _, height, width = x.shape
    buffer = x.new_empty((n, nf + 4 * gc, height, width)).contiguous(
        memory_format=torch.channels_last
    )
    buffer[:, :nf] = x
    for k in range(4):
        lo = nf + k * gc
        y = conv3x3(buffer[:, :lo], weights[k], biases[k], on_work)
        buffer[:, lo : lo + gc] = F.leaky_relu_(y, negative_slope)
    y = conv3x3(buffer, weights[4], biases[4], on_work)
    return torch.add(x, y, alpha=residual_scale)


def upsample_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    negative_slope: float = 0.2,
    on_work: OnWork | None = None,
) -> Tensor:
    """`reference.upsample_conv` with progress."""
    x = F.interpolate(x, scale_factor=2, mode="nearest")
    return F.leaky_relu_(conv3x3(x, weight, bias, on_work), negative_slope)
