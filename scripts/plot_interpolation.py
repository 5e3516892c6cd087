"""PSNR and perceptual distance on the way from one model to another, as a table and a plot.

    python scripts/plot_interpolation.py lite-psnr-x4 lite-esrgan-x4 --hr Set14/HR \
        -o docs/images/lite-interpolation.png

Needs matplotlib, and ST-LPIPS's weights (docs/evaluation.md).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from esrgan_ext import evaluate, interpolate, load_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("first")
    parser.add_argument("second")
    parser.add_argument("--hr", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=11)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    first, second = load_model(options.first), load_model(options.second)

    def scores(model) -> tuple[float, float]:
        found = evaluate(model, options.hr, perceptual="st-lpips")
        mean = found.mean(found.models[0])
        return mean.psnr_y, mean.perceptual

    bicubic = scores("bicubic")
    print(f"bicubic    {bicubic[0]:.3f} dB  {bicubic[1]:.4f}", flush=True)
    alphas = np.linspace(0, 1, options.steps)
    found = []
    for alpha in alphas:
        found.append(scores(interpolate(first, second, alpha=float(alpha))))
        print(f"alpha {alpha:.2f} {found[-1][0]:.3f} dB  {found[-1][1]:.4f}", flush=True)
    if options.output:
        _plot(options, alphas, np.array(found), bicubic)


def _plot(options, alphas, found, bicubic) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, left = plt.subplots(figsize=(6.4, 4), dpi=110)
    right = left.twinx()
    kinds = ((left, "tab:blue", "PSNR-Y in dB"), (right, "tab:red", "ST-LPIPS (lower is better)"))
    for column, (axis, colour, label) in enumerate(kinds):
        axis.plot(alphas, found[:, column], color=colour, marker="os"[column], markersize=4)
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
