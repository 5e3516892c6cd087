"""Patches drawn on the device, and steps that never leave it: the same code runs on a CPU here."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from esrgan_ext.errors import OptionError
from esrgan_ext.inference.resample import imresize
from esrgan_ext.training import checkpoint
from esrgan_ext.training.distributed import Group
from esrgan_ext.training.exposures import ExposurePatches, Planes, read_planes
from esrgan_ext.training.generators import build_generator, gray_of
from esrgan_ext.training.objectives import PixelObjective
from esrgan_ext.training.pack import pack
from esrgan_ext.training.recipe import DataOptions, load_recipe
from esrgan_ext.training.reports import Report
from esrgan_ext.training.resident import PhotoPatches
from esrgan_ext.training.run import Folders, train
from esrgan_ext.training.shards import Shards
from esrgan_ext.training.trainer import RunOptions, Trainer
from esrgan_ext.weights import load_model
from tests.training.conftest import TINY, same_weights

CPU = torch.device("cpu")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(4)


@pytest.fixture(scope="module")
def slopes(tmp_path_factory):
    """Photos whose red is the row and whose green is the column, so patches tell their turn."""
    folder = tmp_path_factory.mktemp("slopes")
    for k, (height, width) in enumerate([(160, 200), (120, 96)]):
        image = np.zeros((height, width, 3), np.uint8)
        image[..., 0] = np.arange(height)[:, None]
        image[..., 1] = np.arange(width)
        image[..., 2] = 100 * k
        cv2.imwrite(str(folder / f"{k}.png"), image[..., ::-1])
    return pack([folder], tmp_path_factory.mktemp("packed"), scale=4, smallest=32)


def drawn(slopes, **options):
    torch.manual_seed(0)
    data = DataOptions(patch=32, batch=64, **options)
    return PhotoPatches(slopes, data, 4, CPU).draw()


def orientations(hr):
    """Directions in which red and green rise, for each patch."""
    found = set()
    for patch in hr:
        directions = []
        for channel in patch[:2]:
            down = (channel[1, 0] - channel[0, 0]).sign().item()
            right = (channel[0, 1] - channel[0, 0]).sign().item()
            directions.append((down, right))
        found.add(tuple(directions))
    return found


def test_resident_lr_patches_belong_to_their_hr_patches(slopes):
    lr, hr = drawn(slopes)
    assert lr.shape == (64, 3, 8, 8)
    assert hr.shape == (64, 3, 32, 32)
    inner = (lr - F.avg_pool2d(hr, 4))[..., 1:-1, 1:-1]
    borders = 2.6 / 255  # an image's first and last LR pixels bend; all others differ by rounding
    assert inner.abs().max() <= borders
    assert inner.abs().median() <= 0.51 / 255
    assert set((hr[:, 2, 0, 0] * 255).round().tolist()) == {0, 100}  # both images are drawn


@pytest.mark.parametrize(
    ("flip", "rotate", "count"),
    [(True, True, 8), (True, False, 2), (False, True, 4), (False, False, 1)],
)
def test_patches_take_every_turn_that_is_allowed_and_no_other(slopes, flip, rotate, count):
    found = orientations(drawn(slopes, flip=flip, rotate=rotate)[1])
    assert len(found) == count
    if not flip:  # rotations alone keep the sense in which green follows red
        senses = {a[0] * b[1] - a[1] * b[0] for a, b in found}
        assert len(senses) == 1


def planes_of(*images):
    return Planes([np.asarray(image, np.float32) for image in images], [])


def exposures(image, **options):
    torch.manual_seed(1)
    overrides = {f"exposure.{k}": v for k, v in options.items()}
    plain = {"exposure.least_gain": 1.0, "exposure.largest_offset": 0.0, "exposure.colour": 0.0}
    plain |= {"generator.channels": 3, "data.patch": 32, "data.batch": 64}
    recipe = load_recipe("lite-micro", {**plain, **overrides})
    return ExposurePatches(planes_of(image), recipe, CPU).draw()


def test_lr_exposures_are_averages_over_the_scale(rng):
    lr, hr = exposures(rng.random((96, 128)), area=1.0)
    assert torch.allclose(lr, F.avg_pool2d(hr, 4), atol=1e-6)
    assert torch.equal(hr[:, 0], hr[:, 2])


def test_bicubic_exposures_are_those_of_imresize(rng):
    image = np.round(cv2.GaussianBlur(rng.random((32, 32)), (0, 0), 2) * 255)
    overrides = {"flip": False, "rotate": False}
    recipe = load_recipe(
        "lite-micro",
        {
            "exposure.area": 0.0, "exposure.least_gain": 1.0, "exposure.largest_offset": 0.0,
            "data.patch": 32, "data.batch": 1,
            **{f"data.{k}": v for k, v in overrides.items()},
        },
    )  # fmt: skip
    lr, _ = ExposurePatches(planes_of(image), recipe, CPU).draw()
    expected = imresize(image.astype(np.uint8), (8, 8)).astype(np.float32)
    inner = np.abs(lr[0, 0].numpy() - expected)[2:-2, 2:-2]  # borders are mirrored there
    assert inner.max() <= 1.01  # rounded after each of two passes


@pytest.mark.parametrize("photons", [30.0, 1000.0])
def test_noise_of_exposures_has_the_variance_of_photons_and_read_noise(photons):
    image = np.full((64, 64), 0.5)
    lr, _ = exposures(image, clean=0.0, photons=[photons, photons], read_noise=1.6)
    expected = 0.5 / photons + (1.6 / photons) ** 2
    assert lr.var().item() == pytest.approx(expected, rel=0.05)
    assert lr.mean().item() == pytest.approx(0.5, rel=0.02)


def test_gain_and_offset_change_both_images_alike(rng):
    lr, hr = exposures(rng.random((96, 128)), area=1.0, least_gain=0.25, largest_offset=0.5)
    assert torch.allclose(lr, F.avg_pool2d(hr, 4), atol=1e-6)
    assert hr.amin((1, 2, 3)).max() > 0.3 > hr.amin((1, 2, 3)).min()


def test_coloured_exposures_hold_three_places(rng):
    _, hr = exposures(rng.random((96, 128)), colour=1.0)
    assert not torch.equal(hr[:, 0], hr[:, 1])


def test_planes_are_scaled_by_their_own_range_and_flat_ones_left_out(tmp_path, rng):
    image = np.round(rng.random((64, 80)) * 1900 + 100).astype(np.uint16)
    image[3, 3] = 65535  # a hot pixel
    cv2.imwrite(str(tmp_path / "a.png"), image)
    cv2.imwrite(str(tmp_path / "b.png"), np.full((64, 80), 7, np.uint8))
    planes = read_planes([tmp_path], 4, 32)
    assert len(planes.images) == 1
    assert np.median(planes.images[0]) == pytest.approx(0.5, abs=0.05)
    assert planes.images[0].max() > 20


def resident_trainer(patches, out, recipe, objective=None):
    options = RunOptions(out, checkpoint_every=5, log_every=1)
    network = build_generator(recipe, 0)
    objective = objective or PixelObjective(recipe)
    return Trainer(recipe, options, network, objective, patches, [], Group(), Report())


@pytest.fixture
def tiny(slopes):
    recipe = load_recipe("psnr", TINY)
    return recipe, PhotoPatches(slopes, recipe.data, 4, CPU)


def test_a_resident_run_in_pieces_is_the_run_in_one(tiny, tmp_path):
    recipe, patches = tiny
    whole = resident_trainer(patches, tmp_path / "whole", recipe)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    whole.run()
    assert torch.equal(before, torch.random.get_rng_state())  # the user's random numbers
    for until in (3, 7, None):
        part = resident_trainer(patches, tmp_path / "parts", recipe)
        if part.checkpoint_path.is_file():
            part.restore(checkpoint.load(part.checkpoint_path))
        part.run(until)
    assert part.step == whole.step == 12
    assert same_weights(part.generator, whole.generator)
    assert same_weights(part.best_network, whole.best_network)
    assert not same_weights(whole.generator, whole.best_network)


class Failing(PixelObjective):
    """Not finite once, at the given call: one a step where a batch stays whole."""

    def __init__(self, recipe, at):
        super().__init__(recipe)
        self.calls, self.at = 0, at

    def generator_loss(self, sr, hr):
        self.calls += 1
        loss, parts = super().generator_loss(sr, hr)
        return (loss * float("nan") if self.calls == self.at else loss), parts


def test_a_gradient_that_is_not_finite_changes_no_weight_and_sends_the_run_back(tiny, tmp_path):
    recipe, patches = tiny
    told = []

    class Told(Report):
        def rolled_back(self, failed, resumed):
            told.append((failed, resumed))

    trainer = resident_trainer(patches, tmp_path, recipe, Failing(recipe, 8))
    trainer._report = Told()
    trainer._shards = Shards(1)
    trainer.run()
    assert told == [(8, 5)]
    assert trainer.step == 12
    assert all(torch.isfinite(p).all() for p in trainer.generator.parameters())


def test_both_kinds_of_step_update_alike(tiny, packed, tmp_path):
    """One step of the loader's loop and one resident step on the same batch: the same weights."""
    recipe, patches = tiny
    a = resident_trainer(patches, tmp_path / "a", replace(recipe, ema=0.0))
    b = resident_trainer(patches, tmp_path / "b", replace(recipe, ema=0.0))
    torch.manual_seed(3)
    lr, hr = patches.draw()
    fixed = type("Fixed", (), {"draw": lambda self: (lr, hr)})()
    a._resident_steps(fixed).advance(0, 2e-4, 1.0)
    as_bytes = [(x.permute(0, 2, 3, 1) * 255).round().to(torch.uint8) for x in (lr, hr)]
    b.train_step(*as_bytes)
    for mine, theirs in zip(a.generator.parameters(), b.generator.parameters(), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-6)


