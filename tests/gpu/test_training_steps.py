"""Training steps in a CUDA graph: the same as one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from esrgan_ext.training.distributed import Group
from esrgan_ext.training.exposures import ExposurePatches, Planes
from esrgan_ext.training.generators import build_generator
from esrgan_ext.training.objectives import PixelObjective
from esrgan_ext.training.recipe import load_recipe
from esrgan_ext.training.reports import Report
from esrgan_ext.training.trainer import RunOptions, Trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def trained(tmp_path, steps: int, graph: bool) -> Trainer:
    device = torch.device("cuda")
    recipe = load_recipe(
        "lite-micro",
        {"steps": 40, "data.patch": 64, "data.batch": 4, "exposure.clean": 0.2},
    )
    planes = Planes([np.random.default_rng(0).random((128, 160), np.float32)], [])
    network = build_generator(recipe, 0)
    patches = ExposurePatches(planes, recipe, device)
    options = RunOptions(tmp_path / str(graph), device, checkpoint_every=0, log_every=steps)
    trainer = Trainer(
        recipe, options, network, PixelObjective(recipe), patches, [], Group(), Report()
    )
    made = trainer._resident_steps

    def with_choice(patches):
        resident = made(patches)
        resident._one_by_one = not graph
        with_choice.last = resident
        return resident

    trainer._resident_steps = with_choice
    trainer.run(steps)
    assert with_choice.last.captured is graph
    return trainer


def test_captured_steps_give_the_weights_of_steps_one_by_one(tmp_path):
    one_by_one, captured = (trained(tmp_path, 30, graph).generator for graph in (False, True))
    for a, b in zip(one_by_one.parameters(), captured.parameters(), strict=True):
        assert torch.allclose(a, b, atol=2e-4)  # cuDNN's sums of gradients are in any order
