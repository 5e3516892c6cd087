"""Cost of a run beforehand: work, memory, and how fast a device does it."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from esrgan_ext.inference.devices import Device
from esrgan_ext.models import RRDBNet, RRDBNetConfig

# 17 billion multiply-accumulates: 0.1 s on two cores. Much smaller, and calls and memory count
# more than they do in real work; much larger, and a user waits.
_PROBE_BLOCKS = 4
_PROBE_SIDE = 64
_PROBE_RUNS = 2


@dataclass(frozen=True)
class RunPlan:
    """Cost of one array for an `Upscaler`.

    Attributes
    ----------
    output_shape : tuple of int
    output_bytes : int
        Size of the result.
    tile : int
        Side of a tile in input pixels.
    tiles : int
        Number of tiles, over all images of a stack.
    macs : int
        Multiply-accumulates in all, overlaps counted.
    work_bytes : int
        Memory for one tile's work, beside input, output and weights.
    """

    output_shape: tuple[int, ...]
    output_bytes: int
    tile: int
    tiles: int
    macs: int
    work_bytes: int


def measure_speed(device: Device) -> float:
    """Multiply-accumulates a second that a device does on a few blocks of the usual width.

    The best of a few runs: the first pays for allocations and, on a GPU, for choosing
    algorithms. Small images are slower than large ones on a GPU, so this errs
    on the long side there.
    """
    with torch.device(device.device):
        network = RRDBNet(RRDBNetConfig(nb=_PROBE_BLOCKS)).eval().requires_grad_(False)
    network.to(device=device.device, dtype=device.dtype)
    x = torch.zeros(1, 3, _PROBE_SIDE, _PROBE_SIDE, device=device.device, dtype=device.dtype)
    best = float("inf")
    for _ in range(1 + _PROBE_RUNS):
        start = time.perf_counter()
        with torch.inference_mode():
            network(x)
        if device.device.type == "cuda":
            torch.cuda.synchronize(device.device)
        best = min(best, time.perf_counter() - start)
    return network.macs(_PROBE_SIDE, _PROBE_SIDE) / best
