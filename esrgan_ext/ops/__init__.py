"""Operators of the ESRGAN networks: one signature, several implementations.

`reference` defines what is correct, `eager` is the pure-torch inference path, `extension` finds
or compiles the kernels in csrc/, `native` runs whole networks in them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from esrgan_ext.ops import eager, extension, native, reference

__all__ = ["backend", "dense_block", "eager", "extension", "native", "reference"]


def backend() -> str:
    """Name of the implementation that runs the networks on this machine's CPU.

    Returns
    -------
    str
        'cpu-avx512', 'cpu-avx2', 'cpu-baseline', or 'reference' without the extension.
    """
    module = extension.load()
    return "reference" if module is None else f"cpu-{module.build_info()['isa']}"


@torch.compiler.assume_constant_result
def _has_kernels() -> bool:
    return extension.load() is not None


def dense_block(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    negative_slope: float = 0.2,
    residual_scale: float = 0.2,
) -> Tensor:
    """Residual dense block of the RRDB generator, in the fastest implementation there is.

    Differentiable; one opaque operator for torch.compile and torch.export. See
    `reference.dense_block` for the parameters.

    Parameters
    ----------
    x : Tensor, shape (N, nf, H, W)
    weights, biases : five Tensors each
    negative_slope, residual_scale : float

    Returns
    -------
    Tensor, shape (N, nf, H, W)
        Channels-last where the kernels run: nf 32 or 64, gc 16 or 32, float32, on the CPU.
    """
    if x.device.type == "cpu" and _has_kernels():
        return torch.ops.esrgan_ext.dense_block(
            x, list(weights), list(biases), negative_slope, residual_scale
        )
    return reference.dense_block(x, weights, biases, negative_slope, residual_scale)
