"""Peak memory of one forward pass, in a process of its own: `python -m benchmarks.memory`.

Prints the bytes that the pass needs beyond the loaded and warmed-up model, its input and output
included. Linux only: the peak is read and reset through /proc.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks.runners import RUNNERS


def measure(runner: str, model: str, onnx: Path, size: tuple[int, int], threads: int) -> int | None:
    """Peak bytes in a fresh process; None where they cannot be told (not Linux, out of memory)."""
    if not Path("/proc/self/clear_refs").exists():
        return None
    arguments = [runner, model, str(onnx), str(size[0]), str(size[1]), str(threads)]
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", *arguments], capture_output=True, text=True
    )
    return int(run.stdout.split()[-1]) if run.returncode == 0 else None


def _status(field: str) -> int:
    text = Path("/proc/self/status").read_text()
    found = re.search(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def main() -> None:
    import esrgan_ext as esr

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runner", choices=RUNNERS)
    parser.add_argument("model")
    parser.add_argument("onnx", type=Path)
    parser.add_argument("height", type=int)
    parser.add_argument("width", type=int)
    parser.add_argument("threads", type=int)
    args = parser.parse_args()
    network = esr.load_model(args.model)
    size = (args.height, args.width)
    run = RUNNERS[args.runner](network, args.onnx, size, args.threads)  # type: ignore[arg-type]
    if args.runner != "openvino":  # its shape is fixed
        run(np.zeros((1, 3, 16, 16), np.float32))
    x = np.random.default_rng(0).random((1, 3, *size), np.float32)
    loaded = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from here
    run(x)
    print(_status("VmHWM") - loaded)


if __name__ == "__main__":
    main()
