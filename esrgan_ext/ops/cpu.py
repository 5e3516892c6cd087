"""Runs a whole network in the CPU kernels, with progress, cancelling and finished rows.

The caller brings the network's shape and parameters; when the packed weights have to be made
anew is decided here, what a network looks like in `esrgan_ext.models`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from esrgan_ext.ops import packed as packed_weights
from esrgan_ext.ops.build import library, selfcheck

# Seconds between looks at a running network: progress is due every half second, cancelling
# within 0.2 s, and small images should not wait for a look.
_FIRST_LOOK, _LOOK = 0.002, 0.05

# Words of the control tensor, see `_run` in `cpu_operators`.
_CANCEL, _DONE, _ROWS, _TOTAL, _THREADS = range(5)


class Shape(Protocol):
    """Shape of a network as the kernels need it, and their operators for it."""

    @property
    def out_channels(self) -> int: ...

    @property
    def zoom(self) -> int:
        """Output pixels per input pixel along each axis."""

    def unsupported(self) -> str:
        """Why the kernels cannot run it, or ""."""

    def pack(self, *parameters: Sequence[Tensor]) -> Tensor:
        """The kernels' form of the parameters, float32 on the CPU."""

    def run_into(self, x: Tensor, packed: Tensor, out: Tensor, control: Tensor | None) -> None:
        """Run the network; `control` as in `cpu_operators`."""


@dataclass(frozen=True)
class NetworkShape:
    """Of an RRDBNet: channels after pixel-unshuffling, widths, depths."""

    in_channels: int
    out_channels: int
    nf: int
    gc: int
    rrdbs: int
    upsamplings: int

    def as_list(self) -> list[int]:
        return [
            self.in_channels, self.out_channels, self.nf, self.gc, self.rrdbs, self.upsamplings,
        ]  # fmt: skip

    @property
    def zoom(self) -> int:
        return 2**self.upsamplings

    def unsupported(self) -> str:
        return torch.ops.esrgan_ext.rrdbnet_unsupported(self.as_list())

    def pack(self, *parameters: Sequence[Tensor]) -> Tensor:
        weights, biases = parameters
        return torch.ops.esrgan_ext.rrdbnet_pack(weights, biases, self.as_list())

    def run_into(self, x: Tensor, packed: Tensor, out: Tensor, control: Tensor | None) -> None:
        torch.ops.esrgan_ext.rrdbnet_into(x, packed, self.as_list(), out, control)


