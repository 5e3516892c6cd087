"""PSNR and perceptual distance on the way from one model to another, as a table and a plot.

    python scripts/plot_interpolation.py lite-psnr-x4 lite-esrgan-x4 --hr Set14/HR \
        -o docs/images/lite-interpolation.png

Needs matplotlib, and ST-LPIPS's weights (docs/evaluation.md).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from esrgan_ext import interpolate, load_model
from esrgan_ext.evaluation.metrics import luma, psnr
from esrgan_ext.evaluation.perceptual import load_perceptual
from esrgan_ext.inference.resample import imresize
from esrgan_ext.training.validation import Pair, upscaled, validation_pairs

BORDER = 4


def scores(pairs: list[Pair], results: list[np.ndarray], distance) -> tuple[float, float]:
    """Mean PSNR on Y (gray images: on themselves), and mean distance."""
    values = []
    for pair, sr in zip(pairs, results, strict=True):
        y = (sr.mean(2).round().astype(np.uint8), pair.hr[..., 0]) if pair.gray else None
        y = y or (luma(sr), luma(pair.hr))
        values.append((psnr(*y, border=BORDER), distance(sr, pair.hr, border=BORDER)))
    means = np.mean(values, 0)
    return float(means[0]), float(means[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("first")
    parser.add_argument("second")
    parser.add_argument("--hr", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=11)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    pairs = validation_pairs(options.hr, 4)
    distance = load_perceptual("st-lpips")
    first, second = load_model(options.first), load_model(options.second)
    bicubic = scores(pairs, [imresize(p.lr, p.hr.shape[:2]) for p in pairs], distance)
    print(f"bicubic    {bicubic[0]:.3f} dB  {bicubic[1]:.4f}")
    alphas = np.linspace(0, 1, options.steps)
    found = []
    for alpha in alphas:
        network = interpolate(first, second, alpha=float(alpha))
        found.append(scores(pairs, [upscaled(network, p.lr) for p in pairs], distance))
        print(f"alpha {alpha:.2f} {found[-1][0]:.3f} dB  {found[-1][1]:.4f}", flush=True)
    if options.output:
        _plot(options, alphas, np.array(found), bicubic, distance.name)


def _plot(options, alphas, found, bicubic, name: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, left = plt.subplots(figsize=(6.4, 4), dpi=110)
    right = left.twinx()
    kinds = ((left, "tab:blue", "PSNR-Y in dB"), (right, "tab:red", f"{name} (lower is better)"))
    for axis, colour, label in kinds:
        column = int(axis is right)
        marker = "s" if column else "o"
        axis.plot(alphas, found[:, column], color=colour, marker=marker, markersize=4)
        axis.axhline(bicubic[column], color=colour, linewidth=0.8, linestyle=":")
        axis.text(
            0.99, bicubic[column], "bicubic", color=colour, fontsize=8, ha="right", va="bottom"
        )
        axis.set_ylabel(label, color=colour)
        axis.tick_params(axis="y", colors=colour)
    left.set_xlabel(f"alpha: 0 is {options.first}, 1 is {options.second}")
    left.set_title(f"{options.hr.parent.name}, x4", fontsize=10)
    figure.tight_layout()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.output)


if __name__ == "__main__":
    main()
