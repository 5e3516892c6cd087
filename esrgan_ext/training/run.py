"""Puts a run together from folders, recipe, network and losses, or takes up one that stopped."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from esrgan_ext.errors import OptionError
from esrgan_ext.inference.devices import choose_device
from esrgan_ext.models import RRDBNet, SRNetwork
from esrgan_ext.training import checkpoint, distributed, tensorboard
from esrgan_ext.training.distributed import Group
from esrgan_ext.training.exposures import ExposurePatches, read_planes
from esrgan_ext.training.generators import build_generator, gray_of
from esrgan_ext.training.objectives import build_objective
from esrgan_ext.training.pack import PackedImages, pack
from esrgan_ext.training.recipe import Recipe
from esrgan_ext.training.reports import JsonLog, Lines, Report, Several
from esrgan_ext.training.resident import PhotoPatches, ResidentPatches
from esrgan_ext.training.trainer import CHECKPOINT, RunOptions, Trainer
from esrgan_ext.training.validation import validation_pairs
from esrgan_ext.weights import ModelInfo, load_model
from esrgan_ext.weights.info import default_overlap


@dataclass(frozen=True)
class Folders:
    """Where a run's images are.

    Attributes
    ----------
    hr : tuple of Path
        Folders of HR images, with all below.
    lr : Path or None
        Paired LR images; else they are made by the recipe's degradation.
    validation : Path or None
        HR images for the PSNR during training.
    cache : Path or None
        Where the packed images go; None: into the run's folder.
    """

    hr: tuple[Path, ...]
    lr: Path | None = None
    validation: Path | None = None
    cache: Path | None = None


def train(
    recipe: Recipe,
    folders: Folders,
    options: RunOptions,
    *,
    init: str | None = None,
    features: str | None = None,
    fresh: bool = False,
    say: Callable[[str], object] = print,
) -> Path | None:
    """Train a network to the end of its recipe, from where the run in `options.out` stopped.

    Parameters
    ----------
    recipe : Recipe
    folders : Folders
    options : RunOptions
    init : str, optional
        Name or path of a model to begin with. The perceptual recipes need one. A network of one
        channel may begin with one of three, which does the same to gray images.
    features : str, optional
        File of the perceptual loss's weights (VGG19 or VGG16); else it is looked for, and VGG19
        downloaded.
    fresh : bool
        Start over even if the folder holds a checkpoint.
    say : callable
        Prints a line.

    Returns
    -------
    Path or None
        The weights, `model.safetensors` in the run's folder; None in a process beside the main one.

    Raises
    ------
    OptionError, TrainingError, ModelError
    """
    group = distributed.join()
    try:
        return _train(recipe, folders, options, group, init, features, fresh, say)
    finally:
        distributed.leave()


def _train(
    recipe: Recipe,
    folders: Folders,
    options: RunOptions,
    group: Group,
    init: str | None,
    features: str | None,
    fresh: bool,
    say: Callable[[str], object],
) -> Path | None:
    if not group.is_main:
        say = _nothing
    if recipe.data.batch % group.world:
        raise OptionError(
            f"a batch of {recipe.data.batch} cannot be shared by {group.world} processes"
        )
    if options.device.type == "cuda" and group.world > 1:
        options = replace(options, device=torch.device("cuda", group.local_rank))
        torch.cuda.set_device(options.device)
    stopped = options.out / CHECKPOINT
    state = checkpoint.load(stopped) if stopped.is_file() and not fresh else None
    if recipe.needs_init and init is None and state is None:
        raise OptionError(
            f"the recipe {recipe.name} begins with a trained network: give --init, a name or a file"
        )
    pairs = []
    if folders.validation is not None:
        pairs = validation_pairs(folders.validation, recipe.generator.scale)
    generator = _generator(recipe, init if state is None else None, options.seed)
    with warnings.catch_warnings():
        if not group.is_main:  # it has been said once
            warnings.simplefilter("ignore")
        images = _images(recipe, folders, options, group, say)
    report: Report = Report()
    if group.is_main:
        report = _reports(options, say, state["step"] if state else 0)
    objective = build_objective(recipe, options.seed, lambda x: group.mean(x.mean()), features)
    trainer = Trainer(recipe, options, generator, objective, images, pairs, group, report)
    if state is not None:
        trainer.restore(state)
        say(f"continuing from step {trainer.step} of {stopped}")
    try:
        trainer.run()
    finally:
        report.close()
    return trainer.model_path if group.is_main else None


def _reports(options: RunOptions, say: Callable[[str], object], step: int) -> Report:
    reports: list[Report] = [Lines(say), JsonLog(options.out / "log.jsonl")]
    if tensorboard.available():
        reports.append(tensorboard.TensorBoard(options.out, step))
    return Several(reports)


def _nothing(line: str) -> None:
    """The other processes leave speaking to the main one."""


def _images(
    recipe: Recipe,
    folders: Folders,
    options: RunOptions,
    group: Group,
    say: Callable[[str], object],
) -> PackedImages | ResidentPatches:
    """Images of the folders, packed for a loader or on the device."""
    degradation = recipe.data.degradation
    why_not = None
    if group.world > 1:
        why_not = "several processes share a batch"
    elif options.precision == "fp16":
        why_not = "fp16 needs its scale checked after each step (take bf16 or fp32)"
    elif degradation == "real-esrgan":
        why_not = "this degradation runs on the CPU"
    if degradation == "exposure":
        if folders.lr is not None:
            raise OptionError("exposures are made of the HR images: leave --lr out")
        if why_not or options.resident is False:
            raise OptionError(
                f"exposures are drawn on the device only: {why_not or 'leave --no-resident out'}"
            )
        planes = read_planes(folders.hr, recipe.generator.scale, recipe.data.patch)
        say(f"{len(planes.images)} images, {len(planes.skipped)} skipped")
        return ExposurePatches(planes, recipe, options.device)
    packed = _packed(recipe, folders, options)
    say(f"{len(packed.images)} images, {len(packed.skipped)} skipped")
    if options.resident and why_not:
        raise OptionError(f"--resident cannot be had: {why_not}")
    on_device = options.resident
    if on_device is None:
        on_device = options.device.type == "cuda" and not why_not and _fit(packed, options)
    if not on_device:
        return packed
    return PhotoPatches(packed, recipe.data, recipe.generator.scale, options.device)


def _fit(packed: PackedImages, options: RunOptions) -> bool:
    """Whether the pixels take at most half of a GPU's free memory."""
    free, _ = torch.cuda.mem_get_info(options.device)
    return packed.pixels.nbytes <= free // 2