@dataclass(frozen=True)
class CompactShape:
    """Of an SRVGGNetCompact: channels, features, convolutions between the first and the last, the
    pixel shuffle's factor, the result's scale."""

    in_channels: int
    nf: int
    convolutions: int
    upsampling: int
    scale: int

    def as_list(self) -> list[int]:
        return [self.in_channels, self.nf, self.convolutions, self.upsampling, self.scale]

    @property
    def out_channels(self) -> int:
        return self.in_channels

    @property
    def zoom(self) -> int:
        return self.scale

    def unsupported(self) -> str:
        return torch.ops.esrgan_ext.compact_unsupported(self.as_list())

    def pack(self, *parameters: Sequence[Tensor]) -> Tensor:
        weights, biases, slopes = parameters
        return torch.ops.esrgan_ext.compact_pack(weights, biases, slopes, self.as_list())

    def run_into(self, x: Tensor, packed: Tensor, out: Tensor, control: Tensor | None) -> None:
        torch.ops.esrgan_ext.compact_into(x, packed, self.as_list(), out, control)

    def working_bytes(self, height: int, width: int) -> int:
        """Bytes that `strips` takes beside the packed weights, the output included.

        Every map keeps at most five groups of rows of tiles (csrc/cpu/compact.cpp), which are more
        than one row only where that is shorter than 16 tiles a thread.
        """
        columns = -(-width // 4)
        wanted = max(32, 16 * torch.get_num_threads())
        rows = min(height + 4, 5 * 4 * max(1, (wanted + columns // 2) // columns))
        maps = rows * (width + 7) * self.nf * (self.convolutions + 1)
        wide = 16 * rows * width * self.in_channels if self.scale != self.upsampling else 0
        pixels = height * width * self.in_channels * (1 + self.scale**2)
        return 4 * (maps + wide + pixels)


def supports(shape: Shape, x: Tensor) -> bool:
    """Whether the extension is there and runs this network on this input."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and library.load() is not None
        and shape.unsupported() == ""
        and selfcheck.trusted(x.device, x.dtype)
    )


class PackedWeights:
    """A network's weights in the kernels' form, packed again whenever they have changed."""

    def __init__(self) -> None:
        self._kept: packed_weights.Kept[Tensor] = packed_weights.Kept()

    def get(self, shape: Shape, *parameters: Sequence[Tensor]) -> Tensor:
        """The packed form of these parameters, all float32 on the CPU, in network order.

        Parameters
        ----------
        shape : Shape
        parameters : sequences of Tensor
            Weights and biases (and slopes) of all convolutions, as `shape.pack` takes them.
        """
        module = library.load()
        assert module is not None
        given = [t for group in parameters for t in group]

        def pack() -> Tensor:
            with torch.inference_mode():
                return shape.pack(*([t.detach() for t in group] for group in parameters))

        return self._kept.get((shape, *packed_weights.state(given, module.fingerprint)), pack)


def working_bytes(shape: NetworkShape, height: int, width: int) -> int:
    """Bytes that `strips` takes beside the packed weights, the output included.

    Two maps of the whole image in the trunk, and the seams of its stripes; the wavefront's Winograd
    tiles, 36 values for each 4x4 pixels and channel, in a ring of at most ten groups of rows; the
    rows that the tail keeps.
    """
    zoom = 2**shape.upsamplings
    rows, columns = -(-height // 4), -(-width // 4)
    # Tiles of a group and when there are stripes: `group_tiles`, `cut_stripes` in trunk.cpp.
    wanted = 32 * max(1, (2 * torch.get_num_threads() + 4) // 5)
    stripes = (columns + wanted // 2) // wanted if rows >= 16 else 1
    group = columns if stripes <= 1 else -(-columns // stripes) + 6
    pixels = height * width * (2 * shape.nf + shape.in_channels + zoom**2 * shape.out_channels)
    pixels += (60 * shape.gc + shape.nf) * height * max(0, stripes - 1)
    ring = min(rows * columns, 10 * max(group, 3 * wanted // 2)) * 36 * (shape.nf + 4 * shape.gc)
    tail = 37 * shape.nf * sum(width * 2**k for k in range(1, shape.upsamplings + 1))
    tail += 37 * shape.nf * width * zoom
    return 4 * (pixels + ring + tail)


def run(shape: Shape, packed: Tensor, x: Tensor) -> Tensor:
    """The network's output for N,C,H,W, without progress."""
    n, _, height, width = x.shape
    out = x.new_empty((n, shape.out_channels, height * shape.zoom, width * shape.zoom))
    shape.run_into(x, packed, out, None)
    return out


def strips(
    shape: Shape,
    packed: Tensor,
    x: Tensor,
    on_work: Callable[[int], None] | None,
    macs: int,
) -> Iterator[tuple[int, Tensor]]:
    """Run the network in a thread of its own and hand out rows as they are finished.

    Parameters
    ----------
    shape, packed
        See `PackedWeights`.
    x : Tensor, shape (N, C, H, W), float32
    on_work : callable or None
        Called in the caller's thread with the share of `macs` done since the last call; may
        raise to stop the network, which takes less than 0.2 s.
    macs : int
        Multiply-accumulates of the whole run: the sum of the calls of `on_work`.

    Yields
    ------
    (int, Tensor of shape (N, out_channels, h, W * zoom))
        First row and rows of the output, from the top; closing the iterator stops the network.
    """
    zoom = shape.zoom
    height, width = x.shape[2] * zoom, x.shape[3] * zoom
    out = x.new_empty((x.shape[0], shape.out_channels, height, width))
    control = torch.zeros(5, dtype=torch.int64, device="cpu")
    words = control.numpy()  # written by the kernels meanwhile
    words[_THREADS] = torch.get_num_threads()
    failed: list[BaseException] = []

    def work() -> None:
        try:
            with torch.inference_mode():
                shape.run_into(x, packed, out, control)
        except BaseException as error:
            failed.append(error)

    worker = threading.Thread(target=work, name="esrgan-network", daemon=True)
    reported = handed_out = 0
    worker.start()
    try:
        wait = _FIRST_LOOK
        running = True
        while running:
            worker.join(wait)
            wait = min(2 * wait, _LOOK)
            running = worker.is_alive()
            if failed:
                raise failed[0]
            total = int(words[_TOTAL]) * x.shape[0]
            done = macs * int(words[_DONE]) // total if total else 0
            if not running:
                done = macs
            if on_work is not None:  # with nothing new too: it is how a caller hears that it runs
                on_work(done - reported)
                reported = done
            rows = int(words[_ROWS]) if running else height
            if rows > handed_out:
                yield handed_out, out[:, :, handed_out:rows]
                handed_out = rows
    finally:
        words[_CANCEL] = 1
        worker.join()
