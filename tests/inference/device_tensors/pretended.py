"""A GPU that is none: tensors that say they are on one, and a count of what leaves it."""

from __future__ import annotations

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from tests.inference.test_engine_on_a_gpu import Operator
from tests.inference.test_graphs import PretendedQueue


class OnGpu(torch.Tensor):
    """Says that it is on another device and keeps its values in a tensor within; nothing reaches
    them but through operators. The device is "meta", the one beside the CPU that each torch has."""

    is_meta = False

    @staticmethod
    def __new__(cls, values):
        return torch.Tensor._make_wrapper_subclass(
            cls, values.shape, values.stride(), values.storage_offset(),
            dtype=values.dtype, device="meta",
        )  # fmt: skip

    def __init__(self, values):
        self.values = values

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise AssertionError("use it within a PretendedCuda")


class PretendedCuda(TorchDispatchMode):
    """Runs operators on `OnGpu` and writes down what each brings to the host: its name and the
    number of values."""

    def __init__(self):
        super().__init__()
        self.crossed: list[tuple[str, int]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = func.overloadpacket.__name__
        leaves = tree_leaves((args, kwargs))
        involved = any(isinstance(leaf, OnGpu) for leaf in leaves)
        target = next((leaf.type for leaf in leaves if isinstance(leaf, torch.device)), None)

        def on_cpu(leaf):
            if isinstance(leaf, torch.device):
                return torch.device("cpu")
            return leaf.values if isinstance(leaf, OnGpu) else leaf

        inner = tree_map(on_cpu, (args, kwargs))
        result = func(*inner[0], **inner[1])
        if not involved and target != "meta":
            return result
        if name == "_local_scalar_dense" or target == "cpu":
            self.crossed.append((name, result.numel() if target == "cpu" else 1))
            return result
        if name == "copy_" and not isinstance(args[0], OnGpu):
            self.crossed.append((name, args[0].numel()))
        if kwargs.get("out") is not None:
            return kwargs["out"]
        if name.endswith("_") and not name.startswith("_"):
            return args[0]
        return tree_map(lambda r: OnGpu(r) if isinstance(r, torch.Tensor) else r, result)


class Queue(PretendedQueue):
    def empty(self, like, dtype):
        return OnGpu(torch.empty_strided(like.shape, like.stride(), dtype=dtype))

    def staging(self, like):
        return torch.empty(like.shape, dtype=like.dtype)


class OnGpuOperator(Operator):
    """`Operator` without a look at its result. Its network is in float32: what crosses is the same,
    and torch's convolutions in float64 took ten times as long as all else here."""

    def into(self, x, packed, out, pixels, nonfinite):
        scaled = x.double() * pixels.in_scale + pixels.in_offset
        y = self._network.plain_forward(scaled.float()).double()
        nonfinite.copy_((~y.isfinite()).any().reshape(1))
        y = y * pixels.out_scale + pixels.out_offset
        if not out.is_floating_point():
            limits = torch.iinfo(out.dtype)
            y = y.round().clamp(limits.min, limits.max)
        out.copy_(y)
