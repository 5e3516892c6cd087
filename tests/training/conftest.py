"""Small folders of photos and small recipes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from esrgan_ext.training.generators import build_generator
from esrgan_ext.training.objectives import PixelObjective
from esrgan_ext.training.pack import PackedImages, pack
from esrgan_ext.training.recipe import Recipe, load_recipe
from esrgan_ext.training.reports import Report
from esrgan_ext.training.trainer import RunOptions, Trainer

TINY = {
    "generator.nf": 8,
    "generator.nb": 1,
    "generator.gc": 4,
    "data.patch": 32,
    "data.batch": 4,
    "steps": 12,
}


@pytest.fixture(scope="session")
def photos(tmp_path_factory, photo) -> Path:
    """Three photos of different sizes: RGB PNG, gray PNG, JPEG."""
    folder = tmp_path_factory.mktemp("photos")
    cv2.imwrite(str(folder / "a.png"), photo[..., ::-1])
    cv2.imwrite(str(folder / "b.png"), photo[:90, :, 1])
    cv2.imwrite(str(folder / "c.jpg"), photo[::-1, 20:110, ::-1])
    return folder


@pytest.fixture(scope="session")
def packed(photos, tmp_path_factory) -> PackedImages:
    return pack([photos], tmp_path_factory.mktemp("packed"), scale=4, smallest=32)


@pytest.fixture
def tiny_recipe() -> Recipe:
    return load_recipe("psnr", TINY)


@pytest.fixture
def make_trainer(packed, tmp_path) -> Callable[..., Trainer]:
    def make(recipe: Recipe, out: Path | None = None, **options: object) -> Trainer:
        run = RunOptions(out or tmp_path / "run", checkpoint_every=5, log_every=1, **options)
        network = build_generator(recipe, run.seed)
        from esrgan_ext.training.distributed import Group

        objective = PixelObjective(recipe)
        return Trainer(recipe, run, network, objective, packed, [], Group(), Report())

    return make


def same_weights(a: object, b: object) -> bool:
    """Whether two networks have the same bits."""
    ours, theirs = a.state_dict(), b.state_dict()  # type: ignore[attr-defined]
    return all(np.array_equal(ours[k].numpy(), theirs[k].numpy()) for k in ours)
