"""Saved layers, read by tifffile and an XML parser."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import tifffile
from napari.layers import Image

from esrgan_ext.errors import ImageError
from napari_esrgan._writer import write_ome_tiff

RNG = np.random.default_rng(0)
MADE = {"esrgan": {"model": {"name": "lite-psnr-x4", "sha256": "abc"}, "seconds": 1.5}}


def saved(path, layer):
    data, attributes, kind = layer.as_layer_data_tuple()
    assert kind == "image"
    assert write_ome_tiff(str(path), data, attributes) == [str(path)]
    with tifffile.TiffFile(path) as file:
        assert file.is_ome
        root = ET.fromstring(file.ome_metadata)
        space = {"ome": root.tag.split("}")[0][1:]}
        pixels = root.find(".//ome:Pixels", space)
        description = root.find(".//ome:Description", space)
        image = root.find(".//ome:Image", space)
        return file.asarray(), file.series[0].axes, pixels.attrib, description, image


def test_pixel_size_units_axes_and_provenance(tmp_path):
    data = RNG.integers(0, 4000, (3, 20, 30), np.uint16)
    layer = Image(
        data,
        name="cells <b>&\x1b x4",
        scale=(0.5, 0.08125, 0.08125),
        units=("um", "um", "um"),
        axis_labels=("z", "y", "x"),
        metadata=MADE,
    )
    array, axes, pixels, description, image = saved(tmp_path / "a.ome.tif", layer)
    np.testing.assert_array_equal(array, data)
    assert axes == "ZYX"
    assert float(pixels["PhysicalSizeX"]) == pytest.approx(0.08125)
    assert float(pixels["PhysicalSizeZ"]) == pytest.approx(0.5)
    assert {pixels[f"PhysicalSize{k}Unit"] for k in "XYZ"} == {"µm"}
    assert json.loads(description.text)["esrgan"] == MADE["esrgan"]
    assert image.attrib["Name"] == "cells <b>&\\x1b x4"
    assert [p.name for p in tmp_path.iterdir()] == ["a.ome.tif"]


def test_time_and_colour(tmp_path):
    movie = RNG.integers(0, 255, (4, 20, 30, 3), np.uint8)
    layer = Image(
        movie, rgb=True, scale=(2, 1, 1), units=("s", "pixel", "pixel"), axis_labels=("t", "y", "x")
    )
    array, axes, pixels, _, _ = saved(tmp_path / "m.ome.tif", layer)
    np.testing.assert_array_equal(array, movie)
    assert axes == "TYXS"
    assert (float(pixels["TimeIncrement"]), pixels["TimeIncrementUnit"]) == (2, "s")


def test_unlabelled_and_multiscale_layers(tmp_path):
    fine = RNG.random((64, 48)).astype(np.float32)
    layer = Image([fine, fine[::2, ::2]], multiscale=True)
    array, axes, pixels, _, _ = saved(tmp_path / "p.ome.tif", layer)
    np.testing.assert_array_equal(array, fine)
    assert axes == "YX"
    assert pixels["PhysicalSizeXUnit"] == "pixel"


@pytest.mark.parametrize(
    ("data", "words"),
    [(np.zeros((1, 1, 1, 1, 2, 2), np.uint8), "axes"), (np.zeros((2, 2), np.int64), "float32")],
)
def test_what_the_format_lacks_is_refused_and_nothing_is_left(tmp_path, data, words):
    with pytest.raises(ImageError, match=words):
        write_ome_tiff(str(tmp_path / "x.ome.tif"), data, {})
    assert not list(tmp_path.iterdir())
