"""A network's compiled kernels: whether they take it, its packed weights, and runs through them.

What a network is like in plain torch is its own module's business, how kernels are called that of
`esrgan_ext.ops`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from torch import Tensor

from esrgan_ext.ops import cpu, cuda
from esrgan_ext.ops.eager import OnWork

Parameters = Callable[[], Sequence[Sequence[Tensor]]]
"""Gives what the kernels pack: weights and biases (and slopes) of all convolutions in order."""


class CpuKernels:
    """The kernels of a network on the CPU.

    A view that is made anew whenever it is asked for: `parameters` holds the network, and that the
    packed weights.

    Parameters
    ----------
    shape : Shape
    parameters : callable
        See `Parameters`.
    packed : PackedWeights
        The network's.
    """

    def __init__(
        self,
        shape: cpu.Shape,
        parameters: Parameters,
        packed: cpu.PackedWeights,
    ) -> None:
        self._parameters, self._packed = parameters, packed
        self.shape = shape

    def supports(self, x: Tensor) -> bool:
        """Whether they take this network on this input."""
        return cpu.supports(self.shape, x) and self._are_like(x)

    def _are_like(self, x: Tensor) -> bool:
        # Not network.parameters(), which names each: a tenth of a small image's time.
        return all(
            p.dtype == x.dtype and p.device == x.device
            for parameters in self._parameters()
            for p in parameters
        )

    def packed(self) -> Tensor:
        """The weights as the kernels want them, packed anew where they have changed."""
        return self._packed.get(self.shape, *self._parameters())

    def run(self, x: Tensor) -> Tensor:
        """The network's output for N,C,H,W, in one piece and without progress."""
        return cpu.run(self.shape, self.packed(), x)

    def strips(self, x: Tensor, on_work: OnWork | None, macs: int) -> Iterator[tuple[int, Tensor]]:
        """First row and rows of the output as they are finished; see `cpu.strips`."""
        yield from cpu.strips(self.shape, self.packed(), x, on_work, macs)


class RRDBNetKernels(CpuKernels):
    """The kernels of an RRDBNet, on the CPU and on GPUs.

    Parameters
    ----------
    parameters, packed
        See `CpuKernels`.
    shape : NetworkShape
    packed_for_cuda : PackedWeights
        The network's, of `esrgan_ext.ops.cuda`.
    plus : bool
        It has the 1x1 convolutions of ESRGAN+, which no kernel has.
    """

    shape: cpu.NetworkShape

    def __init__(
        self,
        shape: cpu.NetworkShape,
        parameters: Parameters,
        packed: cpu.PackedWeights,
        packed_for_cuda: cuda.PackedWeights,
        plus: bool,
    ) -> None:
        super().__init__(shape, parameters, packed)
        self._packed_for_cuda, self._plus = packed_for_cuda, plus

    def supports(self, x: Tensor) -> bool:
        if self._plus:
            return False
        if x.device.type == "cuda":
            return cuda.supports(self.shape, x.device, x.dtype) and self._are_like(x)
        return super().supports(x)

    def packed_for_cuda(self, compute: str) -> Tensor:
        """The weights as the GPU's kernels want them; `compute` as in `cuda.compute_name`."""
        weights, biases = self._parameters()
        return self._packed_for_cuda.get(self.shape, weights, biases, compute)

    def run(self, x: Tensor) -> Tensor:
        if x.device.type == "cuda":
            compute = cuda.compute_name(x.dtype)
            return cuda.run(self.shape, self.packed_for_cuda(compute), x, compute)
        return super().run(x)

    def strips(self, x: Tensor, on_work: OnWork | None, macs: int) -> Iterator[tuple[int, Tensor]]:
        if x.device.type == "cuda":  # enqueued in one piece
            y = self.run(x)
            if on_work is not None:
                on_work(macs)
            yield 0, y
            return
        yield from super().strips(x, on_work, macs)

    def fused(self, weight: Tensor) -> cuda.FusedNetwork | None:
        """The network as one operator call for the GPU and the type of `weight`; None on a CPU."""
        if weight.device.type != "cuda" or not self.supports(weight):
            return None
        compute = cuda.compute_name(weight.dtype)
        return cuda.FusedNetwork(self.shape, compute, partial(self.packed_for_cuda, compute))

    def working_bytes(self, weight: Tensor, height: int, width: int) -> int:
        """Bytes that an image takes beside the packed weights, where `weight` is."""
        if weight.device.type == "cuda":
            return cuda.working_bytes(self.shape, weight.device, weight.dtype, height, width)
        return cpu.working_bytes(self.shape, height, width)
