"""The loop: exact resuming, also after SIGKILL; rollback; and that every recipe learns."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from typer.testing import CliRunner

from esrgan_ext.cli import app
from esrgan_ext.errors import TrainingError
from esrgan_ext.models.vgg import VGGConfig, VGGFeatures
from esrgan_ext.training import checkpoint
from esrgan_ext.training.dataset import PatchPairs
from esrgan_ext.training.distributed import Group
from esrgan_ext.training.ema import ExponentialMovingAverage
from esrgan_ext.training.generators import build_generator
from esrgan_ext.training.losses import PerceptualLoss
from esrgan_ext.training.objectives import AdversarialObjective, PixelObjective
from esrgan_ext.training.recipe import load_recipe
from esrgan_ext.training.reports import Report
from esrgan_ext.training.trainer import RunOptions, Trainer
from tests.conftest import torch_threads
from tests.training.conftest import TINY, same_weights


def test_a_run_in_pieces_is_the_run_in_one(make_trainer, tiny_recipe, tmp_path):
    whole = make_trainer(tiny_recipe, tmp_path / "whole")
    whole.run()
    for until in (3, 7, None):  # not where checkpoints fall by themselves
        part = make_trainer(tiny_recipe, tmp_path / "parts")
        if part.checkpoint_path.is_file():
            part.restore(checkpoint.load(part.checkpoint_path))
        part.run(until)
    assert part.step == whole.step == 12
    assert same_weights(part.generator, whole.generator)
    assert same_weights(part.best_network, whole.best_network)
    assert not same_weights(whole.generator, whole.best_network)


def test_a_run_leaves_the_modes_of_torch_as_they_were(make_trainer, tiny_recipe):
    make_trainer(tiny_recipe, deterministic=True).run(1)
    assert torch.tensor(1e-310, dtype=torch.float64) * 1 > 0
    assert not torch.are_deterministic_algorithms_enabled()


def train_arguments(photos: Path, out: Path) -> list[str]:
    options = "--steps 40 --batch 2 --patch 32 --blocks 1 --checkpoint-every 4 --log-every 1"
    return ["train", "lite-psnr", "--hr", str(photos), "--out", str(out), *options.split()]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As many as the process that is killed has: sums are taken in the same order."""
    with torch_threads(1):
        yield


def losses_of(out: Path) -> dict[int, float]:
    import json

    lines = (out / "log.jsonl").read_text().splitlines()
    return {entry["step"]: entry["l1"] for entry in map(json.loads, lines)}


