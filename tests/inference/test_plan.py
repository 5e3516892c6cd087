"""Estimates beforehand, and the order of tiles that a caller may ask for."""

from __future__ import annotations

import numpy as np
import pytest

import esrgan_ext as esr
from esrgan_ext.inference.devices import choose_device
from esrgan_ext.inference.plan import measure_speed
from tests.conftest import make_network

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("outscale", [None, 1.5, 3])
@pytest.mark.parametrize("tile", ["auto", 12])
def test_a_plan_describes_the_run(tiny_network, outscale, tile):
    image = RNG.integers(0, 255, (2, 30, 22), np.uint8)
    up = esr.Upscaler(tiny_network, outscale=outscale, tile=tile, overlap=4, channel_axis=False)
    plan = up.plan(image.shape, image.dtype)
    pieces = []
    out = up(image, on_tile=lambda piece, slices: pieces.append(slices))
    assert plan.output_shape == out.shape
    assert plan.output_bytes == out.nbytes
    assert plan.tiles == (2 if tile == "auto" else 2 * 3 * 2)
    whole = 2 * tiny_network.macs(30, 22)
    assert plan.macs == whole if tile == "auto" else plan.macs > whole
    assert plan.work_bytes > 0


def test_tiles_run_from_the_start_outwards_and_give_the_same(tiny_network):
    image = RNG.integers(0, 255, (40, 40), np.uint8)
    up = esr.Upscaler(tiny_network, tile=10, overlap=64)
    pieces = []
    out = up(image, on_tile=lambda piece, slices: pieces.append(slices), start=(35, 5))
    first, last = pieces[0], pieces[-1]
    assert (first[0].stop, first[1].start) == (160, 0)
    assert (last[0].start, last[1].stop) == (0, 160)
    np.testing.assert_array_equal(out, up(image))


@pytest.mark.alone
def test_measured_speed_is_that_of_real_work():
    import time

    device = choose_device("cpu")
    speed = measure_speed(device)
    network = make_network(nf=64, gc=32, nb=1)
    up = esr.Upscaler(network, device="cpu")
    image = np.zeros((64, 64, 3), np.uint8)
    begin = time.perf_counter()
    up(image)
    seconds = time.perf_counter() - begin
    # Other work on the machine may slow either down: the right order of magnitude is the claim.
    assert 0.02 < up.plan(image.shape, image.dtype).macs / speed / seconds < 50
