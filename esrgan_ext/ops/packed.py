"""Tensors packed for kernels, kept until the originals change: the one place that judges it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

Made = TypeVar("Made")

# Values that are looked at of an inference tensor on a device, where there is no fingerprint.
_SAMPLES = 64


class Kept(Generic[Made]):
    """The last thing made of some tensors. Copies and pickles of its owner leave it behind."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] | None = None
        self._made: Made | None = None
        self._lock = threading.Lock()

    def get(
        self,
        key: tuple[object, ...],
        make: Callable[[], Made],
        again: Callable[[Made], None] = lambda made: None,
    ) -> Made:
        """The value made last if the key is the same, else `make()`; safe to call from any thread.

        Parameters
        ----------
        key : tuple
            Everything that the value depends on: `state` or `versions` of tensors, options.
        make : callable
        again : callable
            Called with what was made earlier, before it is returned.
        """
        with self._lock:
            if self._made is None or self._key != key:
                self._made = None  # the old form goes before the new one comes: 264 MB each
                self._made = make()
                self._key = key
            else:
                again(self._made)
            return self._made

    def __getstate__(self) -> dict[str, object]:
        return {}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__init__()  # type: ignore[misc]

    def __deepcopy__(self, memo: dict[int, object]) -> Kept[Made]:
        return type(self)()


def versions(tensors: Sequence[Tensor]) -> tuple[object, ...]:
    """A stamp that differs once a tensor was replaced or written to, by torch's version counters.

    Nothing is read, which would wait for a device, but samples of inference tensors, which keep no
    version. A write through `parameter.data` is therefore not seen.
    """
    return tuple(
        (t.data_ptr(), t.stride(), t.dtype, t.device, _sampled(t) or _version(t)) for t in tensors
    )


def _sampled(tensor: Tensor) -> tuple[float, ...]:
    if not tensor.is_inference():
        return ()
    step = max(1, tensor.numel() // _SAMPLES)
    return tuple(tensor.detach().flatten()[::step].tolist())


def state(
    tensors: Sequence[Tensor], fingerprint: Callable[[list[tuple[int, int]]], int]
) -> tuple[object, ...]:
    """A stamp that differs once a tensor was replaced or written to.

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
