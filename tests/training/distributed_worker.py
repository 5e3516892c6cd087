"""One process of tests/training/test_distributed.py; torchrun starts it."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from esrgan_ext.training import distributed
from esrgan_ext.training.generators import build_generator
from esrgan_ext.training.objectives import AdversarialObjective, PixelObjective
from esrgan_ext.training.pack import pack
from esrgan_ext.training.recipe import load_recipe
from esrgan_ext.training.reports import Report
from esrgan_ext.training.trainer import RunOptions, Trainer


def main(photos: Path, out: Path) -> None:
    torch.set_num_threads(1)
    group = distributed.join()
    images = pack([photos], out / "cache", scale=4, smallest=32)
    for name in ("psnr", "esrgan"):
        recipe = load_recipe(
            name,
            {
                "generator.nf": 8, "generator.nb": 1, "generator.gc": 4, "data.patch": 32,
                "data.batch": 4, "discriminator.kind": "unet", "discriminator.nf": 4,
            },
        )  # fmt: skip
        objective: PixelObjective
        if recipe.adversarial:
            objective = AdversarialObjective(recipe, 0, None, lambda x: group.mean(x.mean()))
        else:
            objective = PixelObjective(recipe)
        options = RunOptions(out / name, checkpoint_every=0)
        generator = build_generator(recipe, 0)
        Trainer(recipe, options, generator, objective, images, [], group, Report()).run(6)
    distributed.leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
