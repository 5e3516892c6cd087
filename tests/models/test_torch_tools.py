"""torch's own tools on every network: what they make computes what the network computes."""

from __future__ import annotations

import copy
import io
import pickle
import shlex
import shutil
import warnings

import pytest
import torch
from torch import nn

from esrgan_ext.models import (
    CompactConfig,
    RRDBNet,
    RRDBNetConfig,
    SRResNet,
    SRResNetConfig,
    SRVGGNetCompact,
)

NETWORKS = {
    "RRDBNet": lambda: RRDBNet(RRDBNetConfig(nf=32, nb=1, gc=16)),
    "RRDBNet x2, unshuffled": lambda: RRDBNet(
        RRDBNetConfig(nf=32, nb=1, gc=16, scale=2, unshuffle=2)
    ),
    "ESRGAN+": lambda: RRDBNet(RRDBNetConfig(nf=8, nb=1, gc=4, plus=True)),
    "compact": lambda: SRVGGNetCompact(CompactConfig(nf=16, num_conv=1)),
    "compact x3": lambda: SRVGGNetCompact(CompactConfig(nf=16, num_conv=1, scale=3)),
    "SRResNet": lambda: SRResNet(SRResNetConfig(nf=8, nb=1)),
}


@pytest.fixture(params=NETWORKS)
def network(request) -> nn.Module:
    torch.manual_seed(0)
    return NETWORKS[request.param]().eval().requires_grad_(False)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.rand(1, 3, 8, 12, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=[torch.enable_grad, torch.no_grad, torch.inference_mode])
def mode(request):
    with request.param():
        yield request.param


def same(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return torch.allclose(found, expected, atol=1e-5)


def test_jit_trace(network, x, mode):
    expected = network(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that trace is deprecated, and that sizes are fixed
        traced = torch.jit.trace(network, x)
        assert same(traced(x), expected)
        file = io.BytesIO()
        torch.jit.save(traced, file)
        file.seek(0)
        assert same(torch.jit.load(file)(x), expected)
    assert "esrgan_ext::" not in str(traced.inlined_graph)  # runs where this package is not


def test_jit_trace_of_a_network_that_trains(network, x):
    network.requires_grad_(True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(network, x)
        assert same(traced(x), network(x))


def test_compile_in_one_graph(network, x):
    torch._dynamo.reset()
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        assert same(compiled(x), network(x))


def test_export(network, x):
    with torch.no_grad():
        program = torch.export.export(network, (x,))
        assert same(program.module()(x), network(x))


PACKAGED = ("RRDBNet", "compact")

# What is compiled is the networks' operators; how fast the result runs is not looked at. Without
# the optimiser for the code that only calls kernels, without headers compiled beforehand for a
# single use, and without programs that try out the compiler on each extension of the processor
# (AVX2 every compiler knows), it takes a third of the time.
QUICK = {
    "aot_inductor.compile_wrapper_opt_level": "O0",
    "aot_inductor.precompile_headers": False,
    "cpp.vec_isa_ok": True,
    "cpp.simdlen": 256,
}


class Together(nn.Module):
    """Several networks as one program, so that the C++ around them is compiled once."""

    def __init__(self, networks: list[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [network(x) for network in self.networks]


@pytest.fixture(scope="module")
def packaged(tmp_path_factory):
    """The networks of `PACKAGED` by name, and their ahead-of-time package as a function."""
    import torch._inductor  # 2 s, which no other process of the tests need take

    networks = {}
    for name in PACKAGED:
        torch.manual_seed(0)
        networks[name] = NETWORKS[name]().eval().requires_grad_(False)
    sides = {2: torch.export.Dim("h", min=2, max=512), 3: torch.export.Dim("w", min=2, max=512)}
    with torch.no_grad():
        program = torch.export.export(
            Together(list(networks.values())), (torch.rand(1, 3, 8, 12),), dynamic_shapes=(sides,)
        )
        assert "esrgan_ext" not in str(program.graph)  # runs where this package is not
        path = torch._inductor.aoti_compile_and_package(
            program,
            package_path=str(tmp_path_factory.mktemp("packages") / "networks.pt2"),
            inductor_configs=QUICK,
        )
        return networks, torch._inductor.aoti_load_package(path)


@pytest.mark.slow
@pytest.mark.timeout(900)  # inductor compiles C++ for minutes where the machine is busy
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
@pytest.mark.skipif(
    shlex.quote(torch.__file__) != torch.__file__,
    reason="inductor cannot be in a path that a shell would need quoted",
)
@pytest.mark.parametrize("name", PACKAGED)
def test_an_ahead_of_time_package_takes_images_of_any_size(packaged, x, name):
    networks, run = packaged
    with torch.no_grad():
        for image in (x, torch.rand(1, 3, 21, 17)):
            assert same(run(image)[PACKAGED.index(name)], networks[name](image))


def test_vmap(network, x, mode):
    batches = torch.stack([x, x + 0.1])
    assert same(torch.vmap(network)(batches)[1], network(x + 0.1))


def test_gradients_equal_those_of_the_definition(network, x):
    network.requires_grad_(True)
    network(x).square().sum().backward()
    found = [p.grad.clone() for p in network.parameters()]
    network.zero_grad()
    network.plain_forward(x).square().sum().backward()
    for gradient, p in zip(found, network.parameters(), strict=True):
        assert torch.allclose(gradient, p.grad, rtol=1e-3, atol=1e-3)


def test_copies_and_pickles(network, x):
    with torch.inference_mode():
        expected = network(x)
        for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
            assert torch.equal(other(x), expected)