def _packed(recipe: Recipe, folders: Folders, options: RunOptions) -> PackedImages:
    return pack(
        folders.hr,
        folders.cache or options.out / "cache",
        scale=recipe.generator.scale,
        smallest=recipe.data.patch,
        lr_folder=folders.lr,
        with_lr=recipe.data.degradation == "bicubic",
    )


def _generator(recipe: Recipe, init: str | None, seed: int) -> SRNetwork:
    network = build_generator(recipe, seed)
    if init is not None:
        start = load_model(init)
        if network.in_channels == 1 and isinstance(start, RRDBNet) and start.in_channels > 1:
            start = gray_of(start)
        if getattr(start, "config", None) != network.config:
            raise OptionError(
                f"{init} is {getattr(start, 'config', None)}; the recipe trains {network.config}"
            )
        network.load_state_dict(start.state_dict())
    network.info = ModelInfo(  # type: ignore[assignment]
        name=recipe.name,
        scale=network.scale,
        blocks=recipe.generator.nb,
        in_channels=network.in_channels,
        out_channels=network.out_channels,
        purpose=recipe.summary,
        license="unknown",
        source=f"esrgan train {recipe.name}",
        sha256=None,
        size_bytes=None,
        overlap=default_overlap(network.config),
        path=None,
    )
    return network


def device_and_precision(device: str, precision: str) -> tuple[torch.device, str]:
    """The user's choice; "auto" trains in float32 on CPUs and with bf16 or fp16 on GPUs."""
    chosen = choose_device(device, "fp32" if precision == "auto" else precision)
    if precision != "auto" or chosen.device.type != "cuda":
        return chosen.device, chosen.precision
    return chosen.device, "bf16" if torch.cuda.is_bf16_supported() else "fp16"
