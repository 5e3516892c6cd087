"""Files and folders from a script: what the command line does, as results one by one."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

import esrgan_ext
from esrgan_ext.errors import ImageFileError, OptionError, UpscaleCancelled


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "in"
    (folder / "below").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 10, 3), np.uint8)
    for name in ("a.png", "b.png", "below/c.png"):
        cv2.imwrite(str(folder / name), pixels)
    return folder


def test_a_file_equals_the_array(images, tmp_path, tiny_network):
    result = esrgan_ext.upscale_file(images / "a.png", tmp_path / "out.png", tiny_network)
    assert result.size == (40, 32)
    assert result.error is None
    assert result.seconds > 0
    found = cv2.imread(str(result.path))[..., ::-1]
    rgb = cv2.imread(str(images / "a.png"))[..., ::-1]
    assert np.array_equal(found, esrgan_ext.upscale(rgb, tiny_network))


def test_a_folder_gives_results_as_they_come(images, tmp_path, tiny_network):
    seen = []
    (images / "broken.png").write_bytes(b"no image")
    results = list(
        esrgan_ext.upscale_files(
            images,
            tmp_path / "out",
            tiny_network,
            recursive=True,
            outscale=2,
            progress=lambda source, done, total: seen.append((source.name, total)),
        )
    )
    by_name = {result.source.name: result for result in results}
    assert sorted(by_name) == ["a.png", "b.png", "broken.png", "c.png"]
    assert by_name["broken.png"].error
    assert by_name["broken.png"].size is None
    assert by_name["c.png"].path == tmp_path / "out" / "below" / "c.png"
    assert all(r.size == (20, 16) for r in results if r.error is None)
    assert {name for name, _ in seen} == {"a.png", "b.png", "c.png"}
    again = esrgan_ext.upscale_files(images, tmp_path / "out", tiny_network, recursive=True)
    assert [result.source.name for result in again] == ["broken.png"]


def test_cancelling_and_closing_stop_the_work(images, tmp_path, tiny_network):
    run = esrgan_ext.upscale_files(images, tmp_path / "x", tiny_network, progress=lambda *_: False)
    with pytest.raises(UpscaleCancelled):
        list(run)
    run = esrgan_ext.upscale_files(images, tmp_path / "y", tiny_network)
    next(run)
    run.close()
    assert not [p for p in (tmp_path / "y").iterdir() if p.suffix != ".png"]


def test_bad_arguments_are_refused_at_once(images, tmp_path, tiny_network):
    with pytest.raises(OptionError, match="no such file"):
        esrgan_ext.upscale_files(tmp_path / "none", tmp_path / "out", tiny_network)
    with pytest.raises(ImageFileError, match="upscale_files"):
        esrgan_ext.upscale_file(images, tmp_path / "out", tiny_network)
    (images / "broken.png").write_bytes(b"no image")
    with pytest.raises(ImageFileError, match="broken"):
        esrgan_ext.upscale_file(images / "broken.png", tmp_path / "z.png", tiny_network)
    (tmp_path / "there.png").write_bytes(b"x")
    with pytest.raises(ImageFileError, match="there already"):
        esrgan_ext.upscale_file(
            images / "a.png", tmp_path / "there.png", tiny_network, overwrite=False
        )
