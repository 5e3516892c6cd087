"""`evaluate`: the same figures as measured by hand, published ones, failures and progress."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from esrgan_ext.errors import OptionError, UpscaleCancelled
from esrgan_ext.evaluation.benchmark import evaluate, measure
from esrgan_ext.evaluation.metrics import luma, psnr, ssim
from esrgan_ext.evaluation.perceptual import PerceptualDistance
from esrgan_ext.evaluation.results import Evaluation, Scores
from esrgan_ext.inference import Upscaler
from esrgan_ext.inference.files import read_image, write_image
from esrgan_ext.inference.resample import imresize
from esrgan_ext.weights import save_model
from tests.conftest import make_network


def difference(image: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    return (image - reference).abs().mean()


DISTANCE = PerceptualDistance("difference", difference, torch.device("cpu"))


@pytest.fixture
def folder(tmp_path) -> Path:
    """An RGB and a gray image."""
    rng = np.random.default_rng(0)
    write_image(tmp_path / "hr" / "colour.png", rng.integers(0, 256, (40, 48, 3), np.uint8))
    write_image(tmp_path / "hr" / "gray.png", rng.integers(0, 256, (44, 40), np.uint8))
    return tmp_path / "hr"


def by_image(found: Evaluation, model: str) -> dict[str, Scores]:
    return {r.image: r.scores for r in found.results if r.model == model}


def test_bicubic_gives_the_published_values_from_lr_files_and_from_made_ones(shared_data):
    bench = shared_data / "bench" / "Set5"
    made, given = (
        evaluate("bicubic", bench / "HR", lr, perceptual=None, device="cpu")
        for lr in (None, bench / "LRx4")
    )
    assert by_image(given, "bicubic") == by_image(made, "bicubic")
    assert not given.failures
    mean = given.mean("bicubic")
    assert mean.psnr_y == pytest.approx(28.42, abs=0.02)
    assert mean.ssim_y == pytest.approx(0.8104, abs=0.001)


def test_figures_are_those_of_the_upscaled_image(folder, tiny_network):
    found = evaluate(tiny_network, folder, perceptual=DISTANCE, device="cpu")
    assert found.models == ("custom",)
    assert (found.scale, found.border, found.perceptual) == (4, 4, "difference")
    scores = by_image(found, "custom")
    up = Upscaler(tiny_network, device="cpu")
    hr = read_image(folder / "colour.png").pixels
    sr = up(imresize(hr, (10, 12)))
    assert scores["colour.png"].psnr_y == psnr(luma(sr), luma(hr))
    assert scores["colour.png"].ssim_y == ssim(luma(sr), luma(hr))
    assert scores["colour.png"].psnr_rgb == psnr(sr, hr)
    assert scores["colour.png"].ssim_rgb == ssim(sr, hr)
    inside = (slice(4, -4), slice(4, -4))
    expected = np.abs(sr[inside] / 255.0 - hr[inside] / 255.0).mean()
    assert scores["colour.png"].perceptual == pytest.approx(expected, rel=1e-5)


def test_a_gray_image_is_y_itself(folder, tiny_network):
    found = evaluate(tiny_network, folder / "gray.png", perceptual=None, device="cpu")
    hr = read_image(folder / "gray.png").pixels
    sr = Upscaler(tiny_network, device="cpu")(imresize(hr, (11, 10)))
    (result,) = found.results
    assert result.scores.psnr_y == result.scores.psnr_rgb == psnr(sr, hr)
    assert result.scores.ssim_y == result.scores.ssim_rgb == ssim(sr, hr)
    assert result.scores.perceptual is None


def test_models_side_by_side(folder, tiny_network, tmp_path):
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        save_model(make_network(number), tmp_path / str(number) / "mine.safetensors")
    paths = [tmp_path / "1" / "mine.safetensors", tmp_path / "2" / "mine.safetensors"]
    found = evaluate(["bicubic", *paths, "bicubic"], folder, perceptual=None, device="cpu")
    assert found.models == ("bicubic", str(paths[0]), str(paths[1]), "bicubic (2)")
    assert len(found.results) == 8
    assert [r.model for r in found.results[:4]] == list(found.models)
    alone = evaluate(paths[1], folder, perceptual=None, device="cpu")
    assert alone.models == ("mine",)
    assert by_image(found, str(paths[1])) == by_image(alone, "mine")


def test_the_mean_is_that_of_the_rows(folder):
    found = evaluate("bicubic", folder, perceptual=DISTANCE, device="cpu")
    rows = [r.scores for r in found.results]
    mean = found.mean("bicubic")
    for field in ("psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb", "perceptual"):
        assert getattr(mean, field) == pytest.approx(np.mean([getattr(r, field) for r in rows]))
    with pytest.raises(OptionError, match="no result of 'other'"):
        found.mean("other")


def test_scale_and_border(folder):
    found = evaluate("bicubic", folder, scale=2, perceptual=None, device="cpu")
    assert (found.scale, found.border) == (2, 2)
    hr = read_image(folder / "gray.png").pixels
    sr = imresize(imresize(hr, (22, 20)), (44, 40))
    assert by_image(found, "bicubic")["gray.png"].psnr_y == psnr(sr, hr, border=2)
    found = evaluate("bicubic", folder, scale=2, border=0, perceptual=None, device="cpu")
    assert by_image(found, "bicubic")["gray.png"].psnr_y == psnr(sr, hr, border=0)


def test_what_cannot_be_evaluated_does_not_stop_the_others(folder, tiny_network):
    (folder / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    write_image(folder / "small.png", np.zeros((16, 40), np.uint8))
    write_image(folder / "transparent.png", np.zeros((40, 40, 4), np.uint8))
    found = evaluate(["bicubic", tiny_network], folder, perceptual=None, device="cpu")
    assert [r.image for r in found.results] == ["colour.png"] * 2 + ["gray.png"] * 2
    reasons = {Path(failure.file).name: failure.reason for failure in found.failures}
    assert set(reasons) == {"damaged.png", "small.png", "transparent.png"}
    assert "11 x 11" in reasons["small.png"]
    assert str(folder) not in reasons["damaged.png"]


def test_json_holds_everything(folder):
    (folder / "damaged.png").write_bytes(b"x")
    flat = np.full((40, 40), 7, np.uint8)  # equal to what bicubic makes of it
    write_image(folder / "flat.png", flat)
    found = evaluate("bicubic", folder, perceptual=DISTANCE, device="cpu")
    plain = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert plain["mean"]["bicubic"]["psnr_y"] == "inf"
    rows = {row["image"]: row for row in plain["images"]}
    assert rows["flat.png"]["psnr_y"] == "inf"
    assert rows["gray.png"]["psnr_y"] == by_image(found, "bicubic")["gray.png"].psnr_y
    assert plain["failed"][0]["file"].endswith("damaged.png")
    assert (plain["scale"], plain["border"], plain["perceptual"]) == (4, 4, "difference")


def test_progress_counts_lr_pixels_of_all_models(folder, tiny_network):
    calls: list[tuple[int, int]] = []
    evaluate(
        ["bicubic", tiny_network], folder, perceptual=None, device="cpu",
        progress=lambda done, total: calls.append((done, total)),
    )  # fmt: skip
    total = 2 * (10 * 12 + 11 * 10)
    assert calls[-1] == (total, total)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert {t for _, t in calls} == {total}


@pytest.mark.parametrize("model", ["bicubic", "network"])
def test_progress_can_stop_it(folder, tiny_network, model):
    with pytest.raises(UpscaleCancelled):
        evaluate(
            tiny_network if model == "network" else model, folder, perceptual=None, device="cpu",
            progress=lambda done, total: False,
        )  # fmt: skip


def test_auto_takes_st_lpips_only_where_it_is(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ESRGAN_MODEL_DIR", raising=False)
    monkeypatch.setenv("ESRGAN_CACHE_DIR", str(tmp_path))
    assert evaluate("bicubic", folder, device="cpu").perceptual is None


@pytest.mark.parametrize(
    ("models", "options", "message"),
    [
        ([], {}, "at least one model"),
        (["bicubic"], {"scale": 0}, "scale must be at least 1"),
        (["bicubic"], {"border": -1}, "border must not be negative"),
    ],
)
def test_options_that_cannot_be_used(folder, models, options, message):
    with pytest.raises(OptionError, match=message):
        evaluate(models, folder, perceptual=None, device="cpu", **options)


def test_models_of_different_scales_are_refused(folder, tiny_network):
    with pytest.raises(OptionError, match=r"different scales .*x2, x4"):
        evaluate([tiny_network, make_network(scale=2)], folder, device="cpu")
    with pytest.raises(OptionError, match="x3, x4"):
        evaluate(tiny_network, folder, scale=3, device="cpu")


def test_measure_takes_any_two_images():
    rng = np.random.default_rng(5)
    sr, hr = rng.integers(0, 256, (2, 30, 30, 3), np.uint8)
    assert measure(sr, hr, 4).psnr_rgb == psnr(sr, hr)
    assert measure(hr, hr, 0).psnr_y == float("inf")
