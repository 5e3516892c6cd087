"""Whole networks in the compiled extension against the plain definition."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from esrgan_ext import load_model
from esrgan_ext.models import RRDBNet
from esrgan_ext.ops import cpu
from esrgan_ext.ops.build import library
from tests.conftest import make_network

pytestmark = pytest.mark.skipif(
    library.source_folder() is None or library.load() is None, reason="no compiled extension"
)

NETWORKS = [
    {"nf": 64, "nb": 1, "gc": 32},
    {"nf": 64, "nb": 2, "gc": 16, "scale": 2, "in_channels": 1, "out_channels": 1},
    {"nf": 32, "nb": 1, "gc": 32, "scale": 8, "in_channels": 4, "out_channels": 4},
    {"nf": 32, "nb": 1, "gc": 16, "scale": 2, "unshuffle": 2},
    {"nf": 32, "nb": 1, "gc": 16, "scale": 1, "unshuffle": 4},
    {"nf": 32, "nb": 1, "gc": 32, "scale": 1, "out_channels": 2},
]


def in_float64(network: RRDBNet, x: torch.Tensor) -> torch.Tensor:
    return copy.deepcopy(network).double().plain_forward(x.double())


def run(network: RRDBNet, x: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return network(x)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("config", NETWORKS, ids=str)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 5), (38, 23)])
def test_agrees_with_the_definition(config: dict, size: tuple[int, int]) -> None:
    network = make_network(**config)
    x = torch.rand(2, network.in_channels, *size)
    assert cpu.supports(network.kernels.shape, x)
    torch.testing.assert_close(run(network, x).double(), in_float64(network, x), rtol=0, atol=1e-5)


def pictures() -> dict[str, np.ndarray]:
    """Kinds of images, float32, (20, 20, 3), 0 to 1; RealSR on noise is the hardest by 10 dB.

    They may be small, or float64 takes long: the decibels of 32 x 32 are the same within a few.
    """
    astronaut = cv2.imread(str(Path(__file__).parents[2] / "LR" / "astronaut.jpg"))
    assert astronaut is not None
    text = np.full((20, 20, 3), 255, np.uint8)
    cv2.putText(text, "Text", (-4, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0))
    return {
        "photo": astronaut[40:60, 40:60].astype(np.float32) / 255,
        "noise": np.random.default_rng(0).random((20, 20, 3), dtype=np.float32),
        "flat": np.full((20, 20, 3), 0.5, np.float32),
        "text": text.astype(np.float32) / 255,
        "black": np.zeros((20, 20, 3), np.float32),
    }


@pytest.mark.parametrize("name", ["realesrgan-x4plus", "realesrgan-x4plus-anime", "realsr-df2k"])
def test_packaged_models_are_as_exact_as_promised(name: str) -> None:
    network = load_model(name)
    definition = copy.deepcopy(network).double()
    for kind, picture in pictures().items():
        x = torch.from_numpy(picture).permute(2, 0, 1)[None].contiguous()
        with torch.inference_mode():
            got, exact = run(network, x).double(), definition.plain_forward(x.double())
        decibels = -10 * torch.log10((got - exact).square().mean()).item()
        assert decibels >= 120, (kind, decibels)
        levels = [(255 * image.clamp(0, 1)).round() for image in (got, exact)]
        assert (levels[0] - levels[1]).abs().max() <= 1, kind


def test_the_number_of_threads_changes_no_bit(threads) -> None:
    network = make_network(nf=64, gc=32)
    x = torch.rand(1, 3, 45, 70)
    results = []
    for count in (1, 2, 3, 5):
        threads(count)
        results.append(run(network, x))
    assert all(torch.equal(results[0], other) for other in results[1:])


def test_strips_cover_the_output_from_the_top_and_work_adds_up() -> None:
    network = make_network(nf=32, gc=16)
    x = torch.rand(1, 3, 90, 40)
    work: list[int] = []
    strips = list(network.strips(x, work.append))
    rows = 0
    for top, strip in strips:
        assert top == rows
        rows += strip.shape[2]
    assert rows == 360
    assert sum(work) == network.macs(90, 40)
    assert torch.equal(torch.cat([s for _, s in strips], 2), run(network, x))


def test_raising_in_on_work_stops_the_network() -> None:
    network = make_network(nf=64, gc=32, nb=8)
    x = torch.rand(1, 3, 256, 256)
    done = []

    class Stop(Exception):
        pass

    def on_work(macs: int) -> None:
        done.append(macs)
        raise Stop

    with pytest.raises(Stop), torch.inference_mode():
        network(x, on_work)
    assert sum(done) < network.macs(256, 256) / 2
    assert not [t for t in threading.enumerate() if t.name == "esrgan-network"]


@pytest.mark.parametrize("write", ["add_", "data", "load_state_dict"])
def test_weights_changed_in_place_are_noticed(write: str) -> None:
    network = make_network(nf=32, gc=16)
    x = torch.rand(1, 3, 12, 12)
    run(network, x)
    weight = network.body[0].rdb2.conv3.weight
    if write == "add_":
        weight[0, 0, 0, 0] += 100
    elif write == "data":
        weight.data.mul_(3)
    else:
        network.load_state_dict(make_network(seed=5, nf=32, gc=16).state_dict())
    torch.testing.assert_close(run(network, x).double(), in_float64(network, x), rtol=0, atol=1e-4)


def test_packed_weights_stay_out_of_copies_and_files() -> None:
    network = make_network(nf=32, gc=16)
    x = torch.rand(1, 3, 8, 8)
    expected = run(network, x)
    assert len(pickle.dumps(network)) < 2 * sum(p.numel() * 4 for p in network.parameters())
    assert torch.equal(run(pickle.loads(pickle.dumps(network)), x), expected)
    assert torch.equal(run(copy.deepcopy(network), x), expected)


def test_several_python_threads_at_once() -> None:
    network = make_network(nf=32, gc=32)
    x = torch.rand(1, 3, 40, 40)
    expected = run(network, x)
    results: list[torch.Tensor] = []
    callers = [threading.Thread(target=lambda: results.append(run(network, x))) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(results) == 4
    assert all(torch.equal(result, expected) for result in results)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_after_fork() -> None:
    code = """
