"""The fused dense block against its definition in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from esrgan_ext import ops
from esrgan_ext.ops import reference
from esrgan_ext.ops.build import library

pytestmark = pytest.mark.skipif(
    library.source_folder() is None or library.load() is None, reason="no compiled extension"
)

SIZES = [(1, 1), (1, 17), (17, 1), (7, 5), (4, 4), (37, 53), (150, 9)]
WIDTHS = [(64, 32), (32, 32), (64, 16), (32, 16)]


def parameters(nf: int, gc: int, dtype: torch.dtype = torch.float32) -> tuple[list, list]:
    generator = torch.Generator().manual_seed(nf * gc)
    weights, biases = [], []
    for k in range(5):
        outputs, inputs = (gc if k < 4 else nf), nf + k * gc
        shape = (outputs, inputs, 3, 3)
        weights.append(torch.randn(shape, generator=generator, dtype=dtype) / (9 * inputs) ** 0.5)
        biases.append(torch.randn(outputs, generator=generator, dtype=dtype) * 0.1)
    return weights, biases


def in_float64(x: Tensor, weights: list, biases: list, *factors: float) -> Tensor:
    return reference.dense_block(
        x.double(), [w.double() for w in weights], [b.double() for b in biases], *factors
    )


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize(("nf", "gc"), WIDTHS)
def test_agrees_with_the_definition(nf: int, gc: int, height: int, width: int) -> None:
    weights, biases = parameters(nf, gc)
    x = torch.randn(2, nf, height, width, generator=torch.Generator().manual_seed(1))
    got = ops.dense_block(x, weights, biases)
    torch.testing.assert_close(got.double(), in_float64(x, weights, biases), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("nf", "gc"), [(8, 4), (48, 32), (64, 24)])
def test_widths_without_a_kernel_are_correct(nf: int, gc: int) -> None:
    weights, biases = parameters(nf, gc)
    x = torch.randn(1, nf, 9, 6)
    got = torch.ops.esrgan_ext.dense_block(x, weights, biases, 0.2, 0.2)
    torch.testing.assert_close(got.double(), in_float64(x, weights, biases), rtol=0, atol=1e-5)


@pytest.mark.parametrize("factors", [(0.0, 1.0), (-0.3, 0.5), (1.5, -0.2)])
def test_any_slope_and_scale(factors: tuple[float, float]) -> None:
    weights, biases = parameters(32, 16)
    x = torch.randn(1, 32, 11, 10)
    torch.testing.assert_close(
        ops.dense_block(x, weights, biases, *factors).double(),
        in_float64(x, weights, biases, *factors),
        rtol=0,
        atol=1e-5,
    )


def test_input_of_any_memory_format() -> None:
    weights, biases = parameters(32, 32)
    base = torch.randn(2, 32, 21, 26)
    expected = ops.dense_block(base, weights, biases)
    strided = base.repeat_interleave(2, dim=3)[..., ::2]
    transposed = base.transpose(2, 3).contiguous().transpose(2, 3)
    for x in (base.contiguous(memory_format=torch.channels_last), strided, transposed):
        assert torch.equal(ops.dense_block(x, weights, biases), expected)


def test_empty_batch() -> None:
    weights, biases = parameters(32, 32)
    assert ops.dense_block(torch.empty(0, 32, 5, 5), weights, biases).shape == (0, 32, 5, 5)


def test_wrong_shapes_are_refused_by_name() -> None:
    weights, biases = parameters(32, 32)
    with pytest.raises(RuntimeError, match="weight 1 must have the shape"):
        ops.dense_block(torch.zeros(1, 32, 4, 4), [weights[0], *weights[:4]], biases)
    with pytest.raises(RuntimeError, match="five weights"):
        ops.dense_block(torch.zeros(1, 32, 4, 4), weights[:4], biases[:4])


@pytest.mark.parametrize("write", ["add_", "data", "optimizer", "inference tensor"])
def test_weights_changed_in_place_are_noticed(write: str) -> None:
    weights, biases = parameters(32, 16)
    if write == "inference tensor":
        with torch.inference_mode():
            weights = [w.clone() for w in weights]
    x = torch.randn(1, 32, 8, 8)
    before = ops.dense_block(x, weights, biases)
    if write == "optimizer":
        weights[2].grad = torch.ones_like(weights[2])
        torch.optim.SGD([weights[2]], lr=0.1).step()
    elif write == "data":
        weights[2].data.mul_(1.5)
    else:
        with torch.inference_mode(write == "inference tensor"):
            weights[2].add_(0.05)
    after = ops.dense_block(x, weights, biases)
    assert not torch.equal(before, after)
    torch.testing.assert_close(after.double(), in_float64(x, weights, biases), rtol=0, atol=1e-5)


def test_gradients_of_the_kernel_match_the_definition() -> None:
    weights, biases = parameters(32, 16)
    inputs = [torch.randn(1, 32, 7, 6), *weights, *biases]
    grads = []
    for block, dtype in ((ops.dense_block, torch.float32), (reference.dense_block, torch.float64)):
        leaves = [t.to(dtype, copy=True).requires_grad_() for t in inputs]
        block(leaves[0], leaves[1:6], leaves[6:]).square().sum().backward()
        grads.append([leaf.grad.double() for leaf in leaves])
    for got, expected in zip(*grads, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_gradcheck_in_float64() -> None:
    weights, biases = parameters(4, 3, torch.float64)
    x = torch.randn(1, 4, 5, 4, dtype=torch.float64, requires_grad=True)
    leaves = [t.requires_grad_() for t in (*weights, *biases)]
    assert torch.autograd.gradcheck(
        lambda x, *p: ops.dense_block(x, p[:5], p[5:]), (x, *leaves), fast_mode=True
    )


@pytest.mark.parametrize("gradient", [False, True])
def test_opcheck(gradient: bool) -> None:
    weights, biases = parameters(32, 16)
    x = torch.randn(1, 32, 6, 5)
    for tensor in (x, *weights, *biases):
        tensor.requires_grad_(gradient)
    torch.library.opcheck(torch.ops.esrgan_ext.dense_block.default, (x, weights, biases, 0.2, 0.2))


class Block(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        weights, biases = parameters(32, 16)
        self.weights = torch.nn.ParameterList(weights)
        self.biases = torch.nn.ParameterList(biases)

    def forward(self, x: Tensor) -> Tensor:
        return ops.dense_block(x, list(self.weights), list(self.biases)) * 2


def test_compiles_into_one_graph() -> None:
    block, x = Block(), torch.randn(1, 32, 9, 8)
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), block(x))


def test_exports_as_one_operator() -> None:
    block, x = Block().eval(), torch.randn(1, 32, 9, 8)
    program = torch.export.export(block, (x,))
    targets = [str(node.target) for node in program.graph.nodes]
    assert "esrgan_ext.dense_block.default" in targets
    torch.testing.assert_close(program.module()(x), block(x))
