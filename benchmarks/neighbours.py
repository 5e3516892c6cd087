"""Training beside other work on the same cores: `python -m benchmarks.neighbours --hr FOLDER`.

Runs `esrgan train lite-psnr` alone, beside another, and beside a plain loop of torch (the same
network, batch and loss; OpenMP's threads wait as by default), and prints steps per second, medians
of the rounds. What is compared takes turns, so that a machine that slows down slows all of it.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from esrgan_ext import openmp

_STEP = re.compile(rb"step +([\d,_]+)")

PLAIN = """
import sys, torch
from esrgan_ext.models import RRDBNet, RRDBNetConfig
batch, patch = int(sys.argv[1]), int(sys.argv[2])
torch.set_flush_denormal(True)
network = RRDBNet(RRDBNetConfig(nf=32, nb=3, gc=16))
adam = torch.optim.Adam(network.parameters(), fused=True)
low, high = torch.rand(batch, 3, patch // 4, patch // 4), torch.rand(batch, 3, patch, patch)
step = 0
while True:
    adam.zero_grad()
    torch.nn.functional.l1_loss(network(low), high).backward()
    adam.step()
    step += 1
    print("step", step, flush=True)
"""


class Loop:
    """A training loop in a process of its own, watched by the steps that it prints."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
        )
        self.said = b""
        self.step = 0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.said += line
            found = _STEP.match(line)
            if found:
                self.step = int(re.sub(rb"\D", b"", found[1]))

    def begin(self) -> None:
        """Wait for the first steps."""
        while self.step < 5:
            if self._process.poll() is not None:
                raise SystemExit(self.said.decode())
            time.sleep(0.05)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


def started(kind: str, given: argparse.Namespace, out: Path) -> Loop:
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    environment = {k: v for k, v in os.environ.items() if k not in names}
    shape = [str(given.batch), str(given.patch)]
    if kind == "plain":
        return Loop([sys.executable, "-c", PLAIN, *shape], environment)
    command = [sys.executable, "-m", "esrgan_ext.cli", "train", "lite-psnr", "-o", str(out)]
    command += ["--hr", str(given.hr), "--cache", str(out.parent / "cache"), "--log-every", "1"]
    command += ["--batch", shape[0], "--patch", shape[1], "--fresh"]
    # As the console script does before torch is loaded.
    return Loop(command, environment | openmp.waiting_settings(environment))


def speeds(kinds: tuple[str, ...], given: argparse.Namespace, out: Path) -> list[float]:
    """Steps per second of loops that run beside each other."""
    loops = [started(kind, given, out / str(k)) for k, kind in enumerate(kinds)]
    try:
        for loop in loops:
            loop.begin()
        before, start = [loop.step for loop in loops], time.perf_counter()
        time.sleep(given.seconds)
        seconds = time.perf_counter() - start
        return [(loop.step - b) / seconds for loop, b in zip(loops, before, strict=True)]
    finally:
        for loop in loops:
            loop.end()


CASES = {
    "torch's own loop, alone": ("plain",),
    "esrgan train, alone": ("ours",),
    "esrgan train, beside another": ("ours", "ours"),
    "esrgan train, beside torch's own loop": ("ours", "plain"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hr", type=Path, required=True, help="folder of photos")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--patch", type=int, default=96)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each case in a round")
    parser.add_argument("--rounds", type=int, default=3, help="odd, for a median")
    given = parser.parse_args()
    found: dict[str, list[float]] = {name: [] for name in CASES}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(given.rounds):
            for name, kinds in CASES.items():
                found[name].append(speeds(kinds, given, Path(folder))[0])
    alone = statistics.median(found["esrgan train, alone"])
    print(f"{'':38} steps/s   of its speed alone")
    for name, values in found.items():
        median = statistics.median(values)
        spread = f"({min(values):.2f} to {max(values):.2f})"
        print(f"{name:38} {median:7.2f}   {median / alone:.2f}   {spread}")


if __name__ == "__main__":
    main()
