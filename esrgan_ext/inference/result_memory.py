"""Memory of a result: provided while a GPU still computes it, and filled by several threads.

`np.empty` reserves addresses only; the system provides each page when it is first written. For the
100 MB of an 8K photo that took 30 ms of the 32 of NumPy's copy into a new array, and once the pages
were there torch's copy, by two threads, took 4 (Zen 4). A network on a GPU takes 70 to 340 ms for
that photo, in which the CPU has nothing to do.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
import threading

import numpy as np
import torch

# Beyond this, memory is provided as it is written: the machine may not have all of it at once.
_MOST_BYTES = 1 << 30
# Linux 5.14: as if every page were written to, but what another thread writes meanwhile stays.
_POPULATE_WRITE = 23


def provide_in_background(array: np.ndarray) -> threading.Thread | None:
    """Let the system provide an array's memory, in a thread that ends by itself.

    Values stay what they are or are being set to. A hint: where the system cannot, nothing happens.

    Parameters
    ----------
    array : ndarray
        New and contiguous. One that lies on another's memory, a file's say, is left alone.

    Returns
    -------
    Thread or None
        None where there is nothing to do.
    """
    small = array.nbytes < mmap.PAGESIZE or array.nbytes > _MOST_BYTES
    if sys.platform != "linux" or small or array.base is not None or not array.flags.forc:
        return None
    thread = threading.Thread(
        target=_provide, args=(array,), name="esrgan-result-memory", daemon=True
    )
    thread.start()
    return thread


def _provide(array: np.ndarray) -> None:
    page = mmap.PAGESIZE
    first = -(-array.ctypes.data // page) * page
    end = (array.ctypes.data + array.nbytes) // page * page
    if end <= first:
        return
    try:
        madvise = ctypes.CDLL(None).madvise
    except (OSError, AttributeError):
        return
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    madvise(first, end - first, _POPULATE_WRITE)  # an older kernel's refusal is no error


def copy_by_threads(target: np.ndarray, source: np.ndarray) -> None:
    """`target[...] = source` for arrays of one shape and dtype, by torch's threads.

    For results of a GPU: beside a network on the CPU its threads would spin on the same cores.
    Where torch cannot look at an array (strides below zero), NumPy copies.
    """
    if min((*target.strides, *source.strides), default=0) < 0:
        target[...] = source
        return
    torch.from_numpy(target).copy_(torch.from_numpy(source))
