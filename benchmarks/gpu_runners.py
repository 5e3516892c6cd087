"""The ways to run a network on a GPU that `benchmarks.gpu` compares: torch's, and ours.

A runner is made for one network and one input on the device. `step` enqueues one forward pass and
waits for nothing; `result` is what the last one wrote.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from esrgan_ext import ops
from esrgan_ext.inference.graphs import CudaQueue
from esrgan_ext.models import SRNetwork
from esrgan_ext.ops.cuda import PixelMap


class Unavailable(Exception):
    """A runner cannot be had here; the message says why."""


class GpuRunner(ABC):
    """One way to run one network on one input.

    Attributes
    ----------
    name : str
        As printed, and as chosen on the command line; `{half}` is the half-precision type.
    """

    name: str

    @abstractmethod
    def __init__(self, network: SRNetwork, x: Tensor, half: torch.dtype) -> None:
        """Get ready: x is N,C,H,W, float32, on the device; `half` is float16 or bfloat16."""

    @abstractmethod
    def step(self) -> None:
        """Enqueue one forward pass on the current stream."""

    @abstractmethod
    def result(self) -> Tensor:
        """The output of the last step."""


class Eager(GpuRunner):
    """The definition in torch, float32, N,C,H,W in memory; TF32 as torch is set."""

    name = "torch-fp32"
    memory_format = torch.contiguous_format
    halved = False

    def __init__(self, network: SRNetwork, x: Tensor, half: torch.dtype) -> None:
        torch.backends.cudnn.benchmark = True
        dtype = half if self.halved else torch.float32
        clone = copy.deepcopy(network).to(device=x.device, dtype=dtype).eval()
        clone.to(memory_format=self.memory_format)  # type: ignore[call-overload]
        self._run: Callable[[Tensor], Tensor] = clone.plain_forward
        self._x = x.to(dtype).contiguous(memory_format=self.memory_format)
        self._y: Tensor | None = None

    def step(self) -> None:
        with torch.inference_mode():
            self._y = self._run(self._x)

    def result(self) -> Tensor:
        assert self._y is not None
        return self._y


class EagerHalf(Eager):
    """In half precision, channels-last, with cuDNN's fastest algorithms."""

    name = "torch-half"
    memory_format = torch.channels_last
    halved = True


class EagerGraph(EagerHalf):
    """The same, replayed as a CUDA graph."""

    name = "torch-half-graph"

    def __init__(self, network: SRNetwork, x: Tensor, half: torch.dtype) -> None:
        super().__init__(network, x, half)
        for _ in range(3):  # cuDNN chooses its algorithms outside of the capture
            super().step()
        self._replay = CudaQueue(x.device).record(super().step)

    def step(self) -> None:
        self._replay()


class Compiled(EagerHalf):
    """The same under torch.compile with everything that it can tune."""

    name = "torch-compile"

    def __init__(self, network: SRNetwork, x: Tensor, half: torch.dtype) -> None:
        super().__init__(network, x, half)
        self._run = torch.compile(self._run, mode="max-autotune", dynamic=False)

    def step(self) -> None:
        torch.compiler.cudagraph_mark_step_begin()
        super().step()


class Ours(GpuRunner):
    """One operator call, kernel by kernel."""

    name = "esrgan_ext-no-graph"

    def __init__(self, network: SRNetwork, x: Tensor, half: torch.dtype) -> None:
        placed = copy.deepcopy(network).to(device=x.device, dtype=half).eval()
        fused = placed.fused()
        if fused is None:
            raise Unavailable(f"no kernels in use on {x.device}: {ops.library.cuda_origin()}")
        packed = fused.packed()
        self._x = x.to(half)
        n, _, height, width = x.shape
        size = (n, network.out_channels, height * fused.zoom, width * fused.zoom)
        self._y = torch.empty(size, dtype=half, device=x.device)
        nonfinite = torch.zeros(1, dtype=torch.int32, device=x.device)

        def enqueue() -> None:
            fused.into(self._x, packed, self._y, PixelMap(), nonfinite)

        self._enqueue = enqueue

    def step(self) -> None:
        self._enqueue()

    def result(self) -> Tensor:
        return self._y


class OursGraph(Ours):
    """One operator call in a CUDA graph, as the upscaler runs it."""

    name = "esrgan_ext"

    def __init__(self, network: SRNetwork, x: Tensor, half: torch.dtype) -> None:
        super().__init__(network, x, half)
        self._enqueue()
        self._enqueue = CudaQueue(x.device).record(self._enqueue)


RUNNERS: dict[str, type[GpuRunner]] = {
    runner.name: runner for runner in (OursGraph, Ours, Eager, EagerHalf, EagerGraph, Compiled)
}
