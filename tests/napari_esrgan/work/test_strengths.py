"""Layers whose channels differ in noise: a strength of denoising for each, one for its planes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import esrgan_ext as esr
from napari_esrgan._work.axes import Axes
from napari_esrgan._work.estimate import estimate
from napari_esrgan._work.live import LiveSource
from napari_esrgan._work.prepare import channel_ranges, denoised, load_models, make_upscaler
from napari_esrgan._work.ranges import RangeChoice
from napari_esrgan._work.request import UpscaleRequest, denoising
from napari_esrgan._work.script import request_script, script
from napari_esrgan._work.uncertainty import run_uncertainty
from napari_esrgan._work.upscale import run_upscale
from tests.napari_esrgan.conftest import never

MODEL = "lite-micro-x4"
OWN = RangeChoice("own", (100.0, 2100.0))


@pytest.fixture(scope="module")
def stains() -> np.ndarray:
    """Two planes of two channels, uint16, (2, 2, 40, 52): plane, channel, y, x. The first one is
    clean, the second has 30 photons in the brightest pixel and read noise of 1.6 electrons."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:40, :52]
    clean = sum(np.exp(-((y - 37 * k % 40) ** 2 + (x - 91 * k % 52) ** 2) / 60) for k in range(9))
    clean = clean / clean.max()
    planes = np.stack([[clean, np.zeros_like(clean)]] * 2)
    for plane in planes:
        plane[1] = (rng.poisson(clean * 30) + rng.normal(0, 1.6, clean.shape)) / 30
    return (planes * 2000 + 100).round().clip(0).astype(np.uint16)


@pytest.fixture
def layer(make_request: Callable[..., UpscaleRequest], stains: np.ndarray) -> UpscaleRequest:
    return make_request(
        stains,
        axes=Axes(("plane", "channel", "y", "x")),
        model=MODEL,
        denoise_auto=True,
        value_range=OWN,
        shown=(1, 1),
    )


@pytest.fixture
def alone(make_request: Callable[..., UpscaleRequest], stains: np.ndarray) -> list[np.ndarray]:
    """Each channel as a layer of its own."""
    made = []
    for channel in range(2):
        request = make_request(
            stains[:, channel],
            axes=Axes(("plane", "y", "x")),
            model=MODEL,
            denoise_auto=True,
            value_range=OWN,
            shown=(1,),
        )
        made.append(run_upscale(request, lambda _: None, never).result.levels)
    return made


def ran(text: str, data: np.ndarray) -> np.ndarray:
    space: dict[str, Any] = {"__name__": "script"}
    exec(compile(text, "script", "exec"), space)
    return space["upscale"](data)


def test_each_channel_as_if_it_were_alone(layer, alone, stains):
    outcome = run_upscale(layer, lambda _: None, never)
    result = np.asarray(outcome.result.levels)
    for channel in range(2):
        np.testing.assert_array_equal(result[:, channel], alone[channel])
    # The witness: Upscaler with the strengths given by hand.
    options = {"device": "cpu", "data_range": (100, 2100)}
    for channel in range(2):
        expected = esr.upscale(stains[1, channel], MODEL, denoise=float(channel), **options)
        np.testing.assert_array_equal(result[1, channel], expected)
    said = outcome.provenance
    assert said["parameters"]["strengths"] == [0.0, 1.0]
    assert said["model"]["key"] == MODEL
    assert [channel["name"] for channel in said["model"]["channels"]] == [
        "lite-micro-x4",
        "lite-micro-denoise-x4",
    ]
    np.testing.assert_array_equal(ran(script(said), stains), result)


def test_what_is_estimated_is_what_is_run(layer, stains):
    found = estimate(layer, [].append, never)
    assert (found.model, found.strengths) == (MODEL, (0.0, 1.0))
    settled = replace(layer, denoise_auto=False, strengths=found.strengths)
    first = run_upscale(layer, lambda _: None, never).result.levels
    np.testing.assert_array_equal(run_upscale(settled, lambda _: None, never).result.levels, first)
    np.testing.assert_array_equal(ran(request_script(settled, "cells"), stains), first)
    with pytest.raises(ValueError, match="noise"):
        request_script(layer, "cells")


