"""Time and memory of large runs over image sizes and workers: `python -m benchmarks.scaling`.

Every run is a process of its own on a zarr store on disk, through the same code as `esrgan
upscale in.zarr out.zarr`. Prints a table, writes JSON. `--model tiny` (the default) is a network of
one block and `--width` channels with random weights: the code path of the real models, in minutes
instead of hours.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

# Rows written at a time when a source is made.
_STRIP = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megapixels", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--width", type=int, default=32, help="channels of the tiny model")
    parser.add_argument("--scheduler", default="threads", choices=["threads", "processes"])
    parser.add_argument("--workers", type=int, nargs="+", default=[2])
    parser.add_argument("--tile", default="auto")
    parser.add_argument("--seconds", type=float, default=None, help="end each run after so long")
    parser.add_argument("--folder", type=Path, default=None, help="where stores are made")
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--one", nargs=2, type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one is not None:
        _run(*args.one, args)
        return
    rows = []
    print("    MP  model  workers  chunks      s   MP/s  peak RSS: main  worker, GB", flush=True)
    for size in args.megapixels:
        for workers in args.workers:
            with tempfile.TemporaryDirectory(dir=args.folder) as folder:
                row = _measure(Path(folder), size, workers, args)
            rows.append(row)
            # Threads have no processes of their own; what else was started does not count.
            worker = f"{row['worker_gb']:.2f}" if args.scheduler == "processes" else "-"
            print(
                f"{size:6} {Path(row['model']).stem:>6} {workers:8} "
                f"{row['done']:3}/{row['chunks']:<4} {row['seconds']:6.1f} {row['rate']:6.3f} "
                f"{row['main_gb']:15.2f} {worker:>7}",
                flush=True,
            )
    if args.json is not None:
        args.json.write_text(json.dumps(rows, indent=2))


def _measure(folder: Path, megapixels: int, workers: int, args: argparse.Namespace) -> dict:
    """One run in a fresh process."""
    source = folder / "in.zarr"
    make_source(source, megapixels)
    model = str(_tiny_model(folder, args.width)) if args.model == "tiny" else args.model
    command = [
        sys.executable, "-m", "benchmarks.scaling", "--one", source, folder / "out.zarr",
        "--model", model, "--scheduler", args.scheduler, "--workers", workers, "--tile", args.tile,
    ]  # fmt: skip
    if args.seconds is not None:
        command += ["--seconds", args.seconds]
    run = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True)
    if run.returncode != 0:
        raise SystemExit(f"the run failed with {run.returncode}")
    return json.loads(run.stdout.splitlines()[-1])


def make_source(path: Path, megapixels: int) -> None:
    """A gray 8-bit OME-Zarr image, square, of structure and noise, written in strips."""
    import zarr
    from ome_zarr.format import FormatV05
    from ome_zarr.writer import write_multiscales_metadata

    side = round((megapixels * 1e6) ** 0.5)
    group = zarr.open_group(str(path), mode="w", zarr_format=3)
    array = group.create_array("0", shape=(side, side), chunks=(_STRIP, _STRIP), dtype="uint8")
    rng = np.random.default_rng(0)
    wave = np.sin(np.arange(side) / 9) * 60 + 128
    for top in range(0, side, _STRIP):
        rows = np.arange(top, min(top + _STRIP, side))
        strip = wave[None] + 30 * np.cos(rows / 13)[:, None]
        noise = rng.integers(-8, 9, strip.shape)
        array[top : top + len(rows)] = (strip + noise).clip(0, 255).astype(np.uint8)
    transform = [{"type": "scale", "scale": [1.0, 1.0]}]
    datasets = [{"path": "0", "coordinateTransformations": transform}]
    write_multiscales_metadata(group, datasets, fmt=FormatV05(), axes=["y", "x"], name="bench")


def _tiny_model(folder: Path, width: int) -> Path:
    import torch

    from esrgan_ext.models import RRDBNet, RRDBNetConfig
    from esrgan_ext.weights import save_model

    torch.manual_seed(0)
    network = RRDBNet(RRDBNetConfig(nf=width, nb=1, gc=width // 2)).eval().requires_grad_(False)
    return save_model(network, folder / "tiny.safetensors")


class _Clock:
    """Counts chunks, and ends the run when its time is over."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self.start = time.monotonic()
        self.name, self.total, self.done, self.pixels = "", 0, 0, 0.0
        self.spent = 0.0
        self._factor = 1.0

    def note(self, text: str) -> None:
        print(text, file=sys.stderr)

    def phase(self, name: str, total: int, done: int, factor: float) -> None:
        self.name, self._factor = name, factor
        if name == "upscaling":
            self.start = time.monotonic()
            self.total = total

    def outcome(self, outcome: object) -> None:
        if self.name == "upscaling":
            self.done += 1
            self.pixels += outcome.pixels / self._factor  # type: ignore[attr-defined]
            self.spent = time.monotonic() - self.start
        if self._seconds is not None and time.monotonic() - self.start > self._seconds:
            raise KeyboardInterrupt


def _run(source: Path, target: Path, args: argparse.Namespace) -> None:
    from contextlib import suppress

    from esrgan_ext.inference.large import upscale_store
    from esrgan_ext.inference.large.store.options import StoreOptions

    clock = _Clock(args.seconds)
    tile = args.tile if args.tile == "auto" else int(args.tile)
    options = StoreOptions(
        model=args.model, device="cpu", tile=tile, scheduler=args.scheduler,
        workers=args.workers[0],
    )  # fmt: skip
    start = time.monotonic()
    with suppress(KeyboardInterrupt):
        upscale_store(source, target, options, clock)
    usage = {
        name: resource.getrusage(who).ru_maxrss * 1024 / 1e9
        for name, who in (("main", resource.RUSAGE_SELF), ("worker", resource.RUSAGE_CHILDREN))
    }
    print(
        json.dumps(
            {
                "model": args.model,
                "scheduler": args.scheduler,
                "workers": args.workers[0],
                "chunks": clock.total,
                "done": clock.done,
                "seconds": round(time.monotonic() - start, 2),
                "upscaling_seconds": round(clock.spent, 2),
                "rate": clock.pixels / 1e6 / max(clock.spent, 1e-9),
                "main_gb": usage["main"],
                "worker_gb": usage["worker"],
            }
        )
    )


if __name__ == "__main__":
    main()
