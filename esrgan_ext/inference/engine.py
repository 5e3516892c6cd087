"""Runs a network over one window of pixels: precision, ensemble, channels, out-of-memory.

Takes and gives float32 numpy arrays in [0, 1], or integer pixels where a GPU converts them; knows
neither files nor whole images.
"""

from __future__ import annotations

import copy
import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from esrgan_ext import ops
from esrgan_ext.errors import ImageError, OptionError
from esrgan_ext.forks import in_forked_child
from esrgan_ext.inference.arrays import ValueMap
from esrgan_ext.inference.devices import Device
from esrgan_ext.inference.graphs import BatchRunner, CudaQueue, KernelFailure, Queue
from esrgan_ext.inference.tensor_values import normalise, restore
from esrgan_ext.models import SRNetwork
from esrgan_ext.ops.cuda import PixelMap
from esrgan_ext.ops.eager import OnWork

# Convolutions on a GPU only enqueue. Waiting for them once per this many multiply-accumulates
# (0.1 s on a GPU of 10 TFLOP/s) keeps progress and cancel honest and costs microseconds.
GPU_SYNC_MACS = 500_000_000_000

# What the operator for GPUs reads and writes as it is stored.
_CONVERTED = {np.dtype(np.uint8): torch.uint8, np.dtype(np.uint16): torch.uint16}

Pixels = TypeVar("Pixels", np.ndarray, Tensor)

_NOT_FINITE = (
    "the network's result is not finite: the image's values lie far outside its range "
    "(give data_range), or the model's weights are damaged"
)


def _one_thread() -> None:
    """In a forked child: GNU's OpenMP would wait for ever for the threads of the parent's pool.

    A parallel region of one thread needs none. The compiled kernels' own threads live as long as a
    call and survive a fork, but take their number from torch's.
    """
    torch.set_num_threads(1)


in_forked_child(_one_thread)


