"""`esrgan upscale in.zarr out.zarr`: options, messages and exit codes."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest
import tifffile
import zarr

from esrgan_ext.inference import Upscaler
from esrgan_ext.inference.large.store import executors, resume
from esrgan_ext.weights import load_model
from tests.cli.conftest import process
from tests.inference.large.conftest import finest, make_store, one_level_at_most


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8)


@pytest.fixture
def source(tmp_path, image):
    return make_store(tmp_path / "in.zarr", image, "yx")


def test_a_store(upscale, source, image, tmp_path, models) -> None:
    result = upscale(source, tmp_path / "out.zarr", "--tile", 20)
    assert result.exit_code == 0
    assert "runs on 2 threads" in result.stdout
    assert "out.zarr (160 x 200, 6 chunks," in result.stdout
    expected = Upscaler(load_model(models / "a.safetensors"), device="cpu")(image)
    one_level_at_most(finest(tmp_path / "out.zarr"), expected)
    again = upscale(source, tmp_path / "out.zarr", "--tile", 20)
    assert again.exit_code == 0
    assert "out.zarr exists: skipped" in again.stdout


def test_the_folder_of_results_and_options(upscale, source, tmp_path) -> None:
    arguments = ("--region", "4:20,10:30", "--workers", 1, "--memory-limit", "2GB")
    more = ("--ome-zarr", "0.4", "--channels", "separate", "--level", 0)
    assert upscale(source, tmp_path / "results", *arguments, *more).exit_code == 0
    group = zarr.open_group(str(tmp_path / "results" / "in.zarr"), mode="r")
    assert group["0"].shape == (64, 80)
    assert group.metadata.zarr_format == 2


def test_a_tiff_into_a_store(upscale, image, tmp_path) -> None:
    tifffile.imwrite(tmp_path / "in.tif", image, tile=(16, 16), bigtiff=True)
    assert upscale(tmp_path / "in.tif", tmp_path / "out.zarr").exit_code == 0
    assert finest(tmp_path / "out.zarr").shape == (160, 200)


def test_failed_chunks_are_listed(upscale, source, tmp_path) -> None:
    chunk = source / "s0" / "c" / "1" / "1"
    chunk.write_bytes(chunk.read_bytes()[:20])
    result = upscale(source, tmp_path / "out.zarr", "--tile", 8, "--overlap", 0)
    assert result.exit_code == 1
    assert "chunks failed; all others are written" in result.stderr
    assert "level 0 [" in result.stderr
    assert not (tmp_path / "out.zarr").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--region", "1:2"), "a region is written"),
        (("--memory-limit", "much"), "--memory-limit must be a size"),
        (("--channels", "some"), "--channels must be"),
        (("--scheduler", "slurm"), "threads, processes or an address"),
        (("--format", "png"), "not for .zarr results"),
    ],
)
def test_bad_arguments_end_with_2(arguments, message, upscale, source, tmp_path) -> None:
    result = upscale(source, tmp_path / "out.zarr", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_options_of_stores_are_not_for_files(upscale, photos, tmp_path) -> None:
    result = upscale(photos / "a.png", tmp_path / "x.png", "--scheduler", "threads")
    assert result.exit_code == 2
    assert "--scheduler is for results in OME-Zarr" in result.stderr


def test_a_scheduler_that_does_not_answer(upscale, source, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(executors, "_PATIENCE", 0.5)  # seconds; 5 for users
    result = upscale(source, tmp_path / "out.zarr", "--scheduler", "tcp://127.0.0.1:9")
    assert result.exit_code == 1
    assert "no dask scheduler answers" in result.stderr


def test_ctrl_c_keeps_what_is_done(source, tmp_path, models) -> None:
    big = make_store(tmp_path / "big.zarr", np.zeros((200, 200), np.uint8), "yx")
    target = tmp_path / "out.zarr"
    child = process(
        "upscale", big, target, "--model", models / "a.safetensors", "--device", "cpu",
        "--tile", 10,
    )  # fmt: skip
    deadline = time.monotonic() + 280
    while len(resume.recorded(resume.unfinished(target)).get(0, [])) < 3:
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=100)
    assert child.returncode == 130, errors
    assert "chunks done; run the same command again to continue" in errors
    assert not target.exists()
    assert os.path.isdir(resume.unfinished(target))
