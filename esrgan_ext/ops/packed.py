"""Whether tensors still hold what they held when they were packed: the one place that judges it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def state(
    tensors: Sequence[Tensor], fingerprint: Callable[[list[tuple[int, int]]], int]
) -> tuple[object, ...]:
    """What differs once a tensor was replaced or written to.

    Addresses and versions, and samples of the values, where something wrote around the versions
    (`parameter.data`, inference tensors).

    Parameters
    ----------
    tensors : sequence of Tensor, float32 on the CPU
    fingerprint : callable
        Hashes samples of the values at addresses, see `CpuLibrary.fingerprint`.
    """
    # The samples are taken as the values lie in memory: copying 66 MB of channels-last weights
    # into another order first would cost a tenth of a small image's time.
    dense = [t.detach() if _is_dense(t) else t.detach().contiguous() for t in tensors]
    return (
        tuple((t.data_ptr(), t.stride(), _version(t)) for t in tensors),
        fingerprint([(t.data_ptr(), t.numel()) for t in dense]),
    )


def _is_dense(tensor: Tensor) -> bool:
    """Whether the values fill their memory without gaps, in either usual order."""
    return tensor.is_contiguous() or (
        tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    )


def _version(tensor: Tensor) -> int:
    return -1 if tensor.is_inference() else tensor._version
