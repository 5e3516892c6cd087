"""Draws an evaluation: quality against time, a point for each model. Needs matplotlib."""

from __future__ import annotations

import importlib.util
import os
import statistics
from pathlib import Path
from typing import Any

from esrgan_ext.errors import OptionError
from esrgan_ext.evaluation.results import Evaluation

PLOT_SUFFIXES = (".png", ".svg", ".pdf")


def check_plot(path: str | os.PathLike[str]) -> Path:
    """The path of a plot that can be written; asked before hours of work.

    Raises
    ------
    OptionError
        Another suffix, no such folder, or matplotlib is not installed.
    """
    target = Path(path).expanduser()
    if target.suffix.lower() not in PLOT_SUFFIXES:
        raise OptionError(f"{target}: a plot's suffix must be one of {', '.join(PLOT_SUFFIXES)}")
    if not target.parent.is_dir():
        raise OptionError(f"{target}: there is no folder {target.parent}")
    if importlib.util.find_spec("matplotlib") is None:
        raise OptionError(f"{target}: plots need matplotlib: pip install 'esrgan-ext[plot]'")
    return target


def points(evaluation: Evaluation) -> list[tuple[str, float, float]]:
    """Of each model: name, median seconds an image, mean PSNR-Y in dB.

    The median, because a model's first image also pays for what is prepared once.
    """
    found = []
    for model in evaluation.models:
        seconds = [result.seconds for result in evaluation.results if result.model == model]
        found.append((model, statistics.median(seconds), evaluation.mean(model).psnr_y))
    return found


def plot(evaluation: Evaluation, path: str | os.PathLike[str]) -> Path:
    """Write a picture of quality against time.

    Parameters
    ----------
    evaluation : Evaluation
        With results; the time is that of the machine it ran on.
    path : str or path
        `.png`, `.svg` or `.pdf`.

    Raises
    ------
    OptionError
        See `check_plot`; or there is nothing to draw; or it cannot be written.
    """
    target = check_plot(path)
    found = points(evaluation) if evaluation.results else []
    found = [point for point in found if point[2] != float("inf")]
    if not found:
        raise OptionError(f"{target}: there are no results to draw")
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.hashsalt": "esrgan", "svg.fonttype": "none"}):
        figure = Figure(figsize=(7, 4.6), dpi=150, layout="constrained")
        axes = figure.add_subplot()
        axes.set_xscale("log")
        images = len({result.image for result in evaluation.results})
        axes.set_xlabel("median seconds an image (faster is left)")
        axes.set_ylabel("PSNR-Y, dB (better is up)")
        axes.set_title(f"x{evaluation.scale}, {images} image{'s' if images > 1 else ''}")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.grid(True, which="both", alpha=0.25)
        for name, seconds, quality in found:
            bicubic = name == "bicubic"
            axes.plot(
                seconds, quality, "s" if bicubic else "o", color="#777" if bicubic else "#0a62c4"
            )
        axes.margins(x=0.3, y=0.18)
        _label(figure, axes, found)
        # Without a date, so that the same figures give the same file.
        dated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
        try:
            figure.savefig(target, metadata=dated.get(target.suffix.lower(), {}))
        except OSError as error:
            raise OptionError(f"{target}: cannot be written: {error.strerror or error}") from error
    return target


def _label(figure: Any, axes: Any, found: list[tuple[str, float, float]]) -> None:
    """Names beside their points, moved up or down where one would cover another."""
    placed: list[Any] = []
    figure.draw_without_rendering()
    for name, seconds, quality in sorted(found, key=lambda point: point[2]):
        # Names come from files: a dollar sign begins no formula.
        shown = (
            name.replace("$", r"\$") if len(name) <= 40 else f"…{name[-39:]}".replace("$", r"\$")
        )
        # Beside the point where there is more room.
        left = axes.transData.transform((seconds, quality))[0] > axes.bbox.x0 + axes.bbox.width / 2
        for offset in (0, 10, -10, 20, -20, 30, -30):
            text = axes.annotate(
                shown,
                (seconds, quality),
                (-7 if left else 7, offset),
                textcoords="offset points",
                va="center",
                ha="right" if left else "left",
                fontsize=9,
            )
            box = text.get_window_extent()
            if not any(box.overlaps(other) for other in placed) or offset == -30:
                placed.append(box)
                break
            text.remove()
