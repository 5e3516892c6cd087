"""`esrgan train`: trains a network by a recipe, and goes on where a run was stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from esrgan_ext.cli.errors import reports_errors, say
from esrgan_ext.errors import OptionError


@reports_errors
def command(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A name (see --list), or a .toml file.")
    ] = "",
    hr: Annotated[
        list[Path] | None, typer.Option("--hr", help="Folder of HR images; may be repeated.")
    ] = None,
    lr: Annotated[
        Path | None, typer.Option("--lr", help="Paired LR images. Default: made by the recipe.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the run. Default: runs/RECIPE.")
    ] = None,
    validation: Annotated[
        Path | None, typer.Option("--val", help="Folder of HR images for the PSNR shown.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option("--cache", help="Folder of the packed images. Default: in --out.")
    ] = None,
    init: Annotated[
        str | None, typer.Option("--init", help="Model to begin with: a name or a file.")
    ] = None,
    features: Annotated[
        str | None,
        typer.Option("--features", help="Weights of the perceptual loss's VGG network: a file."),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew although --out holds a checkpoint.")
    ] = False,
    show: Annotated[bool, typer.Option("--list", help="List the recipes and end.")] = False,
    steps: Annotated[int | None, typer.Option("--steps", help="Optimizer steps.")] = None,
    batch: Annotated[int | None, typer.Option("--batch", help="Patches a step.")] = None,
    patch: Annotated[int | None, typer.Option("--patch", help="Side of an HR patch.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", help="Of both networks, at the start.")
    ] = None,
    clip: Annotated[
        float | None, typer.Option("--clip", help="Largest gradient norm; 0: any.")
    ] = None,
    ema: Annotated[
        float | None, typer.Option("--ema", help="Decay of the averaged weights; 0: none.")
    ] = None,
    blocks: Annotated[int | None, typer.Option("--blocks", help="Residual blocks.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of weights and patches.")] = 0,
    device: Annotated[
        str, typer.Option("--device", "-d", help="auto, cpu, cuda or cuda:N.", metavar="NAME")
    ] = "auto",
    precision: Annotated[
        str, typer.Option("--precision", "-p", help="auto, fp32, fp16 or bf16.", metavar="NAME")
    ] = "auto",
    workers: Annotated[int, typer.Option("--workers", help="Loader processes.")] = 0,
    checkpoint_every: Annotated[
        int, typer.Option("--checkpoint-every", help="Steps between checkpoints.")
    ] = 1000,
    validate_every: Annotated[
        int, typer.Option("--validate-every", help="Steps between validations.")
    ] = 1000,
    log_every: Annotated[
        int, typer.Option("--log-every", help="Steps between lines of the log.")
    ] = 100,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="The same bits on a GPU each time; slower.")
    ] = False,
    resident: Annotated[
        bool | None,
        typer.Option(
            "--resident/--no-resident",
            help="Images on the device, steps without a loader. Default: on a GPU.",
        ),
    ] = None,
) -> None:
    """Train a network. The same command goes on where a run was stopped or killed.

    Several GPUs or processes: torchrun --nproc-per-node N -m esrgan_ext.cli train ...
    """
    from esrgan_ext.training.recipe import load_recipe, recipe_names

    if show:
        for name in recipe_names():
            say(f"{name:14} {load_recipe(name).summary}")
        return
    if not recipe or not hr:
        raise OptionError("give a recipe (esrgan train --list shows them) and --hr, a folder")
    chosen = load_recipe(
        recipe,
        {
            "steps": steps,
            "clip": clip,
            "ema": ema,
            "data.batch": batch,
            "data.patch": patch,
            "generator.nb": blocks,
            "schedule.learning_rate": learning_rate,
        },
    )

    from esrgan_ext.training.run import Folders, device_and_precision, train
    from esrgan_ext.training.trainer import RunOptions

    where, numbers = device_and_precision(device, precision)
    options = RunOptions(
        out=out or Path("runs") / chosen.name,
        device=where,
        precision=numbers,
        seed=seed,
        workers=workers,
        checkpoint_every=checkpoint_every,
        validate_every=validate_every,
        log_every=log_every,
        deterministic=deterministic,
        resident=resident,
    )
    folders = Folders(tuple(hr), lr, validation, cache)
    weights = train(chosen, folders, options, init=init, features=features, fresh=fresh, say=say)
    if weights is not None:
        say(str(weights))