@pytest.mark.timeout(900)  # a process starts, which takes long on a busy machine
@pytest.mark.usefixtures("one_thread")
def test_a_killed_run_goes_on_as_if_it_had_not_been(photos, tmp_path):
    """Only what is killed has a process of its own; what it left goes on in this one."""
    runner = CliRunner()
    done = runner.invoke(app, train_arguments(photos, tmp_path / "whole"))
    assert done.exit_code == 0, done.output
    assert "model.safetensors" in done.stdout
    log = tmp_path / "killed" / "log.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-m", "esrgan_ext.cli", *train_arguments(photos, tmp_path / "killed")],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (log.is_file() and log.read_text().count("\n") >= 9):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = runner.invoke(app, train_arguments(photos, tmp_path / "killed"))
    assert done.exit_code == 0, done.output
    assert "continuing from step" in done.stdout
    whole, killed = losses_of(tmp_path / "whole"), losses_of(tmp_path / "killed")
    assert len(whole) == 40
    assert killed == whole
    ours, theirs = (load_file(tmp_path / k / "model.safetensors") for k in ("killed", "whole"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_checkpoint_is_complete_or_not_there(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    checkpoint.save(path, {"step": 1})

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(path, {"step": 2})
    assert checkpoint.load(path)["step"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_damaged_and_foreign_checkpoints_are_refused(tmp_path):
    path = tmp_path / "last.ckpt"
    with pytest.raises(TrainingError, match="no such checkpoint"):
        checkpoint.load(path)
    checkpoint.save(path, {"step": 1, "x": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(TrainingError, match="cannot be read"):
        checkpoint.load(path)
    torch.save({"params": {}}, path)
    with pytest.raises(TrainingError, match="not a training checkpoint"):
        checkpoint.load(path)


def test_a_checkpoint_of_another_recipe_is_refused(make_trainer, tiny_recipe):
    first = make_trainer(tiny_recipe)
    first.run(1)
    wider = replace(tiny_recipe, generator=replace(tiny_recipe.generator, nf=12))
    other = make_trainer(wider)
    with pytest.raises(TrainingError, match="does not fit"):
        other.restore(checkpoint.load(first.checkpoint_path))


class Recorder(Report):
    def __init__(self) -> None:
        self.rollbacks: list[tuple[int, int]] = []

    def rolled_back(self, failed: int, resumed: int) -> None:
        self.rollbacks.append((failed, resumed))


def test_nan_rolls_back_to_the_checkpoint_and_goes_on(make_trainer, tiny_recipe, monkeypatch):
    run = make_trainer(tiny_recipe)
    run._report = Recorder()
    true_loss = PixelObjective.generator_loss
    poisoned = []

    def loss(self, sr, hr):
        value, parts = true_loss(self, sr, hr)
        if run.step == 8 and not poisoned:
            poisoned.append(run.step)
            return value * float("nan"), parts
        return value, parts

    monkeypatch.setattr(PixelObjective, "generator_loss", loss)
    run.run()
    assert run._report.rollbacks == [(8, 5)]
    assert run.step == 12
    assert all(p.isfinite().all() for p in run.generator.parameters())
    assert checkpoint.load(run.checkpoint_path)["rollbacks"] == 1


def test_nan_again_and_again_ends_the_run(make_trainer, tiny_recipe, monkeypatch):
    run = make_trainer(tiny_recipe)
    monkeypatch.setattr(
        PixelObjective, "generator_loss", lambda self, sr, hr: (sr.sum() * float("inf"), {})
    )
    with pytest.raises(TrainingError, match=r"not finite.*--learning-rate"):
        run.run()
    assert checkpoint.load(run.checkpoint_path)["step"] == 0


def test_other_patches_come_after_a_rollback(packed, tiny_recipe):
    before, after = (PatchPairs(packed, tiny_recipe.data, 4, (0, n)) for n in (0, 1))
    assert not torch.equal(before[0][1], after[0][1])


def test_mixed_resolutions_are_refused(make_trainer, tiny_recipe):
    run = make_trainer(tiny_recipe)
    lr = torch.zeros(2, 8, 8, 3, dtype=torch.uint8)
    with pytest.raises(TrainingError, match=r"scale 4 they must have \(2, 32, 32, 3\)"):
        run.train_step(lr, torch.zeros(2, 36, 36, 3, dtype=torch.uint8))


def test_the_average_is_a_geometric_series():
    network = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        network.weight.fill_(0)
    average = ExponentialMovingAverage(network, 0.5)
    for step, value in enumerate((1.0, 2.0, 3.0)):
        with torch.no_grad():
            network.weight.fill_(value)
        average.update(network, 1000 + step)
    assert average.network.weight.item() == 0.125 * 1 + 0.25 * 2 + 0.5 * 3


def test_gradients_are_clipped_to_the_norm_asked_for(make_trainer, tiny_recipe):
    run = make_trainer(replace(tiny_recipe, clip=1e-3))
    lr, hr = (t[None] for t in PatchPairs(run._images, tiny_recipe.data, 4, (0,))[0])
    report = run.train_step(lr, hr)
    norm = torch.stack([p.grad.norm() for p in run.generator.parameters()]).norm()
    assert norm.item() == pytest.approx(1e-3, rel=1e-3)
    assert report.gradient_norm.item() > 1e-3


def one_batch(packed, recipe, count):
    pairs = [PatchPairs(packed, recipe.data, 4, (0,))[k] for k in range(count)]
    return tuple(torch.stack(kind) for kind in zip(*pairs, strict=True))


SMALL_VGG = VGGConfig(convolutions=(1, 1), widths=(8, 8))


@pytest.mark.parametrize(
    "name", ["psnr", "esrgan", "srgan", "srresnet", "compact", "lite-psnr", "lite-esrgan"]
)
def test_each_recipe_overfits_one_batch(packed, tmp_path, name):
    """Its losses, discriminator and optimizer, on a narrower network and a random VGG."""
    overrides = {**TINY, "generator.nf": 16, "generator.gc": 8, "data.batch": 2, "steps": 1000}
    # Without a pixel loss the generator chases a discriminator that learns as fast as it does.
    rate = 2e-4 if name == "srgan" else 2e-3
    recipe = load_recipe(
        name, {**overrides, "schedule.learning_rate": rate, "discriminator.nf": 4, "ema": 0.0}
    )
    torch.manual_seed(0)
    generator = build_generator(replace(recipe, initialisation_scale=1.0), 0)
    if recipe.adversarial:
        features = VGGFeatures(SMALL_VGG, before_activation=recipe.losses.before_activation)
        perceptual = PerceptualLoss(features, recipe.losses.feature_distance)
        objective = AdversarialObjective(recipe, 0, perceptual, torch.mean)
    else:
        objective = PixelObjective(recipe)
    run = Trainer(recipe, RunOptions(tmp_path), generator, objective, packed, [], Group(), Report())
    lr, hr = one_batch(packed, recipe, 2)
    target = hr.permute(0, 3, 1, 2) / 255

    def error() -> float:
        with torch.no_grad():
            low = lr.permute(0, 3, 1, 2) / 255
            return F.l1_loss(generator.plain_forward(low), target).item()

    enlarged = F.interpolate(lr.permute(0, 3, 1, 2) / 255, scale_factor=4, mode="bicubic")
    bicubic = F.l1_loss(enlarged, target).item()
    before = error()
    # Features are fitted to a tenth within 75 steps. Where pixels are the only loss, one step at
    # this rate may undo ten: after 200 errors are 0.7 of bicubic's and less, and those of the
    # network that does not begin with the enlarged image after 400.
    steps = 75 if recipe.adversarial else 400 if name == "psnr" else 200
    reports = [run.train_step(lr, hr) for _ in range(steps)]
    assert None not in reports
    if recipe.adversarial:  # it weighs pixels little: features are what it fits
        first, last = reports[0].losses["perceptual"], reports[-1].losses["perceptual"]
        assert last < 0.3 * first
        if recipe.losses.l1:
            assert error() < 0.5 * before
    else:
        assert error() < 0.8 * bicubic


def test_a_deep_compact_network_begins_with_the_image_in_its_features():
    """So that there is something to learn from: features as strong as the image is."""
    network = build_generator(load_recipe("compact"), 0)
    rng = torch.Generator().manual_seed(0)
    one, other = torch.rand(2, 3, 16, 16, generator=rng), torch.rand(2, 3, 16, 16, generator=rng)
    with torch.no_grad():
        detail = [
            network.plain_forward(x) - F.interpolate(x, scale_factor=4, mode="nearest")
            for x in (one, other)
        ]
    difference = (detail[0] - detail[1]).std().item()
    assert 0.01 < difference < 1


def test_the_discriminator_learns_and_the_generator_step_leaves_it_alone(packed, tmp_path):
    recipe = load_recipe("esrgan", {**TINY, "discriminator.nf": 4})
    objective = AdversarialObjective(recipe, 0, None, torch.mean)
    run = Trainer(
        recipe, RunOptions(tmp_path), build_generator(recipe, 0), objective, packed, [], Group(),
        Report(),
    )  # fmt: skip
    lr, hr = one_batch(packed, recipe, 4)
    reports = [run.train_step(lr, hr) for _ in range(30)]
    assert reports[-1].losses["discriminator"] < reports[0].losses["discriminator"]
    assert reports[-1].losses["real"] > reports[-1].losses["fake"]
    before = [p.detach().clone() for p in objective.discriminator.parameters()]
    objective.discriminator.requires_grad_(False)
    sr = run.generator(torch.rand(4, 3, 8, 8))
    objective.generator_loss(sr, torch.rand(4, 3, 32, 32))[0].backward()
    after = list(objective.discriminator.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