import os, torch
from tests.conftest import make_network
network = make_network(nf=32, gc=16)
x = torch.rand(1, 3, 30, 30)
with torch.inference_mode():
    expected = network(x).numpy().copy()
    child = os.fork()
    if child == 0:  # numpy compares: torch's own OpenMP does not survive a fork
        os._exit(0 if (network(x).numpy() == expected).all() else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("isa", ["avx2", "baseline"])
def test_other_instruction_sets_agree(isa: str) -> None:
    code = """
import torch
from esrgan_ext import ops
from tests.conftest import make_network
network = make_network(nf=32, gc=32)
x = torch.rand(1, 3, 19, 22, generator=torch.Generator().manual_seed(0))
with torch.inference_mode():
    difference = (network(x) - network.plain_forward(x)).abs().max().item()
print(ops.backend(), difference)
assert difference < 1e-5
"""
    environment = {**os.environ, "ESRGAN_CPU_ISA": isa}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    backend = result.stdout.split()[0]
    assert backend in (f"cpu-{isa}", "cpu-baseline")


def test_operators_pass_opcheck() -> None:
    network = make_network(nf=32, gc=16)
    shape = network.kernels.shape.as_list()
    layers = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    weights, biases = [c.weight.data for c in layers], [c.bias.data for c in layers]
    packed = torch.ops.esrgan_ext.rrdbnet_pack(weights, biases, shape)
    x = torch.rand(1, 3, 6, 7)
    torch.library.opcheck(torch.ops.esrgan_ext.rrdbnet.default, (x, packed, shape))
    out = torch.empty(1, 3, 24, 28)
    torch.library.opcheck(
        torch.ops.esrgan_ext.rrdbnet_into.default,
        (x, packed, shape, out, None),
        test_utils=("test_schema", "test_faketensor"),
    )


def test_a_network_of_other_widths_says_so() -> None:
    assert "nf must be" in torch.ops.esrgan_ext.rrdbnet_unsupported([3, 3, 48, 32, 1, 2])
    with pytest.raises(RuntimeError, match="nf must be"):
        torch.ops.esrgan_ext.rrdbnet_pack(
            [torch.zeros(48, 3, 3, 3)], [torch.zeros(48)], [3, 3, 48, 32, 1, 2]
        )
