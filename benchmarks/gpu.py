"""Whole networks on a GPU against torch's own ways to run them: `python -m benchmarks.gpu`.

Every runner runs the same weights on the same input, one after the other in turn, so that a GPU
that slows down slows all of them; between them runs a large bfloat16 matrix product, whose rate is
what the tensor cores of this very card give at that moment. Medians are printed. Operations are
counted as direct convolution needs them.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

import esrgan_ext as esr
from benchmarks.cpu import float64_reference, photo, psnr
from benchmarks.gpu_files import FileTimes, file_times
from benchmarks.gpu_runners import RUNNERS, GpuRunner, Unavailable
from benchmarks.time_limits import TookTooLong, limited
from esrgan_ext import ops
from esrgan_ext.models import SRNetwork

SIZES = ("64x64", "128x128", "256x256", "512x512", "1080x1920", "16x128x128")
HALVES = {"fp16": torch.float16, "bf16": torch.bfloat16}

# Above this the float64 reference on the CPU takes minutes.
LARGEST_REFERENCE = 64 * 64

# Large enough to run at the rate that data sheets are measured at, small enough for any card.
MATMUL_SIDE = 8192


@dataclass(frozen=True)
class Result:
    """One runner on one input.

    Attributes
    ----------
    size : str
        Height x width, or images x height x width.
    runner : str
    milliseconds : float or None
        Median over the rounds; None where it did not run.
    ratio : float or None
        How many times as long as this package took in the same run.
    teraflops : float or None
        Direct-convolution operations a second, in 10^12.
    matmul_share : float or None
        Of the matrix product's rate.
    peak_bytes : int or None
        Peak of the memory that torch allocated, weights and graph included.
    psnr : float or None
        Decibels against float64, peak 1; None above `LARGEST_REFERENCE`.
    failure : str
        Why it did not run, else "".
    """

    size: str
    runner: str
    milliseconds: float | None
    ratio: float | None
    teraflops: float | None
    matmul_share: float | None
    peak_bytes: int | None
    psnr: float | None
    failure: str = ""


def parse_size(text: str) -> tuple[int, int, int]:
    """Images, height and width out of 'HxW' or 'NxHxW'."""
    parts = [int(part) for part in text.lower().split("x")]
    if len(parts) not in (2, 3) or min(parts) < 1:
        raise argparse.ArgumentTypeError(f"a size is HxW or NxHxW, not {text!r}")
    n, height, width = parts if len(parts) == 3 else [1, *parts]
    return n, height, width


def operations(network: SRNetwork, size: tuple[int, int, int]) -> int:
    """Multiplications and additions of one pass by direct convolution."""
    n, height, width = size
    return 2 * n * network.macs(height, width)


def matmul_operations(side: int) -> int:
    return 2 * side**3


def milliseconds(step: Callable[[], object]) -> float:
    """How long the device takes for what a call enqueues, by CUDA events."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    step()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


