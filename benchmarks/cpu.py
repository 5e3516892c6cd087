"""Whole networks on the CPU against other runtimes: `python -m benchmarks.cpu`.

Every runtime that is installed runs the same weights on the same input, one after the other in
turn, so that a machine that slows down slows all of them; medians are printed, and ratios to this
package. `pip install 'esrgan-ext[bench]'` brings the peers. `--threads 1 2 4 8 16` repeats that
with each number of threads up to the machine's cores, and prints how each runtime scales.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import re
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import psutil
import torch
from rich.console import Console
from rich.table import Table

import esrgan_ext as esr
from benchmarks import memory
from benchmarks.runners import RUNNERS, Runner
from esrgan_ext import ops
from esrgan_ext.models import SRNetwork

SIZES = ("64x64", "128x128", "256x256", "512x512", "300x1000")
PHOTO = Path(__file__).resolve().parent.parent / "LR" / "astronaut.jpg"

# Above this the float64 reference, which no runtime has a fast path for, takes minutes.
LARGEST_REFERENCE = 128 * 128


@dataclass(frozen=True)
class Result:
    """One runtime at one size.

    Attributes
    ----------
    size : str
        Height x width of the input.
    runner : str
    milliseconds : float
        Median over the rounds.
    ratio : float
        How many times as long as this package took in the same run.
    psnr : float or None
        Decibels against float64, peak 1; None above `LARGEST_REFERENCE`.
    bytes_per_pixel : float or None
        Peak memory of the pass over the loaded model, by input pixels.
    threads : int
    """

    size: str
    runner: str
    milliseconds: float
    ratio: float
    psnr: float | None
    bytes_per_pixel: float | None
    threads: int


def photo(size: tuple[int, int]) -> np.ndarray:
    """The sample photo tiled to a size: (1, 3, H, W), float32 in [0, 1]."""
    image = cv2.imread(str(PHOTO))[..., ::-1].astype(np.float32) / 255
    repeats = (-(-size[0] // image.shape[0]), -(-size[1] // image.shape[1]), 1)
    tiled = np.tile(image, repeats)[: size[0], : size[1]]
    return np.ascontiguousarray(tiled.transpose(2, 0, 1))[None]


def psnr(result: np.ndarray, reference: np.ndarray) -> float:
    """Peak signal-to-noise ratio in decibels for a peak of 1."""
    error = np.mean((result.astype(np.float64) - reference) ** 2)
    return float(-10 * np.log10(max(error, 1e-30)))


def float64_reference(network: SRNetwork, x: np.ndarray) -> np.ndarray:
    clone = type(network)(network.config)  # type: ignore[call-arg]
    clone.load_state_dict(network.state_dict())
    with torch.inference_mode():
        return clone.double().eval().plain_forward(torch.from_numpy(x).double()).numpy()


def cpu_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    found = re.search(r"model name\s*:\s*(.+)", text)
    return found[1] if found else platform.processor()


def compare(
    network: SRNetwork,
    onnx: Path,
    size: tuple[int, int],
    names: list[str],
    threads: int,
    rounds: int,
    with_memory: bool,
    console: Console,
) -> list[Result]:
    """Run all runtimes at one size in turn."""
    x = photo(size)
    text = f"{size[0]}x{size[1]}"
    runners: dict[str, Runner] = {}
    for name in names:
        with console.status(f"{text}: preparing {name}"):
            runners[name] = RUNNERS[name](network, onnx, size, threads)
            outputs_shape = runners[name](x).shape
        assert outputs_shape[2:] == (size[0] * network.scale, size[1] * network.scale), name
    reference = None
    if size[0] * size[1] <= LARGEST_REFERENCE:
        with console.status(f"{text}: float64 reference"):
            reference = float64_reference(network, x)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    accuracy: dict[str, float | None] = dict.fromkeys(names)
    for turn in range(rounds):
        for name, run in runners.items():
            with console.status(f"{text}: round {turn + 1} of {rounds}, {name}"):
                start = time.perf_counter()
                result = run(x)
                seconds[name].append(time.perf_counter() - start)
            if reference is not None and turn == 0:
                accuracy[name] = psnr(result, reference)
    ours = statistics.median(seconds[names[0]])
    model = network.info.name  # type: ignore[union-attr]
    results = []
    for name in names:
        peak = memory.measure(name, model, onnx, size, threads) if with_memory else None
        median = statistics.median(seconds[name])
        results.append(
            Result(
                text,
                name,
                median * 1e3,
                median / ours,
                accuracy[name],
                None if peak is None else peak / (size[0] * size[1]),
                threads,
            )
        )
    return results


def table(results: list[Result], title: str) -> Table:
    printed = Table(title=title, title_justify="left")
    for column in ("input", "runtime"):
        printed.add_column(column)
    for column in ("median ms", "images/s", "times ours", "PSNR dB", "peak B/pixel"):
        printed.add_column(column, justify="right")
    for r in results:
        printed.add_row(
            r.size,
            r.runner,
            f"{r.milliseconds:.0f}" if r.milliseconds >= 100 else f"{r.milliseconds:.1f}",
            f"{1e3 / r.milliseconds:.2f}",
            f"{r.ratio:.2f}",
            "" if r.psnr is None else f"{r.psnr:.1f}",
            "" if r.bytes_per_pixel is None else f"{r.bytes_per_pixel:.0f}",
            end_section=r is results[-1],
        )
    return printed


def usable(threads: list[int], cores: int) -> list[int]:
    """The numbers of threads that have a core each, ascending; the smallest one in any case."""
    asked = sorted(set(threads))
    return [number for number in asked if number <= cores] or asked[:1]


def scaling(results: list[Result]) -> Table:
    """How many times as fast each runtime is as with its smallest number of threads."""
    counts = sorted({r.threads for r in results})
    title = f"times as fast as with {counts[0]} thread{'s' if counts[0] > 1 else ''}"
    printed = Table(title=title, title_justify="left")
    for column in ("input", "runtime"):
        printed.add_column(column)
    for count in counts[1:]:
        printed.add_column(f"{count} threads", justify="right")
    found = {(r.size, r.runner, r.threads): r.milliseconds for r in results}
    for size, runner in dict.fromkeys((r.size, r.runner) for r in results):
        first = found[size, runner, counts[0]]
        gains = (first / found[size, runner, count] for count in counts[1:])
        printed.add_row(size, runner, *(f"{gain:.2f}" for gain in gains))
    return printed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="realesrgan-x4plus", help="name or path")
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="HxW")
    parser.add_argument("--rounds", type=int, default=5, help="odd, for a median")
    parser.add_argument("--threads", type=int, nargs="+", default=[torch.get_num_threads()])
    parser.add_argument(
        "--peers",
        nargs="*",
        default=[name for name in RUNNERS if name != "esrgan_ext"],
        choices=[name for name in RUNNERS if name != "esrgan_ext"],
        help="default: all that are installed",
    )
    parser.add_argument("--no-memory", action="store_true", help="leave the peak memory out")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    args = parser.parse_args()
    console = Console()
    network = esr.load_model(args.model)
    names = ["esrgan_ext", *(p for p in args.peers if RUNNERS[p].installed())]
    missing = [p for p in args.peers if not RUNNERS[p].installed()]
    if missing:
        console.print(f"not installed, left out: {', '.join(missing)}")
    counts = usable(args.threads, psutil.cpu_count(logical=False) or os.cpu_count() or 1)
    if left_out := sorted(set(args.threads) - set(counts)):
        console.print(f"more threads than cores, left out: {', '.join(map(str, left_out))}")
    said = ", ".join(map(str, counts))
    machine = f"{cpu_name()}, threads: {said}, operators: {ops.backend()}"
    everything: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        onnx = Path(folder) / "network.onnx"
        if {"onnxruntime", "openvino"} & set(names):
            from esrgan_ext.weights import export_model

            with console.status("exporting to ONNX"):
                export_model(network, onnx)
        for text, threads in itertools.product(args.sizes, counts):
            height, width = (int(side) for side in text.lower().split("x"))
            results = compare(
                network,  # type: ignore[arg-type]
                onnx,
                (height, width),
                names,
                threads,
                args.rounds,
                not args.no_memory,
                console,
            )
            console.print(table(results, f"{args.model}, {text}, threads: {threads}"))
            everything += results
    if len(counts) > 1:
        console.print(scaling(everything))
    console.print(machine)
    if args.json:
        report = {
            "model": args.model,
            "machine": machine,
            "results": [asdict(result) for result in everything],
        }
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