def test_exposures_refuse_what_they_cannot_do(tmp_path, rng):
    cv2.imwrite(str(tmp_path / "a.png"), (rng.random((64, 64)) * 255).astype(np.uint8))
    recipe = replace(load_recipe("lite-micro", {"data.patch": 32}), needs_init=False)
    with pytest.raises(OptionError, match="--no-resident"):
        train(recipe, Folders((tmp_path,)), RunOptions(tmp_path / "run", resident=False))
    with pytest.raises(OptionError, match="--lr"):
        train(recipe, Folders((tmp_path,), lr=tmp_path), RunOptions(tmp_path / "run"))


def test_a_network_of_one_channel_begins_as_a_colour_one_on_gray_images(tmp_path, rng):
    start = load_model("lite-psnr-x4")
    gray = gray_of(start)
    image = torch.from_numpy(rng.random((1, 1, 16, 20)).astype(np.float32))
    with torch.no_grad():
        expected = start(image.expand(1, 3, 16, 20)).mean(1, keepdim=True)
        assert torch.allclose(gray(image), expected, atol=1e-5)


def test_the_recipe_of_microscopy_trains_one_channel_and_validates(tmp_path, rng):
    smooth = cv2.GaussianBlur(rng.random((96, 96)), (0, 0), 3)
    pixels = (cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    recipe = load_recipe("lite-micro", {"steps": 2, "data.patch": 32, "data.batch": 2})
    said = []
    options = RunOptions(tmp_path / "run", validate_every=1, log_every=1)
    folders = Folders((tmp_path,), validation=tmp_path)
    path = train(recipe, folders, options, init="lite-micro-x4", say=said.append)
    network = load_model(path)
    assert (network.in_channels, network.out_channels) == (1, 1)
    assert any("PSNR" in line or "psnr" in line for line in said)


@pytest.mark.parametrize(
    "override",
    [{"generator.channels": 2}, {"losses.adversarial": 0.1}, {"data.degradation": "bicubic"}],
)
def test_one_channel_is_for_exposures_by_l1(override):
    with pytest.raises(OptionError, match="channel"):
        load_recipe("lite-micro", override)
