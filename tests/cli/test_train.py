"""`esrgan train`: from a folder of photos to a model that upscales."""

from __future__ import annotations

import cv2
import pytest
from typer.testing import CliRunner

import esrgan_ext
from esrgan_ext.cli import app

SMALL = ["--blocks", "1", "--batch", "2", "--patch", "32", "--log-every", "1"]


@pytest.fixture
def photos(tmp_path, photo):
    folder = tmp_path / "photos"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), photo[..., ::-1])
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


def esrgan(*arguments: object):
    return CliRunner().invoke(app, ["train", *map(str, arguments)])


def test_a_run_is_told_of_goes_on_and_gives_a_model(photos, photo, tmp_path):
    run = ["lite-psnr", "--hr", photos, "--val", photos.parent / "val", "--out", tmp_path / "run"]
    (photos.parent / "val").mkdir()
    cv2.imwrite(str(photos.parent / "val" / "x.png"), photo[:64, :64, ::-1])
    done = esrgan(*run, *SMALL, "--steps", 2, "--validate-every", 1)
    assert done.exit_code == 0, done.output
    assert "1 images, 1 skipped" in done.output
    assert "broken.png is skipped" in done.output
    assert "step 2/2  l1 " in done.output
    assert "step 1: PSNR-Y " in done.output
    done = esrgan(*run, *SMALL, "--steps", 3)
    assert "continuing from step 2" in done.output
    assert "step 3/3" in done.output
    model = tmp_path / "run" / "model.safetensors"
    assert str(model) in done.output
    assert esrgan_ext.upscale(photo[:16, :16], model=model).shape == (64, 64, 3)
    assert list((tmp_path / "run").glob("events.out.tfevents.*"))


def test_recipes_are_listed():
    done = esrgan("--list")
    assert done.exit_code == 0
    for name in ("psnr", "esrgan", "srgan", "lite-psnr"):
        assert f"\n{name} " in f"\n{done.output}"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "give a recipe"),
        (["psnr"], "give a recipe"),
        (["psnt", "--hr", "."], "no recipe is called 'psnt'"),
        (["esrgan", "--hr", "."], "give --init"),
        (["psnr", "--hr", "nowhere"], "nowhere: no such folder"),
        (["psnr", "--hr", ".", "--patch", "30"], "multiple of the scale"),
        (["psnr", "--hr", ".", "--device", "abacus"], "device must be"),
        (["psnr", "--hr", ".", "--init", "realesrgan-x4plus-anime"], "the recipe trains"),
        (["psnr", "--hr", ".", "--checkpoint-every", "-1"], "checkpoint-every"),
    ],
)
def test_mistakes_are_named_before_work_begins(arguments, complaint, photos, monkeypatch):
    monkeypatch.chdir(photos)
    done = esrgan(*arguments)
    assert done.exit_code == 2
    assert complaint in done.output
    assert not (photos / "runs").exists() or not list((photos / "runs").rglob("*.u8"))