class Engine:
    """A network made ready on a device.

    Parameters
    ----------
    network : SRNetwork
        Left as it is; a copy in the right precision goes to the device where those differ.
    device : Device
    ensemble : bool
        Average the results of the 8 flips and rotations.
    """

    def __init__(self, network: SRNetwork, device: Device, ensemble: bool) -> None:
        if network.in_channels != network.out_channels:
            raise OptionError(
                f"the model maps {network.in_channels} channels to {network.out_channels}; "
                "upscaling needs as many out as in"
            )
        self.network = network
        self.device = device
        self.ensemble = ensemble
        self._ready = _placed(network, device.device, device.dtype)
        # Compiles the kernels where need be: now, not within the first image.
        ops.backend(device.device, device.dtype)
        self._runner = _runner(self._ready, device.device)
        self._float32: SRNetwork | None = None
        self._float32_runner: BatchRunner | None = None

    @property
    def scale(self) -> int:
        return self.network.scale

    def groups(self, channels: int) -> list[tuple[int, ...]]:
        """The channels of one image that go through the network together.

        Gray and alpha go by themselves, repeated to RGB for a 3-channel network; a network of one
        channel takes each by itself.

        Raises
        ------
        ImageError
            If the network takes no image with so many channels.
        """
        wanted = self.network.in_channels
        if channels == wanted:
            return [tuple(range(channels))]
        if wanted == 1 or (wanted == 3 and channels in (1, 2)):
            return [(k,) for k in range(channels)]
        if channels == 4 and wanted == 3:
            return [(0, 1, 2), (3,)]
        raise ImageError(
            f"the image has {channels} channels, the model takes {wanted}: choose another model"
        )

    def macs(self, height: int, width: int, channels: int) -> int:
        """Multiply-accumulates for one image of that size."""
        runs = len(self.groups(channels)) * (8 if self.ensemble else 1)
        return runs * self.network.macs(height, width)

    def bytes_per_pixel(self, channels: int, *, spread: bool = False) -> int:
        """Peak bytes per input pixel of a window, the weights not counted.

        Taken at 1000 x 1000 pixels, where what does not grow with the image hardly counts.
        """
        itemsize = self.device.dtype.itemsize
        result = self.network.scale**2 * self.network.out_channels * 4
        # Groups before the last one and the ensemble's sum wait as whole float32 results.
        waiting = len(self.groups(channels)) - 1 + (3 if self.ensemble else 1)
        if spread:  # sum, squares and one result, in double where they are added
            waiting += 6 * len(self.groups(channels))
        side = 1000
        return self._ready.activation_bytes(side, side, itemsize) // side**2 + waiting * result

    def rows(self, window: np.ndarray, on_work: OnWork) -> Iterator[tuple[int, np.ndarray]]:
        """Upscale a batch of windows, handing out finished rows from the top.

        Parameters
        ----------
        window : ndarray, shape (N, C, h, w), float32
            C as accepted by `groups`.
        on_work : callable
            Called with multiply-accumulates; may raise to stop.

        Yields
        ------
        (int, ndarray of shape (N, C, n, scale * w), float32)
            First row within the window's result, and the rows.

        Raises
        ------
        ImageError
            If the network's result is not finite in float32 either.
        """
        groups = self.groups(window.shape[1])
        # One group is all channels: no copy of what may be a large image.
        *earlier, last = [window] if len(groups) == 1 else [window[:, g] for g in groups]
        finished = [self._whole(planes, on_work) for planes in earlier]
        for top, rows in self._collapsed(last, on_work):
            if not finished:
                yield top, rows
                continue
            below = top + rows.shape[2]
            yield top, np.concatenate([*(f[:, :, top:below] for f in finished), rows], 1)

    def tensor_rows(self, window: Tensor, on_work: OnWork) -> Iterator[tuple[int, Tensor]]:
        """`rows` for a window that is on the device already; so are the results."""
        parts = [window[:, g[0] : g[-1] + 1].contiguous() for g in self.groups(window.shape[1])]
        *earlier, last = parts
        finished = [
            torch.cat([rows for _, rows in self._collapsed_tensors(planes, on_work)], 2)
            for planes in earlier
        ]
        for top, rows in self._collapsed_tensors(last, on_work):
            below = top + rows.shape[2]
            yield top, torch.cat([*(f[:, :, top:below] for f in finished), rows], 1)

    def tensor_spread(self, window: Tensor, on_work: OnWork) -> Iterator[tuple[int, Tensor]]:
        """`spread_rows` for a window that is on the device already; so are the results."""
        total: Tensor | None = None
        squares: Tensor | None = None
        for flipped in (False, True):
            for turns in range(4):
                variant = window.flip(3) if flipped else window
                variant = torch.rot90(variant, turns, (2, 3)).contiguous()
                result = torch.cat([rows for _, rows in self.tensor_rows(variant, on_work)], 2)
                result = torch.rot90(result, -turns, (2, 3))
                result = (result.flip(3) if flipped else result).double()
                total = result if total is None else total + result
                squares = result * result if squares is None else squares + result * result
        assert total is not None
        assert squares is not None
        mean = total / 8
        std = (squares / 8 - mean * mean).clamp_(min=0).sqrt_()
        yield 0, torch.cat((mean, std), 1).float()

    def spread_rows(self, window: np.ndarray, on_work: OnWork) -> Iterator[tuple[int, np.ndarray]]:
        """Mean and standard deviation of the results of the 8 flips and rotations.

        Parameters
        ----------
        window, on_work
            See `rows`.

        Yields
        ------
        (int, ndarray of shape (N, 2 C, scale * h, scale * w), float32)
            0, and the means of the channels before their standard deviations: all at once.
        """
        total: np.ndarray | float = 0.0
        squares: np.ndarray | float = 0.0
        for flipped in (False, True):
            for turns in range(4):
                variant = window[..., ::-1] if flipped else window
                variant = np.ascontiguousarray(np.rot90(variant, turns, (2, 3)))
                result = np.concatenate([rows for _, rows in self.rows(variant, on_work)], 2)
                result = np.rot90(result, -turns, (2, 3))
                result = (result[..., ::-1] if flipped else result).astype(np.float64)
                total = total + result
                squares = squares + result * result
        mean = np.asarray(total) / 8
        variance = np.maximum(np.asarray(squares) / 8 - mean * mean, 0)
        yield 0, np.concatenate((mean, np.sqrt(variance)), 1).astype(np.float32)

    def converts(self, dtype: np.dtype, channels: int) -> bool:
        """Whether `converted_rows` takes such pixels: on a GPU with kernels, 8 and 16 bit, and as
        many channels as the network has (one that is repeated needs the mean of its results)."""
        return (
            self._runner is not None
            and not self.ensemble
            and dtype in _CONVERTED
            and channels == self.network.in_channels
        )

    def converted_rows(
        self, window: Pixels, values: ValueMap, on_work: OnWork
    ) -> Iterator[tuple[int, Pixels]]:
        """`rows` for pixels as they are stored; the result is of their type and range too.

        Parameters
        ----------
        window : ndarray, or tensor on the device, shape (N, C, h, w), uint8 or uint16
            See `converts`.
        values : ValueMap
        on_work : callable
        """
        span = values.high - values.low
        pixels = PixelMap(1 / (span or 1.0), -values.low / (span or 1.0), span, values.low)
        if isinstance(window, Tensor):
            dense = window.contiguous()
            fused = self._fused(dense, window.dtype, pixels, on_work)
            if fused is not None:
                yield 0, fused
                return
            for top, strip in self.tensor_rows(normalise(window, values), on_work):
                yield top, restore(strip, values)
            return
        result = self._fused(window, _CONVERTED[window.dtype], pixels, on_work)
        if result is not None:
            yield 0, result
            return
        for top, rows in self.rows(values.normalise(window), on_work):
            yield top, values.restore(rows)

    def release_memory(self) -> None:
        """Give back what a failed attempt still holds, buffers and graphs included."""
        for runner in (self._runner, self._float32_runner):
            if runner is not None:
                runner.clear()
        release_memory(self.device)

    def _fused(
        self, batch: Pixels, out_dtype: torch.dtype, pixels: PixelMap, on_work: OnWork
    ) -> Pixels | None:
        """The result of the GPU's operator; None where there is none, or none any more."""
        if self._runner is None or self.ensemble:
            return None
        macs = self.network.macs(*batch.shape[2:]) * batch.shape[0]
        try:
            result, overflowed = self._runner.run(batch, out_dtype, pixels, on_work, macs)
            if overflowed and self.device.precision != "fp32":
                self._warn_of_overflow()
                runner = self._exact_runner()
                if runner is None:
                    return None
                result, overflowed = runner.run(batch, out_dtype, pixels, on_work, macs)
        except KernelFailure as failure:
            cause = failure.__cause__
            assert cause is not None
            if is_out_of_memory(cause):
                raise cause from None
            for dtype in {self.device.dtype, torch.float32}:
                ops.selfcheck.distrust(self.device.device, dtype, f"failed ({failure})")
            self._runner = self._float32_runner = None
            return None
        if overflowed:
            raise ImageError(_NOT_FINITE)
        return result

    def _exact_runner(self) -> BatchRunner | None:
        if self._float32_runner is None:
            self._float32_runner = _runner(self._exact(), self.device.device)
        return self._float32_runner

    def _exact(self) -> SRNetwork:
        """The network in float32, for what overflows."""
        if self._float32 is None:
            self._float32 = _placed(self.network, self.device.device, torch.float32)
        return self._float32

    def _warn_of_overflow(self) -> None:
        warnings.warn(
            f"{self.device.precision} overflowed on part of the image; "
            "that part is computed again in fp32",
            RuntimeWarning,
            stacklevel=3,
        )

    def _whole(self, planes: np.ndarray, on_work: OnWork) -> np.ndarray:
        return np.concatenate([rows for _, rows in self._collapsed(planes, on_work)], 2)

    def _collapsed(self, planes: np.ndarray, on_work: OnWork) -> Iterator[tuple[int, np.ndarray]]:
        """Run one group of channels; a single one is repeated and its results averaged."""
        fused = self._fused(planes, torch.float32, PixelMap(), on_work)
        if fused is not None:
            yield 0, fused
            return
        for top, rows in self._repeated(torch.from_numpy(np.ascontiguousarray(planes)), on_work):
            yield top, rows.cpu().numpy()

    def _collapsed_tensors(self, planes: Tensor, on_work: OnWork) -> Iterator[tuple[int, Tensor]]:
        """`_collapsed` on the device."""
        fused = self._fused(planes, torch.float32, PixelMap(), on_work)
        if fused is not None:
            yield 0, fused
            return
        yield from self._repeated(planes, on_work)

    def _repeated(self, planes: Tensor, on_work: OnWork) -> Iterator[tuple[int, Tensor]]:
        wanted = self.network.in_channels
        repeated = planes.shape[1] < wanted
        if repeated:
            planes = planes.expand(-1, wanted, -1, -1).contiguous()
        for top, rows in self._checked(planes, on_work):
            values = rows.to(torch.float32)
            yield top, values.mean(1, keepdim=True) if repeated else values

    def _checked(self, planes: Tensor, on_work: OnWork) -> Iterator[tuple[int, Tensor]]:
        """Run in the chosen precision; what overflows there is done again in float32."""
        if len(planes) > 1 and self.device.is_cpu and not self._ready.same_in_batches(planes):
            alone = (self._checked(plane[None], on_work) for plane in planes)
            yield 0, torch.cat([torch.cat([rows for _, rows in one], 2) for one in alone])
            return
        if self.device.precision == "fp32":
            for top, rows in self._run(self._ready, planes, on_work):
                yield top, _finite(rows)
            return
        whole = torch.cat([rows for _, rows in self._run(self._ready, planes, on_work)], 2)
        if not bool(torch.isfinite(whole).all()):
            self._warn_of_overflow()
            whole = torch.cat([rows for _, rows in self._run(self._exact(), planes, on_work)], 2)
        yield 0, _finite(whole)

    def _run(
        self, network: SRNetwork, planes: Tensor, on_work: OnWork
    ) -> Iterator[tuple[int, Tensor]]:
        with torch.inference_mode():
            x = planes.to(self.device.device, next(network.parameters()).dtype)
        if self.device.device.type == "cuda":
            on_work = _Synchronised(on_work, self.device.device)
        if self.ensemble:
            with self._mode():
                result = ensemble(network, x, on_work)
            yield 0, result
            return
        strips = network.strips(x, on_work)
        while True:
            # Entered anew for each strip: the mode belongs to the thread, and between two
            # strips that is the caller's.
            with self._mode():
                strip = next(strips, None)
            if strip is None:
                return
            yield strip

    @contextmanager
    def _mode(self) -> Iterator[None]:
        """No gradients, and no autocast of the caller's: the precision is ours."""
        kind = self.device.device.type
        known = torch.amp.is_autocast_available(kind)
        with torch.inference_mode(), torch.autocast(kind if known else "cpu", enabled=False):
            yield


