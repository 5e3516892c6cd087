"""Denoise strength: the mix of the two published models, by whatever way it is asked for."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import esrgan_ext as esr
from esrgan_ext.cli import app
from esrgan_ext.errors import DownloadError, OptionError
from esrgan_ext.inference.files import read_image, write_image
from esrgan_ext.weights import load_denoising, load_model, save_model
from esrgan_ext.weights.catalogue import CATALOGUE
from esrgan_ext.weights.sources import Download
from tests.models.test_compact import make

STRONG, WEAK = "realesr-general-x4v3", "realesr-general-wdn-x4v3"


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.nn.Module]:
    """Small networks in the place of the published ones, in `./models`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ESRGAN_CACHE_DIR", str(tmp_path / "cache"))
    networks = {}
    for k, name in enumerate((WEAK, STRONG)):
        network = make()
        with torch.no_grad():
            network.body[-1].bias.add_(0.2 * k)
            network.body[2].weight.mul_(1 - 0.5 * k)
        path = tmp_path / "models" / f"{name}.pth"
        path.parent.mkdir(exist_ok=True)
        save_model(network, path)
        (source,) = CATALOGUE[name].sources
        assert isinstance(source, Download)
        # A port that nothing listens on: these tests must not download.
        here = replace(
            source,
            url="http://127.0.0.1:1/x",
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            size_bytes=path.stat().st_size,
        )
        monkeypatch.setitem(CATALOGUE, name, replace(CATALOGUE[name], sources=(here,)))
        networks[name] = network
    return networks


def mixed_by_hand(pair: dict[str, torch.nn.Module], strength: float) -> torch.nn.Module:
    network = make()
    weak, strong = pair[WEAK].state_dict(), pair[STRONG].state_dict()
    network.load_state_dict(
        {name: (1 - strength) * weak[name] + strength * strong[name] for name in weak}
    )
    return network


@pytest.mark.parametrize("strength", [0, 0.3, 0.5, 1])
@pytest.mark.parametrize("name", [STRONG, WEAK])
def test_a_strength_is_the_mix_by_hand(pair, name, strength):
    found = load_denoising(name, strength).state_dict()
    for key, tensor in mixed_by_hand(pair, strength).state_dict().items():
        torch.testing.assert_close(found[key], tensor, atol=1e-6, rtol=0)


def test_without_a_strength_the_model_stands_as_it_is(pair):
    for name in pair:
        found = load_denoising(name, None).state_dict()
        assert all(torch.equal(found[k], v) for k, v in pair[name].state_dict().items())


def test_the_command_line_and_python_give_the_mix(pair, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    expected = esr.upscale(pixels, mixed_by_hand(pair, 0.5), device="cpu")
    assert np.array_equal(esr.upscale(pixels, STRONG, device="cpu", denoise=0.5), expected)
    up = esr.Upscaler(STRONG, device="cpu", denoise=0.5)
    assert np.array_equal(up(pixels), expected)
    assert not np.array_equal(esr.upscale(pixels, STRONG, device="cpu"), expected)
    write_image(tmp_path / "in.png", pixels)
    arguments = ["upscale", "in.png", "out.png", "-m", STRONG, "--denoise", "0.5", "-d", "cpu"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert np.array_equal(read_image(tmp_path / "out.png").pixels, expected)


def test_large_images_get_the_mix_too(pair):
    pytest.importorskip("dask")
    pixels = np.random.default_rng(0).random((12, 10), dtype=np.float32)
    expected = esr.upscale(pixels, STRONG, device="cpu", denoise=0.25)
    lazy = esr.upscale_lazy(pixels, STRONG, device="cpu", denoise=0.25)
    np.testing.assert_allclose(lazy.compute(scheduler="threads"), expected, atol=1e-6)


def test_an_end_needs_only_its_own_model(pair, tmp_path):
    (tmp_path / "models" / f"{WEAK}.pth").unlink()
    load_denoising(STRONG, 1)
    with pytest.raises(DownloadError):
        load_denoising(STRONG, 0.5)


def test_a_copy_of_the_published_file_has_its_partner(pair, tmp_path):
    copy = tmp_path / "copy.pth"
    (tmp_path / "models" / f"{STRONG}.pth").rename(copy)
    found = load_denoising(copy, 0.5).state_dict()
    for key, tensor in mixed_by_hand(pair, 0.5).state_dict().items():
        torch.testing.assert_close(found[key], tensor, atol=1e-6, rtol=0)


@pytest.mark.parametrize("strength", [-0.1, 1.5, float("nan"), "1", True])
def test_other_strengths_are_refused(pair, strength):
    with pytest.raises(OptionError, match="denoise must be a number from 0 to 1"):
        load_denoising(STRONG, strength)


def test_models_without_a_partner_are_refused_and_the_others_named():
    with pytest.raises(OptionError, match=rf"lite-psnr-x4 has no other .* {STRONG}"):
        esr.Upscaler("lite-psnr-x4", denoise=0.5)
    with pytest.raises(OptionError, match="needs the model's name"):
        esr.Upscaler(load_model("lite-psnr-x4"), denoise=0.5)


def test_the_command_line_refuses_before_it_looks_at_images(tmp_path):
    arguments = ["upscale", str(tmp_path), "-m", "lite-psnr-x4", "--denoise", "0.5"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "--denoise is a mix of two models" in " ".join(result.output.split())


def test_the_pairs_of_the_catalogue_are_of_one_architecture():
    for entry in CATALOGUE.values():
        if entry.denoise is None:
            continue
        weak, strong = (CATALOGUE[name] for name in entry.denoise)
        assert entry.name in entry.denoise
        assert weak.denoise == strong.denoise
        assert (weak.scale, weak.blocks, weak.architecture) == (
            strong.scale, strong.blocks, strong.architecture,
        )  # fmt: skip
