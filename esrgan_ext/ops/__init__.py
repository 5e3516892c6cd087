"""Operators of the ESRGAN networks: one signature, several implementations.

`reference` defines what is correct, `eager` is the pure-torch inference path. `build.library`
finds the kernels of csrc/ or has them compiled (`build.jit`, with what `build.toolchain` finds),
`build.selfcheck` tries them on the device, `cpu` and `cuda` run whole networks in them.

Words: *packed* weights are a network's parameters in the order and type in which the kernels read
them; *fused* is a whole network, conversion of pixels included, as one call; *grouped* convolutions
are those of a dense block put together by the input that they read; *macs* are
multiply-accumulates, the unit of work that is reported.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from esrgan_ext.ops import cpu, cuda, eager, reference
from esrgan_ext.ops.build import library, selfcheck

__all__ = [
    "backend", "cpu", "cuda", "dense_block", "eager", "library", "reference", "selfcheck",
]  # fmt: skip


def backend(device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> str:
    """Name of the implementation that runs the networks on a device.

    Parameters
    ----------
    device : torch.device or str
    dtype : torch.dtype, optional
        float32 on the CPU and float16 on CUDA by default.

    Returns
    -------
    str
        'cpu-avx512', 'cpu-avx2' or 'cpu-baseline'; 'cuda'; 'reference' where there are no
        compiled kernels, or none that passed their self-check.

    Examples
    --------
    >>> from esrgan_ext.ops import backend
    >>> backend("cpu") in ("cpu-avx512", "cpu-avx2", "cpu-baseline", "reference")
    True
    """
    device = torch.device(device)
    if device.type == "cpu":
        module = library.load()
        if module is None or not selfcheck.trusted(device, torch.float32):
            return "reference"
        return f"cpu-{module.build_info()['isa']}"
    if device.type == "cuda" and cuda.available(device, dtype or torch.float16):
        return "cuda"
    return "reference"


def _has_kernels(device: torch.device, dtype: torch.dtype) -> bool:
    if device.type == "cpu":
        return library.load() is not None and selfcheck.trusted(device, torch.float32)
    return cuda.available(device, dtype)


def dense_block(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    negative_slope: float = 0.2,
    residual_scale: float = 0.2,
) -> Tensor:
    """Residual dense block of the RRDB generator, in the fastest implementation there is.

    A building block for networks of your own: differentiable, and one opaque operator for
    torch.compile and torch.export. `RRDBNet` does not call it, since whole networks run faster: as
    one operator for inference, as grouped convolutions in training. See `reference.dense_block`
    for the parameters.

    Parameters
    ----------
    x : Tensor, shape (N, nf, H, W)
    weights, biases : five Tensors each
    negative_slope, residual_scale : float

    Returns
    -------
    Tensor, shape (N, nf, H, W)
        Channels-last where the kernels run: nf 32 or 64, gc 16 or 32; float32 on the CPU,
        float16, bfloat16 or float32 on CUDA.

    Examples
    --------
    >>> import torch
    >>> from esrgan_ext.ops import dense_block
    >>> nf, gc = 64, 32
    >>> widths = [(nf + i * gc, gc) for i in range(4)] + [(nf + 4 * gc, nf)]
    >>> weights = [0.01 * torch.randn(o, i, 3, 3) for i, o in widths]
    >>> biases = [torch.zeros(o) for _, o in widths]
    >>> dense_block(torch.randn(1, nf, 8, 9), weights, biases).shape
    torch.Size([1, 64, 8, 9])
    """
    if _has_kernels(x.device, x.dtype):
        return torch.ops.esrgan_ext.dense_block(
            x, list(weights), list(biases), negative_slope, residual_scale
        )
    return reference.dense_block(x, weights, biases, negative_slope, residual_scale)
