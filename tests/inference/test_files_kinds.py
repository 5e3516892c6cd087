"""Small files of kinds that readers get wrong, with their right values (`tests/data/kinds`), from
file to file: what comes in, and what is still there in a result of four times the size."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from esrgan_ext.errors import EsrganError
from esrgan_ext.evaluation.pairs import eight_bit
from esrgan_ext.inference.animation import displayable
from esrgan_ext.inference.files import ImageFile, read_image, write_image
from esrgan_ext.training.pack import rgb8
from tests.conftest import ROOT

FOLDER = ROOT / "tests" / "data" / "kinds"
CASES: dict[str, Any] = {
    name: case
    for name, case in json.loads((FOLDER / "cases.json").read_text()).items()
    if (FOLDER / name).exists()
}


def having(key: str) -> list[str]:
    return [name for name, case in CASES.items() if key in case]


def read(name: str) -> tuple[ImageFile, list[str]]:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        image = read_image(FOLDER / name)
    return image, [str(warning.message) for warning in told]


def four_times(image: ImageFile, path: Path) -> Path:
    """Written as four times as large, each pixel repeated."""

    def enlarged(one: ImageFile) -> np.ndarray:
        last = 1 if one.channel_axis is False else 2
        rows = one.pixels.ndim - last - (one.channel_axis is False)
        return one.pixels.repeat(4, rows).repeat(4, rows + 1)

    further = [(one, enlarged(one)) for one in image.further]
    write_image(path, enlarged(image), like=image, further=further)
    return path


@pytest.mark.parametrize("name", having("mean"))
def test_means(name) -> None:
    pixels = read(name)[0].pixels
    channels = pixels[..., None] if pixels.ndim == 2 else pixels
    means = channels.reshape(-1, channels.shape[-1]).mean(axis=0) / np.iinfo(pixels.dtype).max
    assert means == pytest.approx(CASES[name]["mean"], abs=0.004)


@pytest.mark.parametrize("name", having("pages"))
def test_whole_pages_of_a_truncated_stack_with_a_note(name, tmp_path) -> None:
    image, told = read(name)
    assert len(image.pixels) >= CASES[name]["pages"]
    assert any(name in text and "cut off behind page 3 of 5" in text for text in told)
    with tifffile.TiffFile(four_times(image, tmp_path / "out.tif")) as tif:
        assert tif.imagej_metadata is not None
        assert tif.series[0].shape == (3, 128, 128)


@pytest.mark.parametrize("name", having("images"))
def test_all_images(name, tmp_path) -> None:
    image, _ = read(name)
    with tifffile.TiffFile(four_times(image, tmp_path / "out.ome.tif")) as tif:
        assert len(tif.series) == CASES[name]["images"]
        assert tif.ome_metadata.count("<Image ") == CASES[name]["images"]


@pytest.mark.parametrize("name", having("imagej"))
def test_imagej(name, tmp_path) -> None:
    with tifffile.TiffFile(four_times(read(name)[0], tmp_path / "out.tif")) as tif:
        found = tif.imagej_metadata or {}
    assert CASES[name]["imagej"].items() <= found.items()


@pytest.mark.parametrize("name", having("ome"))
def test_ome(name, tmp_path) -> None:
    with tifffile.TiffFile(four_times(read(name)[0], tmp_path / "out.ome.tif")) as tif:
        assert all(text in tif.ome_metadata for text in CASES[name]["ome"])


def test_a_resolution_of_an_unknown_unit_is_left_out_with_a_note(tmp_path) -> None:
    image, told = read("unit77.tif")
    assert any("unknown unit (77)" in text for text in told)
    with tifffile.TiffFile(four_times(image, tmp_path / "out.tif")) as tif:
        assert tif.series[0].shape == tuple(4 * n for n in image.pixels.shape)


def test_what_needs_one_image_refuses_a_file_of_several() -> None:
    image, _ = read("three_positions.ome.tif")
    for convert in (rgb8, eight_bit, displayable):
        with pytest.raises(EsrganError, match="holds 3"):
            convert(image)
