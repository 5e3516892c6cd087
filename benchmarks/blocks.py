"""One residual dense block on the CPU: `python -m benchmarks.blocks`.

Times the fused block against torch, alternating in one run, and states the speed as a share of
what the machine's FMA units could do at best, measured in the same run. Operations are counted as
direct convolution needs them, so Winograd may exceed 100 %: it does with a quarter of the
multiplications in the matrix product.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from esrgan_ext import ops

SIZES = ("64x64", "128x128", "256x256")
WIDTHS = ((64, 32), (32, 32), (64, 16))
PEAK_SECONDS = 0.3


@dataclass(frozen=True)
class Result:
    """One block shape at one size.

    Attributes
    ----------
    size : str
        Height x width.
    nf, gc : int
    milliseconds, torch_milliseconds : float
        Medians of this package and of torch channels-last.
    gflops : float
        Direct-convolution operations a second.
    peak_share : float
        Of the FMA peak measured in between; above 1 thanks to Winograd.
    """

    size: str
    nf: int
    gc: int
    milliseconds: float
    torch_milliseconds: float
    gflops: float
    peak_share: float


def parameters(nf: int, gc: int) -> tuple[list[Tensor], list[Tensor]]:
    """Random weights and biases of a block."""
    weights = [torch.randn(gc if k < 4 else nf, nf + k * gc, 3, 3) * 0.02 for k in range(5)]
    return weights, [torch.randn(w.shape[0]) * 0.1 for w in weights]


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure(size: str, nf: int, gc: int, rounds: int, threads: int) -> Result:
    """Time one block at one size."""
    module = ops.library.load()
    assert module is not None
    height, width = map(int, size.split("x"))
    weights, biases = parameters(nf, gc)
    x = torch.randn(1, nf, height, width).contiguous(memory_format=torch.channels_last)
    ours: list[float] = []
    peers: list[float] = []
    peaks: list[float] = []
    with torch.inference_mode():
        for round_number in range(rounds + 1):
            times = (
                seconds(lambda: ops.dense_block(x, weights, biases)),
                seconds(lambda: ops.reference.dense_block(x, weights, biases)),
            )
            peak = module.peak_gflops(threads, PEAK_SECONDS / rounds)
            if round_number:  # the first one packs weights and touches memory
                ours.append(times[0])
                peers.append(times[1])
                peaks.append(peak)
    operations = 2 * height * width * sum(w.numel() for w in weights)
    median = statistics.median(ours)
    gflops = operations / median / 1e9
    return Result(
        size,
        nf,
        gc,
        median * 1e3,
        statistics.median(peers) * 1e3,
        gflops,
        gflops / statistics.median(peaks),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=SIZES)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, default=None, help="also write the results here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if ops.library.load() is None:
        raise SystemExit("there is no compiled extension to measure")

    results = [
        measure(size, nf, gc, options.rounds, options.threads)
        for size in options.sizes
        for nf, gc in WIDTHS
    ]
    table = Table(title=f"one dense block, {ops.backend()}, {options.threads} threads")
    for column in ("size", "nf", "gc", "ms", "torch ms", "ratio", "GFLOP/s", "of FMA peak"):
        table.add_column(column, justify="right")
    for r in results:
        table.add_row(
            r.size,
            str(r.nf),
            str(r.gc),
            f"{r.milliseconds:.2f}",
            f"{r.torch_milliseconds:.2f}",
            f"{r.torch_milliseconds / r.milliseconds:.2f}",
            f"{r.gflops:.0f}",
            f"{100 * r.peak_share:.0f} %",
        )
    Console().print(table)
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(r) for r in results], indent=2) + "\n")


if __name__ == "__main__":
    main()