def test_strengths_between_are_mixes(layer, stains):
    request = replace(layer, denoise_auto=False, strengths=(0.25, 0.5))
    outcome = run_upscale(request, lambda _: None, never)
    options = {"device": "cpu", "data_range": (100, 2100)}
    for channel, strength in enumerate((0.25, 0.5)):
        expected = esr.upscale(stains[0, channel], MODEL, denoise=strength, **options)
        np.testing.assert_array_equal(np.asarray(outcome.result.levels)[0, channel], expected)
    np.testing.assert_array_equal(ran(script(outcome.provenance), stains), outcome.result.levels)


def test_the_plane_on_show_alone(layer, alone, stains):
    outcome = run_upscale(replace(layer, only_shown=True), lambda _: None, never)
    np.testing.assert_array_equal(np.asarray(outcome.result.levels)[0, 0], alone[1][1])
    assert outcome.provenance["model"]["channels"][0] is None
    np.testing.assert_array_equal(ran(script(outcome.provenance), stains), outcome.result.levels)


def test_live_layers_have_them_too(layer, alone):
    settled = denoised(layer, never)
    networks = load_models(settled, [].append, never)
    upscalers = [make_upscaler(layer, networks[m], [].append, never) for m in settled.models]
    live = LiveSource(layer.data, layer.axes, upscalers, channel_ranges(layer, never), print)
    for channel in range(2):
        seen = live.array()[1, channel].compute().astype(int)
        assert np.abs(seen - alone[channel][1]).max() <= 2000 / 255


def test_the_uncertainty_is_that_of_the_channels_own_network(layer, stains):
    for channel in range(2):
        outcome = run_uncertainty(replace(layer, shown=(0, channel)), [].append, never)
        options = {"device": "cpu", "data_range": (100, 2100), "denoise": float(channel)}
        _, expected = esr.upscale(stains[0, channel], MODEL, return_std=True, **options)
        np.testing.assert_array_equal(np.asarray(outcome.result.levels)[0, 0], expected)
        assert outcome.provenance["uncertainty"]["model"] == denoising(MODEL, channel)


def test_channels_of_equal_noise_have_one_model(layer, stains):
    twice = replace(layer, data=np.stack([stains[:, 1]] * 2, 1))
    settled = denoised(twice, never)
    assert (settled.model, settled.strengths) == ("lite-micro-denoise-x4", ())


def test_looking_at_the_noise_can_be_cancelled(layer):
    with pytest.raises(esr.errors.UpscaleCancelled):
        denoised(layer, lambda: True)


def test_colours_have_them_as_arrays_do(make_request, stains):
    """One for the whole series, where an array of one plane would have those of the plane."""
    series = np.stack([stains[:, 0], stains[:, 1], stains[:, 0]], -1)
    request = make_request(
        series,
        rgb=True,
        axes=Axes(("plane", "y", "x"), rgb=True),
        model=MODEL,
        denoise_auto=True,
        value_range=OWN,
        shown=(0,),
    )
    found = estimate(request, [].append, never)
    assert found.strengths == (0.0, 1.0, 0.0)
    outcome = run_upscale(request, lambda _: None, never)
    options = {"device": "cpu", "data_range": (100, 2100)}
    for plane in range(2):
        for colour, strength in enumerate(found.strengths):
            pixels = series[plane, ..., colour]
            expected = esr.upscale(pixels, MODEL, denoise=strength, **options)
            result = np.asarray(outcome.result.levels)[plane, ..., colour]
            np.testing.assert_array_equal(result, expected)
    assert outcome.provenance["parameters"]["strengths"] == [0.0, 1.0, 0.0]
    settled = replace(request, denoise_auto=False, strengths=found.strengths)
    for text in (script(outcome.provenance), request_script(settled, "cells")):
        np.testing.assert_array_equal(ran(text, series), outcome.result.levels)
