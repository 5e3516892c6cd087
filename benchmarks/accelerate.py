"""Models of other packages before and after `esrgan_ext.accelerate`: `python -m
benchmarks.accelerate`.

The networks that BasicSR, Real-ESRGAN and ESRGAN publish, and spandrel's descriptors of them where
it is installed; each pair runs in turn in one process. Prints medians, the median of the rounds'
ratios, and the largest difference between the two results.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import esrgan_ext as esr
from benchmarks import published
from benchmarks.torchvision_operators import declare_missing


@dataclass(frozen=True)
class Result:
    """One model.

    Attributes
    ----------
    before, after : float
        Seconds a call, medians.
    ratio : float
        Median over the rounds of before / after.
    difference : float
        The largest between the two results, where 1 is white.
    """

    before: float
    after: float
    ratio: float
    difference: float


def compare(model: Callable[[Tensor], Tensor], side: int = 128, rounds: int = 5) -> Result:
    """A model and its accelerated self on a random image of side x side pixels, in turn.

    Parameters
    ----------
    model : nn.Module or spandrel's ImageModelDescriptor
        float32, on the CPU, RGB.
    """
    fast = esr.accelerate(model)
    if fast is model:
        raise ValueError("the model came back unchanged")
    x = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    times: dict[str, list[float]] = {"before": [], "after": []}
    with torch.inference_mode():
        difference = float((model(x) - fast(x)).abs().max())  # the first calls, not timed
        for _ in range(rounds):
            for name, run in (("before", model), ("after", fast)):
                start = time.perf_counter()
                run(x)
                times[name].append(time.perf_counter() - start)
    ratios = [a / b for a, b in zip(times["before"], times["after"], strict=True)]
    before, after = (statistics.median(values) for values in times.values())
    return Result(before, after, statistics.median(ratios), difference)


def modules(blocks: int) -> dict[str, nn.Module]:
    """The published networks at their usual width: RRDBs by number, compact ones as published."""
    torch.manual_seed(0)
    made = {
        "BasicSR RRDBNet x4": published.BasicSRRRDBNet(4, 64, blocks, 32),
        "BasicSR RRDBNet x2": published.BasicSRRRDBNet(2, 64, blocks, 32),
        "ESRGAN RRDBNet": published.ESRGANRRDBNet(64, blocks, 32),
        "RRDBNet of 2018": published.OldRRDBNet(64, blocks, 32),
        "SRVGGNetCompact, 16": published.SRVGGNetCompact(64, 16, 4),
        "SRVGGNetCompact, 32": published.SRVGGNetCompact(64, 32, 4),
    }
    return {name: module.eval() for name, module in made.items()}


def descriptors(modules: dict[str, nn.Module]) -> Iterator[tuple[str, Callable[[Tensor], Tensor]]]:
    """What spandrel makes of the modules' weights."""
    try:
        declare_missing()
        from spandrel import ImageModelDescriptor, ModelLoader
    except ImportError:
        print("spandrel is not installed")
        return
    for name, module in modules.items():
        descriptor = ModelLoader().load_from_state_dict(dict(module.state_dict())).eval()
        assert isinstance(descriptor, ImageModelDescriptor)
        yield f"spandrel, {descriptor.architecture.name}: {name}", descriptor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=128, help="input pixels")
    parser.add_argument("--blocks", type=int, default=6, help="of the RRDBNets")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    made = modules(options.blocks)
    models: dict[str, Callable[[Tensor], Tensor]] = {**made, **dict(descriptors(made))}
    for name, model in models.items():
        found = compare(model, options.side, options.rounds)
        print(
            f"{name}: {found.before:.2f} s, {found.after:.2f} s, {found.ratio:.1f} times as fast, "
            f"difference {found.difference:.1e}",
            flush=True,
        )


if __name__ == "__main__":
    main()