class _Synchronised:
    """Waits for the GPU now and then, so that reported work is done work."""

    def __init__(self, on_work: OnWork, device: torch.device) -> None:
        self._on_work, self._device = on_work, device
        self._enqueued = 0

    def __call__(self, macs: int) -> None:
        self._enqueued += macs
        if self._enqueued >= GPU_SYNC_MACS:
            torch.cuda.synchronize(self._device)
            self._enqueued = 0
        self._on_work(macs)


def ensemble(network: SRNetwork, x: Tensor, on_work: OnWork | None = None) -> Tensor:
    """Mean of the results of the 8 flips and rotations, each turned back (arXiv 1511.02228).

    Parameters
    ----------
    network : SRNetwork
    x : Tensor, shape (N, C, H, W)
    on_work : callable or None

    Returns
    -------
    Tensor, shape (N, C, scale * H, scale * W)
    """
    total: Tensor | None = None
    for flipped in (False, True):
        for turns in range(4):
            variant = torch.rot90(x.flip(3) if flipped else x, turns, (2, 3))
            y = torch.rot90(network(variant.contiguous(), on_work), -turns, (2, 3))
            y = y.flip(3) if flipped else y
            total = y.to(torch.float32, copy=True) if total is None else total.add_(y)
    assert total is not None
    return total.div_(8)


def _queue(device: torch.device) -> Queue:
    return CudaQueue(device)


def _runner(network: SRNetwork, device: torch.device) -> BatchRunner | None:
    fused = network.fused()
    return None if fused is None else BatchRunner(fused, _queue(device))


def _placed(network: SRNetwork, device: torch.device, dtype: torch.dtype) -> SRNetwork:
    """The network itself where it is right as it stands, else a converted copy."""
    first = next(network.parameters())
    right = first.device == device and first.dtype == dtype and not network.training
    if right:
        return network
    placed = copy.deepcopy(network).to(device=device, dtype=dtype).eval()
    return placed.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _finite(rows: Tensor) -> Tensor:
    if not bool(torch.isfinite(rows).all()):
        raise ImageError(_NOT_FINITE)
    return rows


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on whichever device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # torch's CPU allocator, and MPS, raise a plain RuntimeError.
    text = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "can't allocate memory" in text or "not enough memory" in text or "out of memory" in text
    )


def release_memory(device: Device) -> None:
    """Give back what a failed attempt still holds."""
    gc.collect()
    if device.device.type == "cuda":
        torch.cuda.empty_cache()