def alternate(
    steps: dict[str, Callable[[], object]],
    rounds: int,
    timer: Callable[[Callable[[], object]], float],
) -> dict[str, list[float]]:
    """Times of each step over the rounds; each round runs every step once, in turn."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            times[name].append(timer(step))
    return times


def summarise(
    size: str,
    flop: int,
    times: dict[str, list[float]],
    matmul_teraflops: float,
    peaks: dict[str, int],
    accuracy: dict[str, float],
    failures: dict[str, str],
) -> list[Result]:
    """The results at one size, in the order of the runners: those that ran, then the others."""
    medians = {name: statistics.median(values) for name, values in times.items()}
    ours = medians.get("esrgan_ext")
    results = []
    for name, median in medians.items():
        teraflops = flop / median / 1e9
        results.append(
            Result(
                size,
                name,
                median,
                None if ours is None else median / ours,
                teraflops,
                teraflops / matmul_teraflops,
                peaks.get(name),
                accuracy.get(name),
            )
        )
    nothing = (None,) * 6
    results += [Result(size, name, *nothing, failure) for name, failure in failures.items()]
    return results


def prepare(
    make: Callable[[], GpuRunner], device: torch.device, limit: float
) -> tuple[GpuRunner | None, int, str]:
    """A runner that ran a few times, the memory that took, and why there is none.

    `limit`: seconds it may take to get ready; torch.compile can take minutes.
    """
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    try:
        with limited(limit):
            runner = make()
            for _ in range(3):
                runner.step()
            torch.cuda.synchronize(device)
    except TookTooLong as error:
        return None, 0, str(error)
    except torch.OutOfMemoryError:
        return None, 0, "out of memory"
    except Unavailable as error:
        return None, 0, str(error)
    except RuntimeError as error:  # a peer that fails must not end the run
        return None, 0, str(error).strip().splitlines()[0]
    return runner, torch.cuda.max_memory_allocated(device) - before, ""


def compare(
    network: SRNetwork,
    text: str,
    names: list[str],
    device: torch.device,
    half: torch.dtype,
    rounds: int,
    limit: float,
    console: Console,
) -> list[Result]:
    """Run all runners at one size in turn."""
    n, height, width = size = parse_size(text)
    image = photo((height, width))
    x = torch.from_numpy(image).to(device).expand(n, -1, -1, -1).contiguous()
    runners: dict[str, GpuRunner] = {}
    peaks: dict[str, int] = {}
    failures: dict[str, str] = {}
    for name in names:
        with console.status(f"{text}: preparing {name}"):
            runner, peaks[name], failure = prepare(
                lambda: RUNNERS[name](network, x, half),  # noqa: B023
                device,
                limit,
            )
        if runner is None:
            failures[name] = failure
        else:
            runners[name] = runner
    accuracy: dict[str, float] = {}
    if height * width <= LARGEST_REFERENCE:
        with console.status(f"{text}: float64 reference on the CPU"):
            reference = float64_reference(network, image)
        for name, runner in runners.items():
            accuracy[name] = psnr(runner.result()[:1].float().cpu().numpy(), reference)
    a, b = (
        torch.randn(MATMUL_SIDE, MATMUL_SIDE, device=device, dtype=torch.bfloat16) for _ in range(2)
    )
    steps: dict[str, Callable[[], object]] = {name: r.step for name, r in runners.items()}
    steps["matmul"] = lambda: a @ b
    with console.status(f"{text}: {rounds} rounds"):
        alternate(steps, 2, milliseconds)  # clocks and caches
        times = alternate(steps, rounds, milliseconds)
    matmul = matmul_operations(MATMUL_SIDE) / statistics.median(times.pop("matmul")) / 1e9
    console.print(f"{text}: bfloat16 matrix product of {MATMUL_SIDE}: {matmul:.0f} TFLOP/s")
    return summarise(text, operations(network, size), times, matmul, peaks, accuracy, failures)


def table(results: list[Result], title: str) -> Table:
    printed = Table(title=title, title_justify="left")
    columns = ("input", "runner", "ms", "times ours", "TFLOP/s", "of matmul", "peak MB", "PSNR dB")
    for column in columns:
        printed.add_column(column, justify="left" if column in ("input", "runner") else "right")
    for r in results:
        if r.milliseconds is None:
            printed.add_row(r.size, r.runner, r.failure)
            continue
        printed.add_row(
            r.size,
            r.runner,
            f"{r.milliseconds:.3g}" if r.milliseconds < 100 else f"{r.milliseconds:.0f}",
            _formatted(r.ratio, "{:.2f}"),
            _formatted(r.teraflops, "{:.1f}"),
            "" if r.matmul_share is None else f"{100 * r.matmul_share:.0f} %",
            "" if r.peak_bytes is None else f"{r.peak_bytes / 1e6:.0f}",
            _formatted(r.psnr, "{:.1f}"),
        )
    return printed


def files_table(times: list[FileTimes], title: str) -> Table:
    printed = Table(title=title, title_justify="left")
    for column in ("file", "input", "read ms", "upscale ms", "write ms", "total ms"):
        printed.add_column(column, justify="left" if column in ("file", "input") else "right")
    for t in times:
        steps = (f"{value:.0f}" for value in (t.read, t.upscale, t.write, t.total))
        printed.add_row(t.suffix, t.size, *steps)
    return printed


def _formatted(value: float | None, template: str) -> str:
    return "" if value is None or math.isnan(value) else template.format(value)


def machine(device: torch.device) -> dict[str, object]:
    """What a reader of the figures must know."""
    properties = torch.cuda.get_device_properties(device)
    module = ops.library.load_cuda()
    driver = Path("/proc/driver/nvidia/version")
    return {
        "device": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_bytes": properties.total_memory,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "driver": driver.read_text().splitlines()[0] if driver.exists() else "",
        "tf32_in_convolutions": ops.cuda.compute_name(torch.float32) == "tf32",
        "extension": ops.library.cuda_origin(),
        "build": None if module is None else module.build_info(),
        "backend": ops.backend(device),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="realesrgan-x4plus", help="name or path")
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="[Nx]HxW")
    parser.add_argument("--rounds", type=int, default=21, help="odd, for a median")
    parser.add_argument("--device", default="cuda", help="cuda or cuda:N")
    parser.add_argument("--half", default="fp16", choices=HALVES, help="half-precision type")
    parser.add_argument(
        "--runners",
        nargs="+",
        default=list(RUNNERS),
        choices=list(RUNNERS),
        help="default: all; torch-compile takes minutes to get ready at each size",
    )
    parser.add_argument(
        "--limit", type=float, default=60, help="seconds a runner may take to get ready at a size"
    )
    parser.add_argument(
        "--files", default="1080x1920", metavar="HxW", help="size of the photo files; '' for none"
    )
    parser.add_argument("--json", type=Path, help="write the results to this file")
    args = parser.parse_args()
    for size in [*args.sizes, *filter(None, [args.files])]:
        try:
            parse_size(size)
        except (argparse.ArgumentTypeError, ValueError):
            parser.error(f"a size is HxW or NxHxW, not {size!r}")
    return args


def write_report(
    args: argparse.Namespace,
    facts: dict[str, object],
    results: list[Result],
    files: list[FileTimes],
) -> None:
    report = {
        "model": args.model,
        "half": args.half,
        "rounds": args.rounds,
        "machine": facts,
        "results": [asdict(result) for result in results],
        "files": [asdict(times) for times in files],
    }
    args.json.write_text(json.dumps(report, indent=2) + "\n")


def main() -> None:
    args = _arguments()
    if not torch.cuda.is_available():
        built = "was built without CUDA" if torch.version.cuda is None else "finds no CUDA device"
        raise SystemExit(f"benchmarks.gpu needs an NVIDIA GPU: torch {torch.__version__} {built}")
    device = torch.device(args.device)
    if device.index is None:
        device = torch.device("cuda", 0)
    torch.cuda.set_device(device)
    console = Console()
    began = time.perf_counter()
    network = esr.load_model(args.model)
    facts = machine(device)
    console.print(", ".join(f"{key}: {value}" for key, value in facts.items()))
    everything: list[Result] = []
    for text in args.sizes:
        results = compare(
            network,  # type: ignore[arg-type]
            text, args.runners, device, HALVES[args.half], args.rounds, args.limit, console,
        )  # fmt: skip
        console.print(table(results, f"{args.model}, {args.half}, {text}"))
        console.print(f"{time.perf_counter() - began:.0f} s since the start")
        everything += results
        if args.json:  # after each size: a later one may run out of memory or patience
            write_report(args, facts, everything, [])
    if args.files:
        _, height, width = parse_size(args.files)
        times = file_times(network, (height, width), device, args.half)  # type: ignore[arg-type]
        title = f"{args.model}, {args.half}, photo file to result file"
        console.print(files_table(times, title))
        if args.json:
            write_report(args, facts, everything, times)
    console.print(f"{time.perf_counter() - began:.0f} s in all")


if __name__ == "__main__":
    main()
