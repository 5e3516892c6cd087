"""Fake kernels and gradients of the compiled operators, for torch.

Fake kernels (shapes without data, for torch.compile and torch.export) and gradients. The
kernels themselves are in `cpu_operators` (csrc/cpu) and `csrc/torch/cuda_ops.cpp`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_registered = False


def register() -> None:
    """Register fake kernels and gradients, once the library that defines the operators is in."""
    global _registered
    if _registered:
        return
    torch.library.register_fake("esrgan_ext::dense_block", _fake_dense_block)
    torch.library.register_fake("esrgan_ext::rrdbnet_pack", _fake_rrdbnet_pack)
    torch.library.register_fake("esrgan_ext::rrdbnet", _fake_rrdbnet)
    torch.library.register_fake("esrgan_ext::rrdbnet_into", _fake_rrdbnet_into)
    torch.library.register_fake("esrgan_ext::compact_pack", _fake_compact_pack)
    torch.library.register_fake("esrgan_ext::compact_into", _fake_compact_into)
    torch.library.register_autograd(
        "esrgan_ext::dense_block", _dense_block_backward, setup_context=_dense_block_context
    )
    _registered = True


def _fake_dense_block(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    negative_slope: float,
    residual_scale: float,
) -> Tensor:
    fast = (
        (x.dtype == torch.float32 or x.device.type == "cuda")
        and x.shape[1] in (32, 64)
        and weights[0].shape[0] in (16, 32)
    )
    if fast:
        return torch.empty_like(x, memory_format=torch.channels_last)
    y = F.conv2d(x, x.new_empty((x.shape[1], x.shape[1], 3, 3)), padding=1)
    return x + y  # other widths are composed: the layout that these operations give


def _fake_rrdbnet_pack(
    weights: Sequence[Tensor], biases: Sequence[Tensor], shape: Sequence[int], compute: str = ""
) -> Tensor:
    context = torch.library.get_ctx()
    dtype = torch.uint8 if weights[0].device.type == "cuda" else torch.float32
    return weights[0].new_empty(context.new_dynamic_size(), dtype=dtype)


def _fake_rrdbnet(
    x: Tensor, packed: Tensor, shape: Sequence[int], compute: str = "", path: str = ""
) -> Tensor:
    zoom = 2 ** shape[5]
    return x.new_empty((x.shape[0], shape[1], x.shape[2] * zoom, x.shape[3] * zoom))


def _fake_rrdbnet_into(
    x: Tensor,
    packed: Tensor,
    shape: Sequence[int],
    out: Tensor,
    control: Tensor | None,
    *conversion: object,
    **named_conversion: object,
) -> None:
    return None


def _fake_compact_pack(
    weights: Sequence[Tensor], biases: Sequence[Tensor], slopes: Sequence[Tensor], shape: Any
) -> Tensor:
    return weights[0].new_empty(torch.library.get_ctx().new_dynamic_size())


def _fake_compact_into(
    x: Tensor, packed: Tensor, shape: Sequence[int], out: Tensor, control: Tensor | None
) -> None:
    return None


def _dense_block_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weights, biases, ctx.negative_slope, ctx.residual_scale = inputs
    ctx.save_for_backward(x, *weights, *biases)


def _dense_block_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    """Backpropagate through `reference.dense_block`, whose features are computed again.

    Made of differentiable operations, so it can be traced and differentiated itself.
    """
    x, *parameters = ctx.saved_tensors
    weights, biases = parameters[:5], parameters[5:]
    slope = ctx.negative_slope
    sums, features = [], [x]
    for weight, bias in zip(weights[:4], biases[:4], strict=True):
        sums.append(F.conv2d(torch.cat(features, 1), weight, bias, padding=1))
        features.append(F.leaky_relu(sums[-1], slope))

    widths = [feature.shape[1] for feature in features]
    feature_grads: list[Tensor | None] = [grad, None, None, None, None]
    weight_grads: list[Tensor] = []
    bias_grads: list[Tensor] = []
    for k in range(4, -1, -1):
        if k == 4:
            upstream = grad * ctx.residual_scale
        else:
            arriving = feature_grads[k + 1]
            assert arriving is not None
            upstream = torch.where(sums[k] > 0, arriving, arriving * slope)
        joined = torch.cat(features[: k + 1], 1)
        into, weight_grad, bias_grad = torch.ops.aten.convolution_backward(
            upstream, joined, weights[k], [biases[k].shape[0]],
            [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [True, True, True],
        )  # fmt: skip
        weight_grads.insert(0, weight_grad)
        bias_grads.insert(0, bias_grad)
        for i, part in enumerate(into.split(widths[: k + 1], dim=1)):
            before = feature_grads[i]
            feature_grads[i] = part if before is None else before + part
    return feature_grads[0], weight_grads, bias_grads, None, None
