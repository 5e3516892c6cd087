"""What `benchmarks.gpu` and `benchmarks.gpu_launches` count and print, without a GPU."""

from __future__ import annotations

import contextlib
import time

import pytest
import torch

from benchmarks import gpu_launches
from benchmarks.gpu import files_table
from benchmarks.gpu_files import file_times
from benchmarks.gpu_launches import Launch, kind_of, summarise
from benchmarks.time_limits import TookTooLong, limited
from tests.conftest import make_network


def test_every_launch_of_a_network_has_its_kind():
    rrdbs = 2
    kinds = [kind_of(i, rrdbs) for i in range(1 + 15 * rrdbs + 1 + 3)]
    assert kinds[0] == "conv_first"
    assert kinds[1:6] == ["conv1", "conv2", "conv3", "conv4", "conv5"]
    assert kinds[15] == "conv5, outer residual" == kinds[30]
    assert kinds[31:] == ["conv_body"] + ["upsampling and output"] * 3


def test_shares_are_of_all_launches_and_rates_by_direct_convolution():
    durations = [10, 20, 20, 20, 20, 40, *[20] * 4, 40, *[20] * 4, 80, 30, 50]
    starts = [sum(durations[:i]) + 5 * i for i in range(len(durations))]
    launches = [
        Launch("esrgan", start, start + duration)
        for start, duration in zip(starts, durations, strict=True)
    ]
    rows, total, span = summarise(launches, rrdbs=1, nf=64, gc=32, pixels=1000)
    found = {row.kind: row for row in rows}
    assert sum(row.share for row in rows) == pytest.approx(1)
    assert total == pytest.approx(sum(durations) / 1000)
    assert span == pytest.approx(total + 5 * (len(durations) - 1) / 1000)
    assert (found["conv1"].count, found["conv1"].mean) == (3, 20)
    # 64 -> 32 channels, 9 taps, 1000 pixels, in 20 us; 192 -> 64 in 80 us.
    assert found["conv1"].teraflops == pytest.approx(2 * 9 * 64 * 32 * 1000 / 20e-6 / 1e12)
    outer = found["conv5, outer residual"]
    assert outer.teraflops == pytest.approx(2 * 9 * 192 * 64 * 1000 / 80e-6 / 1e12)
    assert found["conv_first"].teraflops is None
    assert gpu_launches.table(rows, "x").row_count == len(rows)


def stubborn() -> None:
    while True:
        with contextlib.suppress(Exception):
            time.sleep(1)


def test_what_takes_too_long_is_given_up_even_if_it_catches_exceptions():
    began = time.perf_counter()
    with pytest.raises(TookTooLong, match=r"not ready within 0\.2 s"), limited(0.2):
        stubborn()
    assert time.perf_counter() - began < 5
    with limited(0.05):
        pass
    time.sleep(0.1)  # over, and nothing comes


def test_a_photo_goes_from_file_to_file():
    network = make_network(scale=2)
    times = file_times(network, (24, 32), torch.device("cpu"), "fp32", rounds=1)
    assert [t.suffix for t in times] == [".jpg", ".png"]
    assert all(min(t.read, t.upscale, t.write) > 0 for t in times)
    assert times[0].total == pytest.approx(times[0].read + times[0].upscale + times[0].write)
    assert files_table(times, "x").row_count == 2
