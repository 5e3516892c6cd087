"""Runs a fused network on a GPU: buffers that stay, and one CUDA graph for each shape of a batch.

A shape's first batch is enqueued kernel by kernel; from the second on, a graph of the same work is
replayed, which saves the time that hundreds of launches take. Nothing here knows images, tiles or
precisions; what a batch's pixels mean is told by a `PixelMap`.
"""

from __future__ import annotations

import contextlib
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from esrgan_ext.ops.cuda import FusedNetwork, PixelMap
from esrgan_ext.ops.eager import OnWork

Pixels = TypeVar("Pixels", np.ndarray, Tensor)

# The windows of a tiled image have at most nine shapes (corners, edges, inside). Buffers of whole
# large images are worth keeping only while little memory is tied up in them.
MOST_SHAPES = 12
MOST_BYTES = 1 << 30

# Looks at the device while it works: so often that they add at most a twentieth to the time, and
# so seldom that it costs no CPU time; cancelling is due within 0.2 s.
_LOOK_SHARE, _SHORTEST_LOOK, _LONGEST_LOOK = 0.05, 0.0002, 0.05

# Work is reported by the time it should take, from earlier batches; the last part when it is done.
_REPORTED_BEFOREHAND = 0.95


class KernelFailure(Exception):
    """The device did not take the work; the cause is torch's error."""


class Mark(Protocol):
    """A point in a queue of work."""

    def query(self) -> bool:
        """Whether everything before it is done."""


class Queue(Protocol):
    """Operations that a runner needs of a device; `CudaQueue` is the real one."""

    def use(self) -> contextlib.AbstractContextManager[object]:
        """Make the device current."""

    def empty(self, like: Tensor, dtype: torch.dtype) -> Tensor:
        """Uninitialised memory on the device, of a host tensor's shape and strides."""

    def staging(self, like: Tensor) -> Tensor:
        """Host memory of a device tensor's shape, strides and type, for fast copies."""

    def after(self, mark: Mark) -> None:
        """Let what is enqueued from now on wait for a mark."""

    def mark(self) -> Mark:
        """Mark this point."""

    def record(self, call: Callable[[], None]) -> Callable[[], None]:
        """Capture what a call enqueues; the result enqueues it again."""


class CudaQueue:
    """The current stream of one GPU; graphs share one pool of memory.

    Sharing is safe because a runner's graphs never run at the same time and pass nothing to
    each other: buffers lie outside of the pool.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool: Any = None
        self._capture_stream: torch.cuda.Stream | None = None

    def use(self) -> contextlib.AbstractContextManager[object]:
        return torch.cuda.device(self._device)

    def empty(self, like: Tensor, dtype: torch.dtype) -> Tensor:
        return torch.empty_like(like, dtype=dtype, device=self._device)

    def staging(self, like: Tensor) -> Tensor:
        return torch.empty_like(like, device="cpu", pin_memory=True)

    def after(self, mark: Mark) -> None:
        torch.cuda.current_stream(self._device).wait_event(mark)  # type: ignore[arg-type]

    def mark(self) -> Mark:
        return torch.cuda.current_stream(self._device).record_event()

    def record(self, call: Callable[[], None]) -> Callable[[], None]:
        if self._capture_stream is None:
            self._pool = torch.cuda.graph_pool_handle()
            self._capture_stream = torch.cuda.Stream(self._device)
        graph = torch.cuda.CUDAGraph()
        # Other threads may go on using the device meanwhile: napari's other jobs, say.
        with torch.cuda.graph(
            graph,
            pool=self._pool,
            stream=self._capture_stream,
            capture_error_mode="thread_local",
        ):
            call()
        return graph.replay


@dataclass(frozen=True)
class BatchKind:
    """Key of one set of buffers and one graph.

    Attributes
    ----------
    shape, strides : tuple of int
        Shape of the batch, (N, C, h, w); strides in elements.
    dtype, out_dtype : torch.dtype
    pixels : PixelMap
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype
    out_dtype: torch.dtype
    pixels: PixelMap


@dataclass
class _Buffers:
    """Memory of one kind of batch, and what runs it."""

    x: Tensor
    result: Tensor
    nonfinite: Tensor
    nbytes: int
    enqueue: Callable[[], None]
    replay: Callable[[], None] | None = None
    runs: int = 0


