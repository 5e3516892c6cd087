"""Networks of half a million parameters against each other: `python -m benchmarks.small_networks`.

Each is trained from nothing with the same patches, steps and seeds, and measured on images that it
has not seen; the compiled core's time for 512x512 pixels stands beside it, in turns. So short a
run says which network learns faster, not where each one ends.

    python -m benchmarks.small_networks --hr photos/ --test Set5/HR Set14/HR

Results that are in the folder of --out already are not made again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from esrgan_ext import Upscaler
from esrgan_ext.models import SRNetwork
from esrgan_ext.training.generators import build_generator
from esrgan_ext.training.recipe import Recipe, load_recipe
from esrgan_ext.training.run import Folders, train
from esrgan_ext.training.trainer import RunOptions
from esrgan_ext.training.validation import validate, validation_pairs
from esrgan_ext.weights import load_model


@dataclass(frozen=True)
class Candidate:
    """A network: architecture, feature channels, blocks (or convolutions), growth channels."""

    architecture: str
    nf: int
    nb: int
    gc: int = 16

    def __str__(self) -> str:
        growth = f", gc {self.gc}" if self.architecture == "rrdbnet" else ""
        return f"{self.architecture} nf {self.nf}, nb {self.nb}{growth}"


# From 0.3 to 0.8 million parameters; widths that the compiled core has kernels for.
CANDIDATES = (
    Candidate("rrdbnet", 32, 3),
    Candidate("rrdbnet", 32, 4),
    Candidate("compact", 64, 16),
    Candidate("compact", 64, 20),
)


def recipe_for(candidate: Candidate, steps: int, patch: int) -> Recipe:
    """The first phase of lite-psnr with this network."""
    return load_recipe(
        "lite-psnr",
        {
            "generator.architecture": candidate.architecture,
            "generator.nf": candidate.nf,
            "generator.nb": candidate.nb,
            "generator.gc": candidate.gc,
            "data.patch": patch,
            "steps": steps,
        },
    )


def seconds(networks: list[SRNetwork], side: int, rounds: int) -> list[float]:
    """Median time of each for a square image, all in turn."""
    picture = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    upscalers = [Upscaler(network, device="cpu") for network in networks]
    times: list[list[float]] = [[] for _ in upscalers]
    for number in range(rounds + 1):
        for upscaler, mine in zip(upscalers, times, strict=True):
            start = time.perf_counter()
            upscaler(picture, data_range=(0, 255))
            if number:  # the first builds what the others find
                mine.append(time.perf_counter() - start)
    return [statistics.median(mine) for mine in times]


def decibels(network: SRNetwork, folder: Path) -> float:
    """Mean PSNR of Y over a folder's images."""
    return validate(network, validation_pairs(folder, network.scale))[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--hr", type=Path, required=True, help="photos to train on")
    parser.add_argument("--test", type=Path, nargs="+", required=True, help="folders to measure on")
    parser.add_argument("--out", type=Path, default=Path("runs/small_networks"))
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--patch", type=int, default=96)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", type=int, default=512)
    arguments = parser.parse_args()

    results: dict[Candidate, list[list[float]]] = {c: [] for c in CANDIDATES}
    for seed in arguments.seeds:  # all networks before the next seed
        for candidate in CANDIDATES:
            recipe = recipe_for(candidate, arguments.steps, arguments.patch)
            name = f"{candidate} {seed}".replace(" ", "-").replace(",", "")
            # Other settings are other results.
            out = arguments.out / f"steps-{arguments.steps}-patch-{arguments.patch}" / name
            done = out / "decibels.json"
            if not done.exists():
                folders = Folders((arguments.hr,), cache=arguments.out / "cache")
                model = train(recipe, folders, RunOptions(out, seed=seed), say=_nothing)
                network = load_model(model)
                done.write_text(json.dumps([decibels(network, f) for f in arguments.test]))
            results[candidate].append(json.loads(done.read_text()))
            print(f"{candidate}, seed {seed}: {results[candidate][-1]}", flush=True)
    networks = [build_generator(recipe_for(c, 1, 32), 0).eval() for c in CANDIDATES]
    times = seconds(networks, arguments.side, arguments.rounds)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {arguments.steps} steps")
    for candidate, network, taken in zip(CANDIDATES, networks, times, strict=True):
        parameters = sum(p.numel() for p in network.parameters())
        row = [f"{parameters / 1e6:.2f} M", f"{taken / times[0]:.2f} times the first's time"]
        for folder, found in zip(
            arguments.test, zip(*results[candidate], strict=True), strict=True
        ):
            mean, spread = statistics.mean(found), max(found) - min(found)
            row.append(f"{folder}: {mean:.2f} dB (within {spread:.2f})")
        print(f"{candidate}: {', '.join(row)}")


def _nothing(line: str) -> None:
    """The steps are not of interest."""


if __name__ == "__main__":
    main()
