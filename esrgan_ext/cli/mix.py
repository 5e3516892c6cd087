"""`esrgan interpolate`: a model between models, or an animation of the way from one to another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from esrgan_ext.cli import completion, options
from esrgan_ext.cli.errors import reports_errors, say
from esrgan_ext.errors import OptionError

EXAMPLES = """
# halfway between two models
esrgan interpolate realesrgan-x4plus bsrgan-x4 --alpha 0.5 -o half.safetensors

# three models
esrgan interpolate a.pth b.pth c.pth --weights 0.5,0.3,0.2 -o mix.pth

# the whole way from one to the other on an image, as an animation
esrgan interpolate realesrgan-x4plus bsrgan-x4 --animate way.webp --image photo.png
"""

_ANIMATION = "Animation"


@reports_errors
def command(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL MODEL...",
            help="Names or files of two or more models.",
            autocompletion=completion.models(),
        ),
    ],
    alpha: Annotated[
        float | None,
        typer.Option(
            "--alpha",
            "-a",
            metavar="0..1",
            help="Share of the second model: 0 is the first model, 1 the second.",
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights", metavar="W,W,...", help="One share for each model; they add up to 1."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="The .safetensors or .pth file to write."
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    extrapolate: Annotated[
        bool, typer.Option("--extrapolate", help="Allow alpha and weights outside 0 to 1.")
    ] = False,
    animate: Annotated[
        Path | None,
        typer.Option(
            "--animate",
            metavar="FILE",
            help="The .gif, .webp or .png file to write: alpha goes from 0 to 1.",
            rich_help_panel=_ANIMATION,
        ),
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option(
            "--image",
            metavar="FILE",
            help="The image to upscale in each frame.",
            rich_help_panel=_ANIMATION,
        ),
    ] = None,
    steps: Annotated[
        int,
        typer.Option("--steps", metavar="N", help="Number of frames.", rich_help_panel=_ANIMATION),
    ] = 21,
    duration: Annotated[
        int,
        typer.Option(
            "--duration",
            metavar="MS",
            help="Time for which each frame is shown, in milliseconds.",
            rich_help_panel=_ANIMATION,
        ),
    ] = 150,
    outscale: options.Outscale = None,
    tile: options.Tile = "auto",
    overlap: options.Overlap = "auto",
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    max_pixels: options.MaxPixels = None,
) -> None:
    """Mix models of one architecture.

    Every weight becomes (1 - alpha) * A + alpha * B. Either writes the mixed model (--alpha or
    --weights, with -o), or an animation from A to B (--animate, with --image).
    """
    if len(models) < 2:
        raise OptionError("give at least two models")
    if animate is None:
        _write_mix(models, alpha, weights, output, overwrite, extrapolate)
        return
    if len(models) != 2 or alpha is not None or weights is not None or output is not None:
        raise OptionError("--animate takes two models, and no --alpha, --weights or --output")
    if image is None:
        raise OptionError("--animate needs --image, the image to show")

    from esrgan_ext.cli import display
    from esrgan_ext.cli.loading import load
    from esrgan_ext.inference import animation
    from esrgan_ext.inference.files import read_image

    tile_side = options.number_or_auto("tile", tile)
    overlap_pixels = options.number_or_auto("overlap", overlap)
    animation.check(animate, steps, duration)
    options.keep_existing(animate, overwrite)
    pixels = animation.displayable(read_image(image, max_pixels=options.limit(max_pixels)))
    out = display.console()
    networks = [load(name, out) for name in models]
    sweep = animation.sweep(
        networks[0],
        networks[1],
        pixels,
        steps=steps,
        outscale=outscale,
        tile=tile_side,
        overlap=overlap_pixels,
        device=device,
        precision=precision,
    )
    frames = []
    with display.steps(out, animate.name, steps) as bars:
        for frame in sweep:
            frames.append(frame)
            if bars is not None:
                bars.advance(bars.task_ids[0])
    animation.write_animation(animate, frames, duration)
    height, width = frames[0].shape[:2]
    say(f"{animate} ({width} x {height}, {len(frames)} frames)")


def _write_mix(
    models: list[str],
    alpha: float | None,
    weights: str | None,
    output: Path | None,
    overwrite: bool,
    extrapolate: bool,
) -> None:
    if output is None:
        raise OptionError("give --output, the file to write (or --animate)")
    if (alpha is None) == (weights is None):
        raise OptionError("give --alpha (two models) or --weights (any number)")
    if alpha is not None and len(models) != 2:
        raise OptionError("--alpha is for two models; for more give --weights")
    options.keep_existing(output, overwrite)
    shares = [1 - alpha, alpha] if alpha is not None else _shares(weights or "")

    from esrgan_ext.cli import display
    from esrgan_ext.cli.loading import load
    from esrgan_ext.weights import interpolate, interpolate_many, save_model

    if len(shares) != len(models):
        raise OptionError(f"{len(models)} models need as many weights, not {len(shares)}")
    out = display.console()
    if alpha is not None:
        _check_alpha(alpha, extrapolate)
    networks = [load(name, out) for name in models]
    if alpha is not None:
        mixed = interpolate(networks[0], networks[1], alpha, extrapolate=extrapolate)
    else:
        mixed = interpolate_many(networks, shares, extrapolate=extrapolate)
    say(str(save_model(mixed, output)))


def _check_alpha(alpha: float, extrapolate: bool) -> None:
    """Before models are loaded or downloaded for nothing."""
    if not (-float("inf") < alpha < float("inf")):
        raise OptionError(f"--alpha must be a finite number, not {alpha}")
    if not (extrapolate or 0 <= alpha <= 1):
        raise OptionError(f"--alpha must be between 0 and 1, not {alpha} (or give --extrapolate)")


def _shares(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise OptionError(f"--weights must be numbers with commas between, not {text!r}") from None