class BatchRunner:
    """Runs batches through a fused network, one at a time, from any thread.

    Parameters
    ----------
    network : FusedNetwork
    queue : Queue
    """

    def __init__(self, network: FusedNetwork, queue: Queue) -> None:
        self._network = network
        self._queue = queue
        self._packed: Tensor | None = None
        self._kept: OrderedDict[BatchKind, _Buffers] = OrderedDict()
        self._unfinished: Mark | None = None
        self._capturing = True
        self._seconds_per_mac: float | None = None
        self._lock = threading.RLock()  # progress callbacks may upscale something themselves

    def run(
        self,
        batch: Pixels,
        out_dtype: torch.dtype,
        pixels: PixelMap,
        on_work: OnWork,
        macs: int,
    ) -> tuple[Pixels, bool]:
        """Run one batch and wait for it.

        Parameters
        ----------
        batch : ndarray, or tensor on a GPU, shape (N, C, h, w)
            uint8, uint16 or float32, dense in any order of axes. C is what the network takes, or
            1: the same plane for each of the network's channels, and the mean of their results.
        out_dtype : torch.dtype
            The result's: that of `batch`, or float32 where C is 1 and the network takes more.
        pixels : PixelMap
        on_work : callable
            Called about every 0.05 s at most, and in the end; the calls add up to `macs`. May raise
            to stop waiting.
        macs : int

        Returns
        -------
        ndarray, or tensor on the GPU, shape (N, C, zoom * h, zoom * w)
        bool
            Whether a value of the network's output was not finite.

        Raises
        ------
        KernelFailure
            If the work could not be enqueued; out of memory too, the cause says so.
        """
        with self._lock, self._queue.use(), torch.inference_mode():
            if self._unfinished is not None:  # a caller that stopped waiting left it running
                self._queue.after(self._unfinished)
            packed = self._network.packed()
            if packed is not self._packed:  # graphs hold the address of the old one
                self._kept.clear()
                self._packed = packed
            source = batch if isinstance(batch, Tensor) else torch.from_numpy(batch)
            kind = BatchKind(
                tuple(source.shape), tuple(source.stride()), source.dtype, out_dtype, pixels
            )
            start = time.perf_counter()
            try:
                buffers = self._buffers(kind, source)
                buffers.x.copy_(source)
                self._enqueue(buffers)
                # New ones each time, out of torch's cache of such memory: they are the caller's.
                if isinstance(batch, Tensor):
                    result = buffers.result.clone()
                else:
                    result = self._queue.staging(buffers.result)
                    result.copy_(buffers.result, non_blocking=True)
                nonfinite = self._queue.staging(buffers.nonfinite)
                nonfinite.copy_(buffers.nonfinite, non_blocking=True)
                mark = self._queue.mark()
            except RuntimeError as error:
                raise KernelFailure(str(error)) from error
            self._unfinished = mark
            self._wait(mark, start, on_work, macs)
            self._unfinished = None
            if isinstance(batch, Tensor):
                return result, bool(nonfinite.item())
            return result.numpy(), bool(nonfinite.item())

    def clear(self) -> None:
        """Give up all buffers and graphs."""
        with self._lock:
            self._kept.clear()

    @property
    def kept(self) -> list[BatchKind]:
        """Keys that have buffers, the one used last at the end."""
        return list(self._kept)

    def _buffers(self, kind: BatchKind, source: Tensor) -> _Buffers:
        found = self._kept.get(kind)
        if found is not None:
            self._kept.move_to_end(kind)
            return found
        made = self._made(kind, source)
        total = made.nbytes + sum(b.nbytes for b in self._kept.values())
        while self._kept and (len(self._kept) >= MOST_SHAPES or total > MOST_BYTES):
            _, oldest = self._kept.popitem(last=False)
            total -= oldest.nbytes
        self._kept[kind] = made
        return made

    def _made(self, kind: BatchKind, source: Tensor) -> _Buffers:
        network, queue = self._network, self._queue
        n, channels, height, width = kind.shape
        zoom, wanted = network.zoom, network.shape.in_channels
        x = queue.empty(source, kind.dtype)
        # Interleaved pixels stay interleaved: such a result is copied in whole rows.
        last = channels > 1 and kind.strides[1] == 1
        template = torch.empty(
            (n, network.shape.out_channels, height * zoom, width * zoom),
            device="meta",
            memory_format=torch.channels_last if last else torch.contiguous_format,
        )
        out = queue.empty(template, kind.out_dtype)
        nonfinite = queue.empty(torch.empty(1, device="meta"), torch.int32)
        repeated = channels == 1 and wanted > 1
        seen = x.expand(n, wanted, height, width) if repeated else x
        result = queue.empty(template[:, :1].contiguous(), kind.out_dtype) if repeated else out
        packed = self._packed
        assert packed is not None

        def enqueue() -> None:
            network.into(seen, packed, out, kind.pixels, nonfinite)
            if repeated:
                torch.mean(out, 1, keepdim=True, out=result)

        nbytes = x.nbytes + out.nbytes + (result.nbytes if repeated else 0)
        return _Buffers(x, result, nonfinite, nbytes, enqueue)

    def _enqueue(self, buffers: _Buffers) -> None:
        buffers.runs += 1
        # An image of a size of its own is not worth a capture.
        if buffers.runs == 2 and self._capturing:
            try:
                buffers.replay = self._queue.record(buffers.enqueue)
            except torch.OutOfMemoryError:
                pass  # a graph has memory of its own: this size goes without
            except RuntimeError as error:
                self._capturing = False
                warnings.warn(
                    f"CUDA graphs are not used: capturing one failed ({error})",
                    RuntimeWarning,
                    stacklevel=4,
                )
        (buffers.replay or buffers.enqueue)()

    def _wait(self, mark: Mark, start: float, on_work: OnWork, macs: int) -> None:
        reported = 0
        while not mark.query():
            elapsed = time.perf_counter() - start
            time.sleep(min(_LONGEST_LOOK, max(_SHORTEST_LOOK, _LOOK_SHARE * elapsed)))
            done = 0
            if self._seconds_per_mac:
                share = min(_REPORTED_BEFOREHAND, elapsed / (self._seconds_per_mac * macs))
                done = int(macs * share)
            on_work(max(0, done - reported))
            reported = max(reported, done)
        self._seconds_per_mac = (time.perf_counter() - start) / max(1, macs)
        on_work(macs - reported)
