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
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esrgan_ext import Upscaler
from esrgan_ext.models import RRDBNet, RRDBNetConfig, SRNetwork
from esrgan_ext.training.distributed import Group
from esrgan_ext.training.generators import build_generator
from esrgan_ext.training.objectives import build_objective
from esrgan_ext.training.pack import PackedImages, pack
from esrgan_ext.training.recipe import Recipe, load_recipe
from esrgan_ext.training.reports import Report
from esrgan_ext.training.trainer import RunOptions, Trainer
from esrgan_ext.training.validation import validate, validation_pairs

End = Literal["", "bicubic", "shuffle 2", "shuffle 4"]
"""How a network ends: as its architecture does; added to the bicubic enlargement; or with features
that are enlarged 2 or 4 times less, whose pixels a shuffle takes from channels."""


@dataclass(frozen=True)
class Candidate:
    """A network: architecture, feature channels, blocks (or convolutions), growth channels, end.

    A long plain chain does not begin to learn at the rate that suits an RRDBNet.
    """

    architecture: str
    nf: int
    nb: int
    gc: int = 16
    end: End = ""
    learning_rate: float = 5e-4

    def __str__(self) -> str:
        growth = f", gc {self.gc}" if self.architecture == "rrdbnet" else ""
        end = f", {self.end}" if self.end else ""
        return f"{self.architecture} nf {self.nf}, nb {self.nb}{growth}{end}"


# From 0.3 to 0.8 million parameters; widths that the compiled core has kernels for.
CANDIDATES = (
    Candidate("rrdbnet", 32, 3),
    Candidate("rrdbnet", 32, 4),
    Candidate("rrdbnet", 32, 3, end="bicubic"),
    Candidate("rrdbnet", 32, 4, end="shuffle 2"),
    Candidate("rrdbnet", 32, 4, end="shuffle 4"),
    Candidate("compact", 64, 16, learning_rate=2e-4),
    Candidate("compact", 64, 20, learning_rate=2e-4),
)


class OverBicubic(nn.Module):
    """A network whose result is added to the input enlarged by bicubic interpolation."""

    def __init__(self, network: SRNetwork) -> None:
        super().__init__()
        self.network = network
        self.scale, self.in_channels = network.scale, network.in_channels
        self.out_channels = network.out_channels

    def forward(self, x: Tensor) -> Tensor:
        enlarged = F.interpolate(x, scale_factor=self.scale, mode="bicubic")
        return self.network(x) + enlarged


class Shuffled(nn.Module):
    """A network whose result gives the square of `factor` pixels for each of its own."""

    def __init__(self, network: SRNetwork, factor: int) -> None:
        super().__init__()
        self.network, self.factor = network, factor
        self.scale, self.in_channels = network.scale * factor, network.in_channels
        self.out_channels = network.out_channels // factor**2

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.network(x), self.factor)


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
            "schedule.learning_rate": candidate.learning_rate,
            "steps": steps,
        },
    )


@torch.no_grad()
def build(candidate: Candidate, recipe: Recipe, seed: int) -> nn.Module:
    """The network with initial weights that pass the image on, as nearest or bicubic pixels."""
    network = build_generator(recipe, seed)
    if candidate.end == "bicubic":
        assert isinstance(network, RRDBNet)
        network.conv_last.weight.mul_(0.01)  # it carried the image, which is added now
        return OverBicubic(network)
    if candidate.end:
        assert isinstance(network, RRDBNet)
        factor = int(candidate.end.removeprefix("shuffle "))
        shuffled = RRDBNet(_enlarging_less(network.config, factor, factor**2))
        state = network.state_dict()
        # Each pixel of the shuffle begins as the one pixel of before.
        for name in ("conv_last.weight", "conv_last.bias"):
            state[name] = state[name].repeat_interleave(factor**2, 0)
        shuffled.load_state_dict({name: state[name] for name in shuffled.state_dict()})
        return Shuffled(shuffled.train().to(memory_format=torch.channels_last), factor)
    return network


def _enlarging_less(config: RRDBNetConfig, factor: int, pixels: int) -> RRDBNetConfig:
    return RRDBNetConfig(
        out_channels=config.out_channels * pixels,
        nf=config.nf,
        nb=config.nb,
        gc=config.gc,
        scale=config.scale // factor,
    )


def to_be_timed(candidate: Candidate) -> SRNetwork:
    """A network that costs the compiled core as much: what is added or shuffled afterwards does not
    count, and of a shuffle's outputs (2 % of the multiplications) only three."""
    network = build_generator(recipe_for(candidate, 1, 32), 0)
    if candidate.end.startswith("shuffle"):
        assert isinstance(network, RRDBNet)
        network = RRDBNet(_enlarging_less(network.config, int(candidate.end[-1]), 1))
    return network.eval()


class Unsaved(Trainer):
    """Keeps no files: the networks with another end have no layout to be saved in."""

    def save(self) -> None:
        pass


def trained(candidate: Candidate, recipe: Recipe, images: PackedImages, seed: int) -> nn.Module:
    """The average of the weights after the recipe's steps."""
    network: Any = build(candidate, recipe, seed)
    objective = build_objective(recipe, seed, torch.mean)
    options = RunOptions(Path(), seed=seed, checkpoint_every=0)
    trainer = Unsaved(recipe, options, network, objective, images, [], Group(), Report())
    trainer.run()
    assert trainer.ema is not None
    return trainer.ema.network


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


def decibels(network: nn.Module, folder: Path) -> float:
    """Mean PSNR of Y over a folder's images."""
    return validate(network, validation_pairs(folder, 4))[0]  # type: ignore[arg-type]


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

    cache = arguments.out / "cache"
    images = pack((arguments.hr,), cache, scale=4, smallest=arguments.patch, with_lr=True)
    results: dict[Candidate, list[list[float]]] = {c: [] for c in CANDIDATES}
    for seed in arguments.seeds:  # all networks before the next seed
        for candidate in CANDIDATES:
            recipe = recipe_for(candidate, arguments.steps, arguments.patch)
            name = f"{candidate} {seed}".replace(" ", "-").replace(",", "")
            # Other settings are other results.
            out = arguments.out / f"steps-{arguments.steps}-patch-{arguments.patch}" / name
            done = out / "decibels.json"
            if not done.exists():
                network = trained(candidate, recipe, images, seed)
                out.mkdir(parents=True, exist_ok=True)
                done.write_text(json.dumps([decibels(network, f) for f in arguments.test]))
            results[candidate].append(json.loads(done.read_text()))
            print(f"{candidate}, seed {seed}: {results[candidate][-1]}", flush=True)
    networks = [to_be_timed(candidate) for candidate in CANDIDATES]
    times = seconds(networks, arguments.side, arguments.rounds)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {arguments.steps} steps")
    for candidate, taken in zip(CANDIDATES, times, strict=True):
        network = build(candidate, recipe_for(candidate, 1, 32), 0)
        parameters = sum(p.numel() for p in network.parameters())
        row = [f"{parameters / 1e6:.2f} M", f"{taken / times[0]:.2f} times the first's time"]
        for folder, found in zip(
            arguments.test, zip(*results[candidate], strict=True), strict=True
        ):
            mean, spread = statistics.mean(found), max(found) - min(found)
            row.append(f"{folder}: {mean:.2f} dB (within {spread:.2f})")
        print(f"{candidate}: {', '.join(row)}")


if __name__ == "__main__":
    main()
