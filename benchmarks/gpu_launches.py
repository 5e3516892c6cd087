"""Single launches of a network on a GPU: `python -m benchmarks.gpu_launches`.

Prints for each kind of launch how many there are, their mean time and their share of the network,
as the profiler sees them. By default every launch ends before the next begins
(ESRGAN_CUDA_OVERLAP=0): where they overlap, a launch's time holds the wait for the one before.
ESRGAN_CUDA_PATH=mma or wgmma chooses the kernels.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import defaultdict
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table

import esrgan_ext as esr
from benchmarks.cpu import photo
from benchmarks.gpu import HALVES, machine, parse_size
from benchmarks.gpu_runners import RUNNERS
from esrgan_ext.models import RRDBNet

CONVOLUTIONS = 5  # of a dense block
BLOCKS = 3  # dense blocks of an RRDB


@dataclass(frozen=True)
class Launch:
    """One kernel on the device; times in microseconds."""

    kernel: str
    start: float
    end: float


@dataclass(frozen=True)
class Row:
    """All launches of one kind.

    Attributes
    ----------
    kind : str
    count : int
    mean : float
        Microseconds of one launch.
    share : float
        Of the time that all launches take together.
    teraflops : float or None
        Direct-convolution operations a second, in 10^12; None for the network's two ends.
    """

    kind: str
    count: int
    mean: float
    share: float
    teraflops: float | None


def kind_of(index: int, rrdbs: int) -> str:
    """The kind of a network's launch number `index`: conv_first, then the blocks, then the rest."""
    trunk = CONVOLUTIONS * BLOCKS * rrdbs
    if index == 0:
        return "conv_first"
    if index <= trunk:
        place = index - 1
        number = place % CONVOLUTIONS + 1
        outer = place % (CONVOLUTIONS * BLOCKS) == CONVOLUTIONS * BLOCKS - 1
        return f"conv{number}, outer residual" if outer else f"conv{number}"
    return "conv_body" if index == trunk + 1 else "upsampling and output"


def summarise(
    launches: list[Launch], rrdbs: int, nf: int, gc: int, pixels: int
) -> tuple[list[Row], float, float]:
    """Rows, and two times in milliseconds: of all launches, and from the first to the last."""
    times: dict[str, list[float]] = defaultdict(list)
    for index, launch in enumerate(launches):
        times[kind_of(index, rrdbs)].append(launch.end - launch.start)
    total = sum(sum(values) for values in times.values())
    rows = []
    for kind, values in times.items():
        mean = sum(values) / len(values)
        operations = _operations(kind, nf, gc) * pixels
        rate = operations / mean / 1e6 if operations else None
        rows.append(Row(kind, len(values), mean, sum(values) / total, rate))
    return rows, total / 1000, (launches[-1].end - launches[0].start) / 1000


def _operations(kind: str, nf: int, gc: int) -> int:
    """For one pixel; 0 where a kind has no single shape."""
    if kind == "conv_body":
        return 2 * 9 * nf * nf
    if not kind.startswith("conv") or kind == "conv_first":
        return 0
    number = int(kind[4])
    outputs = gc if number < CONVOLUTIONS else nf
    return 2 * 9 * (nf + (number - 1) * gc) * outputs


def profiled(step: object) -> list[Launch]:
    """This package's kernels that a call enqueues, in order."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    assert callable(step)
    for _ in range(3):
        step()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        step()
        torch.cuda.synchronize()
    found = [
        Launch(event.name, event.time_range.start, event.time_range.end)
        for event in profiler.events()
        if event.device_type == DeviceType.CUDA and "esrgan" in event.name
    ]
    return sorted(found, key=lambda launch: launch.start)


def table(rows: list[Row], title: str) -> Table:
    printed = Table(title=title, title_justify="left")
    for column in ("launch", "count", "us", "of the network", "TFLOP/s"):
        printed.add_column(column, justify="left" if column == "launch" else "right")
    for row in rows:
        rate = "" if row.teraflops is None else f"{row.teraflops:.0f}"
        printed.add_row(
            row.kind, str(row.count), f"{row.mean:.1f}", f"{100 * row.share:.1f} %", rate
        )
    return printed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="realesrgan-x4plus", help="name or path of an RRDBNet")
    parser.add_argument("--sizes", nargs="+", default=["512x512", "64x64"], metavar="[Nx]HxW")
    parser.add_argument("--half", default="fp16", choices=HALVES)
    parser.add_argument("--overlap", action="store_true", help="let launches overlap, as in use")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("benchmarks.gpu_launches needs an NVIDIA GPU")
    if not args.overlap:
        os.environ["ESRGAN_CUDA_OVERLAP"] = "0"  # read when the kernels are first launched
    device = torch.device("cuda", torch.cuda.current_device())
    console = Console()
    began = time.perf_counter()
    network = esr.load_model(args.model)
    if not isinstance(network, RRDBNet):
        raise SystemExit(f"{args.model} is no RRDBNet; no other network has kernels on a GPU")
    console.print(", ".join(f"{key}: {value}" for key, value in machine(device).items()))
    for text in args.sizes:
        n, height, width = parse_size(text)
        x = torch.from_numpy(photo((height, width))).to(device).expand(n, -1, -1, -1).contiguous()
        runner = RUNNERS["esrgan_ext-no-graph"](network, x, HALVES[args.half])
        config = network.config
        rows, total, span = summarise(
            profiled(runner.step), config.nb, config.nf, config.gc, n * height * width
        )
        console.print(table(rows, f"{args.model}, {args.half}, {text}"))
        console.print(f"launches {total:.2f} ms, from first to last {span:.2f} ms")
    console.print(f"took {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
