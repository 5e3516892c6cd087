"""A step's batch in parts, each of which a thread takes through the network by itself.

torch shares every single operation among OpenMP's threads, which meet at a barrier after it: where
another program has one of the cores, all of them wait, hundreds of times a step. Threads that take
a part of the batch each meet once a step. Measured with `lite-psnr`'s network on two cores (Zen 4,
in turn, steps per second; 4 patches of 96 and 8 of 128):

    OpenMP, spinning for 300,000 turns as by default    7.5    2.8
    OpenMP, 1,000 turns                                 6.8    2.85
    a thread for each half of the batch                 9.0    3.0
    two runs of these beside each other                 4.6 each

A part's result does not depend on when its thread runs, and parts are added in their order, so a
run's weights depend on the number of threads but never on the machine's load.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")

#: Time of an operation shared by threads, as a multiple of a thread's own share of it (see above).
_SHARED = 1.2


def shard_count(batch: int, threads: int) -> int:
    """The number of parts with which a batch is done soonest.

    Parameters
    ----------
    batch : int
        Images.
    threads : int
        Threads for all of them; those that are left over share the operations of a part.
    """

    def time_of(parts: int) -> float:
        each = threads // parts
        return -(-batch // parts) / each * (_SHARED if each > 1 else 1.0)

    return min(
        range(1, max(1, min(batch, threads)) + 1), key=lambda parts: (time_of(parts), -parts)
    )


class Shards:
    """Threads that compute parts of a batch.

    Parameters
    ----------
    batch : int
        Images of a batch.
    threads : int, optional
        `torch.get_num_threads()` by default.

    Attributes
    ----------
    count : int
        Parts; 1 if the batch is best left whole, which its caller computes then.
    """

    def __init__(self, batch: int, threads: int | None = None) -> None:
        threads = torch.get_num_threads() if threads is None else threads
        self.count = shard_count(batch, threads)
        self._threads, self._each = threads, max(1, threads // self.count)
        self._pool: ThreadPoolExecutor | None = None

    def split(self, images: Tensor) -> tuple[Tensor, ...]:
        """Parts (views) of a batch N,C,H,W; their sizes differ by one at most."""
        return torch.tensor_split(images, self.count)

    def map(
        self, compute: Callable[..., Result], *arguments: Sequence[object] | Iterable[object]
    ) -> list[Result]:
        """Results of `compute` for each part's arguments, in order; the first error is raised."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.count, "esrgan-shard", self._prepare)
        try:
            return list(self._pool.map(compute, *arguments))
        finally:
            torch.set_num_threads(self._threads)  # threads that begin later take the last one set

    def _prepare(self) -> None:
        torch.set_num_threads(self._each)  # of this thread alone
        torch.set_flush_denormal(True)  # as the training loop does, for its own

    def close(self) -> None:
        """End the threads; the next `map` starts them anew."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
