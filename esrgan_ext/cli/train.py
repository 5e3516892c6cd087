"""`esrgan train`: trains a network by a recipe, and continues a run that was stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from esrgan_ext.cli import completion, help, options
from esrgan_ext.cli.errors import reports_errors, say
from esrgan_ext.errors import OptionError

_NETWORK = "Overrides of the recipe"
_RUN = "The run"
_DATA = "Data"


def _override(name: str, metavar: str, text: str) -> Any:
    """An option in place of a value of the recipe."""
    return typer.Option(name, metavar=metavar, help=text, rich_help_panel=_NETWORK)


EXAMPLES = """
# the recipes
esrgan train --list

# train on a folder of photos; run it again to continue
esrgan train lite-psnr --hr photos -o runs/photos

# fine-tune a model on two folders, with half the steps
esrgan train lite-esrgan --hr photos --hr more --init lite-psnr-x4 --steps 2000

# several GPUs
torchrun --nproc-per-node 4 -m esrgan_ext.cli train psnr --hr photos
"""


@reports_errors
def command(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            help="Name of a recipe (see --list), or a .toml file.",
            autocompletion=completion.recipes,
        ),
    ] = "",
    hr: Annotated[
        list[Path] | None,
        typer.Option(
            "--hr",
            metavar="FOLDER",
            help="Folder of high-resolution images. May be given several times.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    lr: Annotated[
        Path | None,
        typer.Option(
            "--lr",
            metavar="FOLDER",
            help="Low-resolution images of the same names. Default: made by the recipe.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "--out",
            "-o",
            metavar="FOLDER",
            help="Folder of the run. Default: runs/RECIPE.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    validation: Annotated[
        Path | None,
        typer.Option(
            "--val",
            metavar="FOLDER",
            help="High-resolution images to validate on: their PSNR is shown.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            "--cache",
            metavar="FOLDER",
            help="Folder for the packed images. Default: in --output.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            "--init",
            metavar="MODEL",
            help="Name or file of the model to start from.",
            autocompletion=completion.models(),
            rich_help_panel=_RUN,
        ),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(
            "--features",
            metavar="FILE",
            help="Weights of the VGG network of the perceptual loss.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    fresh: Annotated[
        bool,
        typer.Option(
            "--fresh",
            help="Start over even if --output has a checkpoint.",
            rich_help_panel=_RUN,
        ),
    ] = False,
    show: Annotated[bool, typer.Option("--list", help="List the recipes and exit.")] = False,
    steps: Annotated[int | None, _override("--steps", "N", "Number of optimizer steps.")] = None,
    batch: Annotated[int | None, _override("--batch", "N", "Patches per step.")] = None,
    patch: Annotated[
        int | None, _override("--patch", "PIXELS", "Side of a high-resolution patch.")
    ] = None,
    learning_rate: Annotated[
        float | None,
        _override("--learning-rate", "RATE", "Initial learning rate of both networks."),
    ] = None,
    clip: Annotated[
        float | None, _override("--clip", "NORM", "Largest norm of the gradients; 0: no limit.")
    ] = None,
    ema: Annotated[
        float | None, _override("--ema", "0..1", "Decay of the averaged weights; 0: no average.")
    ] = None,
    blocks: Annotated[
        int | None, _override("--blocks", "N", "Residual blocks of the network.")
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            "--seed", metavar="N", help="Seed of weights and patches.", rich_help_panel=_RUN
        ),
    ] = 0,
    device: Annotated[
        str,
        typer.Option(
            "--device",
            "-d",
            metavar="NAME",
            help="auto, cpu, cuda or cuda:N.",
            autocompletion=completion.words("auto", "cpu", "cuda", "cuda:0"),
            rich_help_panel=help.SPEED,
        ),
    ] = "auto",
    precision: options.Precision = "auto",
    workers: Annotated[
        int,
        typer.Option(
            "--workers",
            metavar="N",
            help="Number of processes that load images.",
            rich_help_panel=help.SPEED,
        ),
    ] = 0,
    checkpoint_every: Annotated[
        int,
        typer.Option(
            "--checkpoint-every",
            metavar="STEPS",
            help="Steps between checkpoints.",
            rich_help_panel=_RUN,
        ),
    ] = 1000,
    validate_every: Annotated[
        int,
        typer.Option(
            "--validate-every",
            metavar="STEPS",
            help="Steps between validations.",
            rich_help_panel=_RUN,
        ),
    ] = 1000,
    log_every: Annotated[
        int,
        typer.Option(
            "--log-every",
            metavar="STEPS",
            help="Steps between lines of the log.",
            rich_help_panel=_RUN,
        ),
    ] = 100,
    deterministic: Annotated[
        bool,
        typer.Option(
            "--deterministic",
            help="The same bits on a GPU every time; slower.",
            rich_help_panel=help.SPEED,
        ),
    ] = False,
    resident: Annotated[
        bool | None,
        typer.Option(
            "--resident/--no-resident",
            help="Keep the images in the device's memory. Default: on a GPU.",
            rich_help_panel=help.SPEED,
        ),
    ] = None,
) -> None:
    """Train a model on a folder of images.

    Run the same command again to continue a run that was stopped or killed. The model is
    model.safetensors in the folder of the run.
    """
    from esrgan_ext.training.recipe import load_recipe, recipe_names

    if show:
        names = recipe_names()
        width = max(map(len, names))
        for name in names:
            say(f"{name:{width}}  {load_recipe(name).summary}")
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
    how = RunOptions(
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
    weights = train(chosen, folders, how, init=init, features=features, fresh=fresh, say=say)
    if weights is not None:
        say(str(weights))
