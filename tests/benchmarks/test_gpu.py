"""The parts of the GPU benchmark that need none."""

from __future__ import annotations

import os
import runpy
import sys

import pytest
import torch
from rich.console import Console

from benchmarks import gpu
from benchmarks.gpu_runners import RUNNERS, Eager, Ours, Unavailable
from esrgan_ext.models import RRDBNet, RRDBNetConfig
from tests.conftest import make_network


def test_sizes():
    assert gpu.parse_size("1080x1920") == (1, 1080, 1920)
    assert gpu.parse_size("16x128X64") == (16, 128, 64)


def test_operations_are_those_of_direct_convolution():
    """588 GFLOP for 128x128, as counted by hand for xinntao's network with 23 blocks."""
    with torch.device("meta"):
        network = RRDBNet(RRDBNetConfig())
    block = sum((64 + 32 * k) * 32 for k in range(4)) + 192 * 64
    trunk = 3 * 64 + 69 * block + 64 * 64
    tail = 4 * 64 * 64 + 16 * (2 * 64 * 64 + 64 * 3)
    assert gpu.operations(network, (1, 128, 128)) == 2 * 9 * 128**2 * (trunk + tail)
    assert gpu.operations(network, (1, 128, 128)) == pytest.approx(588e9, rel=0.01)
    assert gpu.operations(network, (16, 1, 1)) == 16 * gpu.operations(network, (1, 1, 1))
    assert gpu.matmul_operations(10) == 2000


def test_runners_take_turns():
    order: list[str] = []
    steps = {name: (lambda name=name: order.append(name)) for name in "abc"}

    def timer(step) -> float:
        step()
        return len(order)

    times = gpu.alternate(steps, 3, timer)
    assert "".join(order) == "abcabcabc"
    assert times == {"a": [1, 4, 7], "b": [2, 5, 8], "c": [3, 6, 9]}


def test_medians_ratios_and_shares():
    results = gpu.summarise(
        "64x64",
        2_000_000_000,
        {"esrgan_ext": [1.0, 2.0, 30.0], "torch-half": [5.0, 5.0, 6.0]},
        matmul_teraflops=4.0,
        peaks={"esrgan_ext": 10_000_000, "torch-half": 30_000_000},
        accuracy={"esrgan_ext": 61.5},
        failures={"torch-fp32": "out of memory"},
    )
    ours, peer, failed = results
    assert (ours.milliseconds, ours.ratio) == (2.0, 1.0)
    assert ours.teraflops == pytest.approx(1.0)  # 2e9 operations in 2 ms
    assert ours.matmul_share == pytest.approx(0.25)
    assert (peer.ratio, peer.psnr) == (2.5, None)
    assert (failed.milliseconds, failed.failure) == (None, "out of memory")


def test_without_ours_there_are_no_ratios():
    (result,) = gpu.summarise("8x8", 1, {"torch-half": [1.0]}, 1.0, {}, {}, {})
    assert result.ratio is None


def test_the_table_shows_every_figure_and_every_failure():
    results = gpu.summarise(
        "512x512", 9_000_000_000_000, {"esrgan_ext": [20.0]}, 900.0, {"esrgan_ext": 5 * 10**8},
        {"esrgan_ext": 60.25}, {"torch-compile": "out of memory"},
    )  # fmt: skip
    console = Console(width=120, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(gpu.table(results, "x4plus"))
    text = console.export_text()
    for expected in (
        "20",
        "1.00",
        "450.0",
        "50 %",
        "500",
        "60.2",
        "torch-compile",
        "out of memory",
    ):
        assert expected in text


def test_eager_torch_is_the_definition():
    network = make_network()
    x = torch.rand(2, 3, 6, 5)
    runner = Eager(network, x, torch.float16)
    runner.step()
    torch.testing.assert_close(runner.result(), network.plain_forward(x))


def test_ours_says_why_it_is_missing():
    with pytest.raises(Unavailable, match="CUDA"):
        Ours(make_network(nf=32, gc=16), torch.rand(1, 3, 4, 4), torch.float16)


def test_ours_stands_first_and_every_peer_is_there():
    assert next(iter(RUNNERS)) == "esrgan_ext"
    assert {"torch-fp32", "torch-half", "torch-half-graph", "torch-compile"} < set(RUNNERS)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 1, "needs an NVIDIA GPU: torch"),
        (["--sizes", "64"], 2, "HxW or NxHxW"),
        (["--sizes", "axb"], 2, "HxW or NxHxW"),
    ],
)
def test_without_a_gpu_it_says_so(monkeypatch, capsys, arguments, code, message):
    """As `python -m benchmarks.gpu` does, here because a process would first import torch."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py", *arguments])
    monkeypatch.delitem(sys.modules, "benchmarks.gpu")
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("benchmarks.gpu", run_name="__main__")
    said = capsys.readouterr().err
    if isinstance(ended.value.code, str):  # which Python prints, and ends with 1
        assert code == 1
        said += ended.value.code
    else:
        assert ended.value.code == code
    assert message in said
